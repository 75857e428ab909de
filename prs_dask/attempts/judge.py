"""The only judge of mini-batches: what runs next, which attempt counts, when it all ends.

Events go in as method calls with the time as an argument; what comes out is values. The
scheduler plugin translates Dask's events and RPCs into these calls and never decides itself.

The judge remembers only what is under way: a mini-batch it has handed to the driver as
succeeded or failed is forgotten, so memory does not grow with their number.

Exactly once: a mini-batch is open in at most one *grant* (token) at a time, or in two where they race for it
(`prs_dask.attempts.speculation`). A report is accepted for what is open in its grant; whatever else it holds was
given to somebody else meanwhile and is dropped. So of any number of attempts that return, one counts: a success takes
the mini-batch out of the other grant, too.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from prs_dask.attempts.adaptation import workers_wanted
from prs_dask.attempts.bisecting import FIRST_PART, Bisected, PartlyDone, halves_of
from prs_dask.attempts.chunks import MeanCost, box_seconds, chunk_size, queue_target, report_seconds
from prs_dask.attempts.grants import Accepted, Answer, Grant, LaneKey, OpenMiniBatch, Overtaken
from prs_dask.attempts.init_rules import InitRules, StartPermission
from prs_dask.attempts.lifecycle import Event, after
from prs_dask.attempts.limits import RunLimits, broken_threshold, retry_delay, worth_another_try
from prs_dask.attempts.losses import Blame, Loss, blame
from prs_dask.attempts.places import Permit, Places, Worker
from prs_dask.attempts.records import RECORD_SIZE, AttemptError, AttemptRecord, Category, pack, unpack
from prs_dask.attempts.speculation import Speculation
from prs_dask.attempts.waiting import WaitingLine
from prs_dask.mini_batches import BisectedMiniBatch, Part, decode, encode

__all__ = ["Counts", "Judge", "Verdict"]

OTHER_PROCESS_SECONDS = 1.0
"""So long a retry waits for another process than the one it failed in; longer while there is other work for that."""

WITH_OTHERS = frozenset({Category.EXCEPTION, Category.BAD_RETURN})
"""What failed so is tried again in chunks: its process goes on, and the next mini-batch begins at once."""

ASK_BACK_AGAIN_SECONDS = 1.0
"""A lane that was asked to give back is asked again after this: more may have been on its way to it."""

SILENT_SECONDS = 15.0
"""A worker that has said nothing for so long has its work handed out again."""


_WAITS_FOR_GPUS = "waiting for GPUs that processes which were killed still hold"


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the step run is. Items count once, whatever the attempts.

    Parts of a bisected mini-batch are ``queued`` and ``running`` one by one; it has ``succeeded`` or ``failed`` as
    `prs_dask.attempts.bisecting` says.
    """

    supplied: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    items: int = 0
    succeeded_items: int = 0
    failed_items: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the step run ends: ``"Completed"``, ``"Failed"`` or ``"Canceled"``, and why."""

    state: str
    cause: str = ""


class Judge:
    """Decides over the mini-batches of one step run.

    Parameters
    ----------
    limits
        Tries, thresholds and time limits.
    places
        Nodes, workers, lanes and permits.
    init_rules
        Counts failing imports and init() calls.
    now
        Seconds of a clock that never goes back; every ``now`` below is of the same clock.
    wall_offset
        What to add to ``now`` for seconds since the epoch.
    already
        Counts that an earlier part of the same step run has reached (resume).
    partly_done
        By id: mini-batches that it had begun to bisect and that are supplied again.
    """

    def __init__(
        self,
        limits: RunLimits,
        places: Places,
        init_rules: InitRules,
        now: float,
        wall_offset: float = 0.0,
        already: Counts = Counts(),
        partly_done: Mapping[int, PartlyDone] = {},
    ) -> None:
        self.limits = limits
        self.places = places
        self.init_rules = init_rules
        self.verdict: Verdict | None = None
        self.mean = MeanCost()
        self.first_run: float | None = None
        self.dropped = 0
        self.header: bytes | None = None
        self._queue: WaitingLine[OpenMiniBatch] = WaitingLine()
        self._retries: WaitingLine[OpenMiniBatch] = WaitingLine()
        self._delayed: list[tuple[float, int, OpenMiniBatch]] = []
        self._careful: deque[OpenMiniBatch] = deque()
        self._bisected = Bisected()
        self._speculation = Speculation(enabled=limits.speculate)
        self._partly_done = dict(partly_done)
        self._grants: dict[int, Grant] = {}
        self._by_lane: dict[LaneKey, Grant] = {}
        self._processes: dict[LaneKey, str] = {}
        self._starting: dict[LaneKey, float] = {}
        self._stuck: set[LaneKey] = set()
        self._unproven: set[LaneKey] = set()
        self._proven: set[LaneKey] = set()
        self._last_token = 0
        self._last_supplied = -1
        self._total: int | None = None
        self._wall_offset = wall_offset
        self._last_progress = now
        self._careful_grants = 0
        self._draining: str = ""
        self._unsafe_cut: str | None = None
        self._supplied = already.succeeded + already.failed
        self._succeeded = already.succeeded
        self._failed = already.failed
        self._items = already.items
        self._succeeded_items = already.succeeded_items
        self._failed_items = already.failed_items
        self._attempts = already.attempts
        self._judge_thresholds()

    # ---------------------------------------------------------------- supply

    def supply(self, mini_batches: Iterable[tuple[int, int | None, bytes]]) -> None:
        """More mini-batches: (id, items where known, descriptor), ids rising.

        What was supplied before is passed over, so that a call may be repeated.
        """
        if self.verdict is not None:
            return
        for number, items, descriptor in mini_batches:
            if number > self._last_supplied:
                self._last_supplied = number
                if number in self._partly_done:
                    self._supply_rest(number, descriptor)
                else:
                    self._supplied += 1
                    self._queue.append(OpenMiniBatch(number, items, descriptor))

    def _supply_rest(self, number: int, descriptor: bytes) -> None:
        """What is left of a mini-batch that was being bisected when the step run was broken off."""
        done = self._partly_done.pop(number)
        self._supplied += not done.failed
        whole = decode(descriptor)
        for part in self._bisected.parts_left(number, done):
            self._retries.append(self._part(part, encode(BisectedMiniBatch.of(whole, part))))

    def _part(self, part: Part, descriptor: bytes, losses: int = 0, nodes_lost: int = 0) -> OpenMiniBatch:
        number = self._bisected.next_number()
        return OpenMiniBatch(number, part.items, descriptor, losses=losses, nodes_lost=nodes_lost, part=part)

    def supply_ended(self, total: int) -> None:
        """No more are listed; ``total`` counts those of earlier parts too.

        The step run is Completed only when so many have ended, so the last of them may
        still be on their way.
        """
        self._total = total
        self._judge_thresholds()
        self._judge_end()

    @property
    def room(self) -> int:
        """How many more mini-batches are wanted in the queue now."""
        lanes = max(1, self.places.lanes)
        return self._queue.room(queue_target(self.mean, lanes), lanes)

    @property
    def runs_short(self) -> bool:
        """Does less wait than half of what should, while more is listed?"""
        lanes = max(1, self.places.lanes)
        return self._total is None and 2 * self.room > queue_target(self.mean, lanes)

    @property
    def claimable(self) -> int:
        """Mini-batches that a lane could be given at once."""
        return len(self._queue) + len(self._retries) + len(self._careful)

    @property
    def waits_for(self) -> str:
        """What has to happen before anything can run; empty where something runs, or there is nothing to run."""
        if self._processes or self._grants or self.verdict is not None:
            return ""
        if not self.places.workers:
            return "waiting for workers"
        if self._only_waits_for_gpus:
            return _WAITS_FOR_GPUS
        if not any(worker.prepared for worker in self.places.workers.values()):
            return "waiting for workers to get the source and side inputs"
        if self._starting or self.init_rules.failures_since_success or self.init_rules.kills_since_success:
            return "starting processes"
        return "waiting for free threads of the workers" if self.claimable else ""

    @property
    def _only_waits_for_gpus(self) -> bool:
        return bool(self._starting) and self._starting.keys() <= self.places.gpus.waiting

    def counts(self) -> Counts:
        """How far the step run is."""
        running = sum(len(grant.open) for grant in self._grants.values()) - len(self._speculation.races)
        return Counts(
            supplied=self._supplied,
            queued=self.claimable + len(self._delayed),
            running=running,
            succeeded=self._succeeded,
            failed=self._failed,
            items=self._items,
            succeeded_items=self._succeeded_items,
            failed_items=self._failed_items,
            attempts=self._attempts,
        )

    # ---------------------------------------------------------------- clusters that adapt

    def workers_wanted(self, ahead: int, horizon: float) -> int:
        """How many workers would end in ``horizon`` seconds what there is, ``ahead`` being listed but not supplied."""
        if self.verdict is not None:
            return 0
        counts = self.counts()
        left = counts.queued + counts.running + ahead
        return workers_wanted(left, self.mean.seconds, horizon, self.places.workers.values(), self.places.enough)

    @property
    def busy_workers(self) -> set[str]:
        """Those that run something, or start a process for what waits."""
        starting = {address for address, _ in self._starting} if self.claimable else set()
        return starting | {grant.lane[0] for grant in self._grants.values() if grant.open}

    # ---------------------------------------------------------------- processes

    def may_start_process(self, lane: LaneKey, now: float) -> StartPermission:
        """May this lane start a process? Where it may, it counts as starting from now on."""
        worker = self.places.workers.get(lane[0])
        if self.verdict is not None or worker is None:
            return StartPermission(allowed=False, refused=True)
        if self._has_lost_its_place(lane, worker):
            self._starting.pop(lane, None)
            return StartPermission(allowed=False, refused=True)
        permission = self.init_rules.may_start(worker.node, now)
        if permission.allowed:
            self._starting[lane] = now
        return permission

    def _has_lost_its_place(self, lane: LaneKey, worker: Worker) -> bool:
        """Have workers come that get lanes of this one since the permit was issued? On a node with GPUs one process too
        many would take what is another's."""
        if not self.places.gpus.count(worker.node):
            return False
        others = {key for key in (*self._processes, *self._starting) if key[0] == worker.address} - {lane}
        return len(others) >= worker.lanes

    def process_ready(self, lane: LaneKey, process: str, now: float) -> None:
        """The lane's process has finished init()."""
        worker = self.places.workers.get(lane[0])
        if worker is not None:
            self._starting.pop(lane, None)
            self._stuck.discard(lane)
            self._processes[lane] = process
            if lane not in self._unproven:
                self.init_rules.succeeded(worker.node)
            self._last_progress = now

    def process_failed(
        self,
        lane: LaneKey,
        error: str,
        now: float,
        *,
        too_long: bool = False,
        from_outside: bool = False,
        was_ready: bool = False,
    ) -> None:
        """The lane's process could not be started, or failed, hung or was killed on its way to its first mini-batch.

        Parameters
        ----------
        too_long
            It was killed because import and init() took too long.
        from_outside
            It was ended by something that is not the script's doing.
        was_ready
            init() was done: that the next one is ready says nothing until it has ended a mini-batch.
        """
        worker = self.places.workers.get(lane[0])
        if worker is None:
            return
        self._starting.pop(lane, None)
        self._processes.pop(lane, None)
        if too_long:
            self._stuck.add(lane)
        if was_ready:
            self._unproven.add(lane)
        self.init_rules.failed(worker.node, error, now, from_outside=from_outside)
        if self._processes or self.verdict is not None:
            return
        cause = self.init_rules.verdict(self.places.nodes_in_use, now)
        if cause is None and too_long and self._starting.keys() <= self._stuck:
            cause = f"init() of every process took longer than {self.limits.init_seconds:g} s (--init_timeout)"
        if cause is not None:
            self._end_for_init(cause)

    def _prove(self, lane: LaneKey) -> None:
        """A process that was ready has ended a mini-batch, however: it did not only seem to be."""
        worker = self.places.workers.get(lane[0])
        if lane in self._unproven and worker is not None:
            self._unproven.discard(lane)
            self.init_rules.succeeded(worker.node)

    def process_ended(self, lane: LaneKey) -> None:
        """The lane's process is gone, for whatever reason after it was ready.

        If it had ended a mini-batch, the script works on its node, whatever other lanes have failed at since.
        """
        self._processes.pop(lane, None)
        worker = self.places.workers.get(lane[0])
        if lane in self._proven and worker is not None:
            self.init_rules.succeeded(worker.node)
        self._proven.discard(lane)

    # ---------------------------------------------------------------- claims

    def permits(self, now: float) -> list[Permit]:
        """Permits to submit to Dask now."""
        self._wake_delayed(now)
        if self.verdict is not None or self.places.is_full:
            return []  # the usual case: it costs nothing, however many workers there are
        if self.claimable:
            singles = len(self._retries) + len(self._careful)
            size = chunk_size(self.mean, max(1, self.places.lanes), self._remaining())
            chunks = singles + self._queue.chunks(size)
        else:  # what was claimed ahead is there for a lane that has nothing
            chunks = min(self.places.lanes, sum(len(grant.open) - 1 for grant in self._hoards()))
        slow = self._slow(now)
        chunks += len(slow)
        if not chunks:
            return []
        avoided = {mini_batch.avoid for mini_batch in self._retries} if not self._queue else set()
        last = {lane[0] for lane, process in self._processes.items() if process in avoided} if avoided else set()
        if slow:
            nodes = {self._node_of(grant.lane) for grant in slow}
            last |= {worker.address for worker in self.places.workers.values() if worker.node in nodes}
        return self.places.issue(
            chunks,
            last,
            ready=Counter(address for address, _ in self._processes),
            starting=Counter(address for address, _ in self._starting),
            closed={node for node in self.places.nodes_in_use if self.init_rules.may_start(node, now).refused},
            barred=self._cannot_take(slow, now),
        )

    def _remaining(self) -> int | None:
        return None if self._total is None else len(self._queue)

    def _wake_delayed(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            mini_batch = heapq.heappop(self._delayed)[2]
            mini_batch.waiting_since = now
            self._retries.append(mini_batch)

    def claim(
        self,
        number: int,
        lane: LaneKey,
        process: str,
        now: float,
        *,
        others_wait: bool = False,
        keep: Container[int] = (),
        hoards: bool = False,
    ) -> Answer:
        """A lane with a permit and a ready process asks for its next chunk.

        Whatever is still open in the lane's last grant was never begun, and goes back; but for
        ``keep``, which the process has been given already: a lane may ask while it runs the
        last ones. Those go on under the new grant, or under the old one where there is none.

        A lane that ``hoards`` asks as soon as it has begun the last of a chunk, because the files of the next
        have to be fetched. It gets that as long as every other lane would find something too; and when one finds
        nothing, a hoarding lane is asked to give back (``Answer.ask``). A lane that comes late gets a permit for that.
        """
        permit = self.places.permits.get(number)
        last = self._by_lane.get(lane)
        self._take_back(last, keep)
        if permit is None or self.verdict is not None:
            return Answer()
        permit.working = last is not None and bool(last.open)
        if permit.working and (self._careful or (last is not None and last.careful)):
            return Answer()  # one that has to run alone, now or next
        if permit.began is None:
            permit.began = now
        elif self.places.slice_is_over(permit, now, others_wait=others_wait, long=hoards and permit.working):
            return Answer()
        self._wake_delayed(now)
        if hoards and permit.working:
            chosen, careful = self._choose_ahead(), False
        else:
            chosen, careful = self._choose(lane, process, now)
        if hoards and permit.working and not chosen:
            return Answer(soon=self._soon())
        if not chosen and permit.working:
            return Answer(pause=self._total is None or bool(self._careful or self._retries))
        slow = [] if chosen else self._slow(now)
        twice = self._choose_second(slow, lane, process, now)
        if not chosen and twice is None:
            ask = self._who_gives_back(lane, now)
            more = self._total is None or bool(self._careful or self._retries or self._hoards() or slow)
            return Answer(pause=more, ask=ask)
        permit.working = True
        if self.first_run is None:
            self.first_run = now
        self._last_token += 1
        box, report = box_seconds(self.places.lanes), report_seconds(self.places.lanes)
        grant = Grant(
            self._last_token, lane, process, [], box, report,
            careful=careful, gives_back=hoards, permit=number, since=now,
        )  # fmt: skip
        second = ""
        if twice is not None:
            chosen, second = list(twice.open.values()), self._speculation.why(twice, now)
        for mini_batch in chosen:
            mini_batch.state = after(mini_batch.state, Event.JOIN if second else Event.CLAIM)
            grant.open[mini_batch.number] = mini_batch
            grant.work.append((mini_batch.number, mini_batch.attempts + 1, mini_batch.descriptor))
        if last is not None and last.open:
            grant.begun, grant.headers = last.begun & last.open.keys(), last.headers
            grant.open = last.open | grant.open
            self._close(last)
        if twice is not None:
            self._race(twice, lane)
        self._grants[grant.token] = self._by_lane[lane] = grant
        self._careful_grants += careful
        return Answer(grant, second=second)

    def _choose(self, lane: LaneKey, process: str, now: float) -> tuple[list[OpenMiniBatch], bool]:
        """The mini-batches for this lane, and whether it must be alone on its worker."""
        neighbours: list[Grant] = []
        if self._careful or self._careful_grants:  # rare: only then all lanes are looked at
            neighbours = [grant for key, grant in self._by_lane.items() if key[0] == lane[0] and key != lane]
        if any(grant.careful for grant in neighbours):
            return [], False
        if self._careful:
            if not neighbours:
                self._draining = ""
                return [self._careful.popleft()], True
            self._draining = self._draining or lane[0]
            if self._draining not in self.places.workers:
                self._draining = lane[0]
            if self._draining == lane[0]:
                return [], False
        if self._retries and (chosen := self._choose_retries(process, now)):
            return chosen, False
        return self._queue.chunk(chunk_size(self.mean, max(1, self.places.lanes), self._remaining())), False

    def _choose_retries(self, process: str, now: float) -> list[OpenMiniBatch]:
        """One that may be tried in this process, or several if they may be tried together: this lane's share."""
        alone = len(self._processes) < 2

        def suits(mini_batch: OpenMiniBatch) -> bool:
            if alone or mini_batch.avoid != process:
                return True
            return not self._queue and now - mini_batch.waiting_since > OTHER_PROCESS_SECONDS

        share = chunk_size(self.mean, max(1, self.places.lanes), len(self._retries))
        chosen = self._retries.chunk(1, suits)
        if chosen and chosen[0].with_others:
            chosen += self._retries.chunk(share - 1, lambda one: one.with_others and suits(one))
        return chosen

    def _choose_ahead(self) -> list[OpenMiniBatch]:
        """For a lane that has work: only what leaves something for every lane."""
        size = chunk_size(self.mean, max(1, self.places.lanes), self._remaining())
        return self._queue.chunk(min(size, self.claimable - self.places.lanes))

    def _soon(self) -> tuple[bytes, ...]:
        """What will be claimed next, and surely on this node where there is no other."""
        if len(self.places.nodes_in_use) > 1:
            return ()
        return tuple(mini_batch.descriptor for mini_batch in islice(self._queue, self.places.lanes))

    # ---------------------------------------------------------------- second attempts

    def _slow(self, now: float) -> list[Grant]:
        """What may be started a second time now: near the end only, when nothing waits for an idle lane."""
        if not self._speculation.enabled or self._total is None or self._supplied < self._total:
            return []
        if self.claimable or self._delayed or self._hoards():
            return []
        return self._speculation.slow(self._grants.values(), now)

    def _choose_second(self, slow: list[Grant], lane: LaneKey, process: str, now: float) -> Grant | None:
        """The grant whose mini-batch this idle lane runs, too."""
        if not slow:
            return None
        if self._careful_grants and any(one.careful and one.lane[0] == lane[0] for one in self._grants.values()):
            return None
        return self._speculation.choose(slow, lane, process, now, self._node_of, self._idle_beyond)

    def _cannot_take(self, slow: list[Grant], now: float) -> set[str]:
        """Workers whose idle processes would be given none of these now: a permit there would only come and go."""
        gives: dict[str, bool] = {}
        for lane, process in self._processes.items() if slow else ():
            if lane not in self._by_lane and not gives.get(lane[0]):
                gives[lane[0]] = self._choose_second(slow, lane, process, now) is not None
        return {address for address, given in gives.items() if not given}

    def _idle_beyond(self, node: int | None) -> bool:
        """Is a lane of another node idle?"""
        others = [worker for worker in self.places.workers.values() if worker.node != node]
        return any(sum(one.working for one in other.permits.values()) < other.lanes for other in others)

    def _race(self, first: Grant, lane: LaneKey) -> None:
        [mini_batch] = first.open.values()
        mini_batch.doubled = True
        self._speculation.races[mini_batch.number] = (first.lane, lane)

    def _leaves_race(self, mini_batch: OpenMiniBatch) -> bool:
        """One of its two attempts is out of it, and nothing is decided: the other goes on."""
        if self._speculation.races.pop(mini_batch.number, None) is None:
            return False
        mini_batch.state = after(mini_batch.state, Event.LEAVE)
        return True

    def _overtake(self, mini_batch: OpenMiniBatch, winner: Grant, now: float) -> tuple[Overtaken, ...]:
        """It has succeeded: where another lane runs it too, that attempt counts for nothing, and is to be ended."""
        race = self._speculation.races.pop(mini_batch.number, None)
        if race is None:
            return ()
        loser = self._by_lane[race[0] if winner.lane == race[1] else race[1]]
        del loser.open[mini_batch.number]
        message = f"another attempt of it, in {winner.process}, was faster; this one was ended and is not charged"
        record = AttemptRecord(
            mini_batch.number, mini_batch.attempts + 1, Category.OVERTAKEN, 0, 0, 0, 0,
            loser.since + self._wall_offset, now - loser.since, 0.0, 0.0, 0.0,
        )  # fmt: skip
        self._attempts += 1
        return (Overtaken(loser.lane, loser.token, record, AttemptError(Category.OVERTAKEN.label, message)),)

    # ---------------------------------------------------------------- what goes back

    def _hoards(self) -> list[Grant]:
        """Grants with mini-batches that were claimed ahead."""
        return [grant for grant in self._grants.values() if grant.gives_back and len(grant.open) > 1]

    def _who_gives_back(self, idle: LaneKey, now: float) -> LaneKey | None:
        """The lane that has most it has not begun, one of the idle lane's node before others."""
        hoards = [grant for grant in self._hoards() if now - grant.asked >= ASK_BACK_AGAIN_SECONDS]
        if not hoards:
            return None
        node = self._node_of(idle)
        most = max(hoards, key=lambda grant: (self._node_of(grant.lane) == node, len(grant.open), grant.since))
        most.asked = now
        return most.lane

    def _node_of(self, lane: LaneKey) -> int | None:
        worker = self.places.workers.get(lane[0])
        return worker.node if worker is not None else None

    def _close(self, grant: Grant) -> None:
        del self._grants[grant.token], self._by_lane[grant.lane]
        self._careful_grants -= grant.careful

    def _take_back(self, grant: Grant | None, keep: Container[int] = ()) -> None:
        """The rest of a grant was never begun: back to the head of the queue, not charged."""
        if grant is None:
            return
        back = [mini_batch for number, mini_batch in grant.open.items() if number not in keep]
        for mini_batch in reversed(back):
            del grant.open[mini_batch.number]
            self._requeue(mini_batch, Event.GIVE_BACK, careful=grant.careful)
        if not grant.open:
            self._close(grant)

    def is_open(self, token: int, mini_batch: int | None = None) -> bool:
        """May a report of this grant still count, or what it tells of this mini-batch?"""
        grant = self._grants.get(token)
        return grant is not None and (mini_batch is None or mini_batch in grant.open)

    def _requeue(self, mini_batch: OpenMiniBatch, event: Event, *, careful: bool = False) -> None:
        if self._leaves_race(mini_batch):
            return
        mini_batch.state = after(mini_batch.state, event)
        if careful:
            self._careful.append(mini_batch)
        elif mini_batch.attempts or mini_batch.part:
            self._retries.appendleft(mini_batch)
        else:
            self._queue.appendleft(mini_batch)

    # ---------------------------------------------------------------- reports

    def report(
        self,
        token: int,
        records: bytes,
        rows: bytes,
        errors: Mapping[int, AttemptError],
        pieced: Mapping[int, int],
        headers: Mapping[int, bytes],
        back: Iterable[int],
        now: float,
        filed: Collection[int] = (),
    ) -> Accepted | None:
        """What happened in a grant since the last report.

        Parameters
        ----------
        token
            The grant's.
        records
            Packed `AttemptRecord`; a success has ``final`` 1.
        rows
            The rows of the successes in ``records``, back to back, less what went in pieces.
        errors
            By mini-batch id, for the failures in ``records``.
        pieced
            By mini-batch id: bytes of rows that were sent in pieces before.
        headers
            By mini-batch id: the header line of its table, where the lane has not seen it accepted yet.
        back
            Ids that were not begun and go back into the queue.
        filed
            Ids of successes that came with files. Each builds on the files of those before it: behind one that does
            not count none does, and they go back too.

        Returns
        -------
        Accepted or None
            What counts; None where the grant is void and nothing does.
        """
        grant = self._grants.get(token)
        if grant is None or self.verdict is not None:
            self.dropped += len(records) // RECORD_SIZE
            return None
        running = grant.open
        unpacked = list(unpack(records))
        grant.headers.update(headers)
        if unpacked:
            self._proven.add(grant.lane)
            if self._unproven:
                self._prove(grant.lane)
            grant.since = self._last_progress = now
            size = sum([record.length for record in unpacked])
            self.mean.add(len(unpacked), sum([record.elapsed for record in unpacked]), size)
        ids = {record.mini_batch for record in unpacked}
        clean = not (errors or grant.headers or pieced) and len(ids) == len(unpacked) and ids <= running.keys()
        if self._bisected and clean:
            clean = not ids or max(ids) < FIRST_PART
        if self._speculation.races and clean:
            clean = self._speculation.races.keys().isdisjoint(ids)
        if filed:
            self._speculation.files_came()
        if clean and not any([record.category for record in unpacked]):
            if self.header is None and any([record.length for record in unpacked]):
                self.header = b""
            for record in unpacked:
                mini_batch = running.pop(record.mini_batch)
                mini_batch.state = after(mini_batch.state, Event.SUCCEED)
            if self._speculation.enabled:
                self._speculation.times.add([record.elapsed for record in unpacked])
            items = sum([record.items for record in unpacked])
            good = sum([min(record.items, record.results) for record in unpacked])
            self._succeeded += len(unpacked)
            self._items += items
            self._succeeded_items += good
            self._failed_items += items - good
            accepted = Accepted(records, rows, {}, {})
        else:
            accepted = self._sift(grant, unpacked, rows, errors, pieced, now, filed)
        self._attempts += len(accepted.records) // RECORD_SIZE
        for number in reversed(list(back)):
            given_back = running.pop(number, None)
            grant.headers.pop(number, None)
            if given_back is not None:
                self._requeue(given_back, Event.GIVE_BACK, careful=grant.careful)
        if not running:
            self._close(grant)
        self._judge_thresholds()
        self._judge_end()
        return accepted

    def _sift(
        self,
        grant: Grant,
        records: list[AttemptRecord],
        rows: bytes,
        errors: Mapping[int, AttemptError],
        pieced: Mapping[int, int],
        now: float,
        filed: Collection[int],
    ) -> Accepted:
        """Take out what is not wanted any more, and decide over what failed."""
        kept: list[AttemptRecord] = []
        kept_rows: list[bytes] = []
        kept_errors: dict[int, AttemptError] = {}
        parts: dict[int, Part] = {}
        overtaken: tuple[Overtaken, ...] = ()
        offset, files_refused = 0, False
        for record in records:
            length = 0 if record.category else record.length - pieced.get(record.mini_batch, 0)
            mini_batch = grant.open.pop(record.mini_batch, None)
            error = errors.get(record.mini_batch)
            stored = not record.category and record.mini_batch in filed
            if mini_batch is not None and stored and files_refused:
                grant.headers.pop(record.mini_batch, None)
                self._requeue(mini_batch, Event.GIVE_BACK, careful=grant.careful)
                offset += length
                continue
            if mini_batch is not None and mini_batch.part is not None:
                parts[record.mini_batch] = mini_batch.part
            if mini_batch is not None and not record.category:
                other = self._check_header(record, grant.headers.pop(record.mini_batch, None))
                if other is not None:
                    record, error = record._replace(category=Category.BAD_RETURN, length=0), other
            if mini_batch is None:
                self.dropped += 1
            elif record.category:
                grant.headers.pop(record.mini_batch, None)
                error = error or AttemptError(Category(record.category).label, "")
                kept.append(self._fail(mini_batch, record, error, grant.process, now))
                kept_errors[record.mini_batch] = error
            else:
                overtaken += self._overtake(mini_batch, grant, now)
                self._speculation.times.add([record.elapsed])
                mini_batch.state = after(mini_batch.state, Event.SUCCEED)
                good = record.succeeded_items
                self._ended(mini_batch, failed=False)
                self._items += record.items
                self._succeeded_items += good
                self._failed_items += record.items - good
                kept.append(record)
                kept_rows.append(rows[offset : offset + length])
            files_refused = files_refused or (stored and (mini_batch is None or bool(record.category)))
            offset += length
        wanted = {record.mini_batch for record in kept if not record.category}
        return Accepted(
            pack(kept),
            b"".join(kept_rows),
            kept_errors,
            {number: size for number, size in pieced.items() if number in wanted},
            parts,
            files_refused,
            overtaken,
        )

    def _ended(self, mini_batch: OpenMiniBatch, *, failed: bool) -> None:
        """It has succeeded or failed for good, or a part of one has."""
        counts = (int(not failed), int(failed))
        if mini_batch.part is not None:
            counts = self._bisected.ended(mini_batch.part, failed=failed)
        self._succeeded += counts[0]
        self._failed += counts[1]

    def _check_header(self, record: AttemptRecord, header: bytes | None) -> AttemptError | None:
        """The first rows decide over the output's header: theirs, or that there is none."""
        if header is None:
            if self.header is None and record.length:
                self.header = b""
        elif self.header is None:
            self.header = header
        elif header != self.header:
            return _other_columns(self.header, header)
        return None

    def _fail(
        self, mini_batch: OpenMiniBatch, record: AttemptRecord, error: AttemptError, process: str, now: float
    ) -> AttemptRecord:
        """A failed attempt: one more, or the end of the mini-batch; nothing of both while another attempt runs it."""
        if mini_batch.part is None:
            mini_batch.items = record.items or mini_batch.items
        if record.category != Category.UNSAFE_CUT and self._leaves_race(mini_batch):
            mini_batch.avoid = process
            return record._replace(final=0)
        if record.category == Category.WORKER_LOST:
            mini_batch.losses += 1
            again = mini_batch.losses < self.limits.run_max_try
        else:
            mini_batch.attempts += 1
            again = worth_another_try(self.limits, mini_batch.attempts, Category(record.category), error)
        if record.category == Category.UNSAFE_CUT:
            again, self._unsafe_cut = False, error.message
        if self.limits.bisect and (not again or mini_batch.part is not None) and self._halve(mini_batch, record):
            return record._replace(final=0)
        if again:
            mini_batch.state = after(mini_batch.state, Event.FAIL)
            mini_batch.avoid = process
            mini_batch.with_others = record.category in WITH_OTHERS and mini_batch.part is None
            mini_batch.ready_at = now + retry_delay(self.limits, max(1, mini_batch.attempts))
            mini_batch.waiting_since = now
            if record.category == Category.WORKER_LOST:
                self._careful.append(mini_batch)
            elif mini_batch.ready_at > now:
                heapq.heappush(self._delayed, (mini_batch.ready_at, mini_batch.number, mini_batch))
            elif mini_batch.part is not None:
                self._retries.appendleft(mini_batch)
            else:
                self._retries.append(mini_batch)
            return record._replace(final=0)
        mini_batch.state = after(mini_batch.state, Event.FAIL_FOR_GOOD)
        items = mini_batch.items if mini_batch.items is not None else 1
        self._ended(mini_batch, failed=True)
        self._items += items
        self._failed_items += items
        return record._replace(final=1, items=items)

    def _halve(self, mini_batch: OpenMiniBatch, record: AttemptRecord) -> bool:
        """Its halves are tried next, where that can help."""
        halves = halves_of(mini_batch.number, mini_batch.part, mini_batch.items, mini_batch.descriptor, record)
        if not halves:
            return False
        mini_batch.state = after(mini_batch.state, Event.FAIL)
        if mini_batch.part is None:
            self._bisected.begin(mini_batch.number, halves[0][0].of)
        for part, descriptor in reversed(halves):
            self._retries.appendleft(self._part(part, descriptor, mini_batch.losses, mini_batch.nodes_lost))
        return True

    # ---------------------------------------------------------------- losses

    def worker_lost(self, address: str, now: float, loss: Loss) -> tuple[Accepted | None, list[int]]:
        """A worker is gone, or has been silent for too long.

        What was open on it runs again; see `blame` for who is charged, on a budget of its own, and who runs alone
        on a worker next, so that a further loss is certain (behaviour, section 5.1).

        Returns
        -------
        accepted, permits
            The record of a charged loss, if there is one, and the permits that are void.
        """
        grants = [grant for lane, grant in self._by_lane.items() if lane[0] == address]
        lost = [(mini_batch, grant) for grant in grants for mini_batch in grant.open.values()]
        for grant in grants:
            self._close(grant)
        accepted = None
        if self.verdict is None:
            node_answers = self.places.node_answers(address, now)
            others = len({mini_batch.number for mini_batch, _ in lost}) - 1
            for mini_batch, grant in reversed(lost):
                if self._leaves_race(mini_batch):
                    continue
                begun = mini_batch.number in grant.begun
                mini_batch.nodes_lost += begun and loss is not Loss.TAKEN_AWAY and not node_answers
                sentence = blame(
                    loss,
                    node_answers=node_answers,
                    others=others,
                    begun=begun,
                    alone=grant.careful,
                    nodes_lost=mini_batch.nodes_lost,
                )
                if sentence is Blame.CHARGED:
                    accepted = self._charge_loss(mini_batch, address, now)
                else:
                    self._requeue(mini_batch, Event.LOSE, careful=sentence is Blame.SUSPECT)
        for lanes in (self._processes, self._starting):
            for lane in [lane for lane in lanes if lane[0] == address]:
                del lanes[lane]
        for marked in (self._stuck, self._unproven, self._proven):
            marked -= {lane for lane in marked if lane[0] == address}
        void = self.places.leave(address)
        self._last_progress = now
        self._judge_thresholds()
        self._judge_end()
        return accepted, void

    def _charge_loss(self, mini_batch: OpenMiniBatch, address: str, now: float) -> Accepted:
        message = f"the worker {address} was lost while it ran this mini-batch"
        error = AttemptError(Category.WORKER_LOST.label, message)
        record = AttemptRecord(
            mini_batch.number, mini_batch.attempts + 1, Category.WORKER_LOST, 0, mini_batch.items or 0, 0, 0,
            now + self._wall_offset, 0.0, 0.0, 0.0, 0.0,
        )  # fmt: skip
        decided = self._fail(mini_batch, record, error, "", now)
        self._attempts += 1
        parts = {} if mini_batch.part is None else {mini_batch.number: mini_batch.part}
        return Accepted(pack([decided]), b"", {mini_batch.number: error}, {}, parts)

    def heard(self, address: str, now: float, begun: Iterable[tuple[int, int]] = ()) -> bool:
        """A worker says that it lives; False where it is not known (any more).

        ``begun``: (lane, mini-batch id) of what its processes have under way.
        """
        worker = self.places.workers.get(address)
        if worker is None:
            return False
        worker.heard = now
        for lane, number in begun:
            grant = self._by_lane.get((address, lane))
            if grant is not None and number in grant.open:
                grant.begun.add(number)
        return True

    def silent_workers(self, now: float) -> list[str]:
        """Workers that have said nothing for `SILENT_SECONDS`."""
        return [w.address for w in self.places.workers.values() if now - w.heard > SILENT_SECONDS]

    # ---------------------------------------------------------------- end

    def end(self, state: str, cause: str) -> None:
        """End the step run now; what was not finished is dropped. The first verdict stands."""
        if self.verdict is not None:
            return
        self.verdict = Verdict(state, cause)
        self._queue.clear()
        self._retries.clear()
        self._careful.clear()
        self._delayed.clear()
        self._grants.clear()
        self._by_lane.clear()
        self._speculation.races.clear()

    def tick(self, now: float) -> None:
        """Time passes: take back what a lane that has stopped left open; has nothing moved for too long?

        The clock stands still while processes start or wait to start, and while retries back off, and
        it does not end anything while an attempt may be within its limits. Without any worker, and where
        all wait for GPUs, it runs too: they are waited for just as long.
        """
        if self.verdict is not None:
            return
        for grant in [grant for grant in self._grants.values() if grant.permit not in self.places.permits]:
            self._take_back(grant)
        if not self._processes and not self._starting:
            cause = self.init_rules.verdict(self.places.nodes_in_use, now)
            if cause is not None:
                self._end_for_init(cause)
                return
        nothing_to_do = self._total is None and not (self.claimable or self._grants)
        starts = self.places.workers and not self._processes and not self._only_waits_for_gpus
        if self._delayed or nothing_to_do or starts:
            self._last_progress = now
            return
        longest = self.limits.run_seconds + 2 * self.limits.overhead_seconds
        waited = now - self._last_progress
        if waited <= self.limits.progress_seconds or any(now - g.since <= longest for g in self._grants.values()):
            return
        what = "no mini-batch has ended" if self.places.workers else "there has been no worker"
        gpus = f": {_WAITS_FOR_GPUS}" if not self._processes and self._only_waits_for_gpus else ""
        self.end(
            "Failed",
            f"{what} for {waited:.0f} s (--progress_update_timeout {self.limits.progress_seconds:g}){gpus}",
        )

    def _end_for_init(self, cause: str) -> None:
        self.end("Failed", f"{cause}; the first error: {self.init_rules.first_error}")

    def _judge_thresholds(self) -> None:
        cause = self._unsafe_cut or broken_threshold(self.limits, self._failed_items, self._failed, self._total)
        if cause is not None:
            self.end("Failed", cause)

    def _judge_end(self) -> None:
        if self._total is None or self.verdict is not None:
            return
        left = self.claimable or self._delayed or any(grant.open for grant in self._grants.values())
        if not left and self._succeeded + self._failed >= self._total:
            self.end("Completed", "")


def _other_columns(first: bytes, other: bytes) -> AttemptError:
    """One output file has one header, or none: behaviour, section 4."""
    columns = f"run() returned a table with the columns {other.decode(errors='replace').strip()!r}, but the output's "
    if not first:
        return AttemptError("OtherColumns", columns + "first rows came from a result without columns")
    return AttemptError(
        "OtherColumns", columns + f"header, from the first mini-batch, is {first.decode(errors='replace').strip()!r}"
    )

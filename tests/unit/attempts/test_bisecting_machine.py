"""Bisecting under everything that can happen to a judge, against a model that knows every item.

The machine plays lanes, lost workers, drivers that crash and resume. The model knows which items are bad; the journal
(its state, without a file) is what a crash leaves. Whatever the history: every item ends once, in a good part or as
failed; no item fails but the bad ones and those that failures injected beside them have hurt; the counts of the judge
are those of the items and those of the journal.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prs_dask.attempts.bisecting import FIRST_PART
from prs_dask.attempts.grants import Accepted, Grant
from prs_dask.attempts.init_rules import InitRules
from prs_dask.attempts.judge import Counts, Judge
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.losses import Loss
from prs_dask.attempts.places import Places
from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack, unpack
from prs_dask.mini_batches import BisectedMiniBatch, FileMiniBatch, MiniBatch, Part, TextMiniBatch, decode, encode
from prs_dask.output.journal import JournalState

LANES = [("a", 0), ("a", 1), ("b", 0)]
INDEX = st.integers(0, 11)
WAYS = st.sampled_from([Category.EXCEPTION, Category.TIME_LIMIT, Category.PROCESS_DIED, Category.OUT_OF_MEMORY])


class BisectingMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    @initialize(
        tries=st.integers(1, 3),
        sizes=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5),
        data=st.data(),
        threshold=st.sampled_from([-1, -1, -1, 6]),
        backoff=st.sampled_from([(0.0, 1.0, 0.0), (0.5, 2.0, 1.0)]),
        fatal=st.booleans(),
    )
    def begin(self, tries, sizes, data, threshold, backoff, fatal):
        self.now = 50.0
        self.limits = RunLimits(
            run_max_try=tries,
            error_threshold=threshold,
            retry_backoff=backoff,
            no_retry_on=("Fatal",) if fatal else None,
            progress_seconds=1e9,
            bisect=True,
        )
        self.sizes = [size for size, _ in sizes]
        self.wholes: list[MiniBatch] = [
            TextMiniBatch(0, "t.csv", number, number + 1)
            if is_table
            else FileMiniBatch(0, tuple(f"{number}/{item}" for item in range(size)))
            for number, (size, is_table) in enumerate(sizes)
        ]
        self.bad = [data.draw(st.sets(st.integers(0, size - 1), max_size=size)) for size in self.sizes]
        self.hurt: set[tuple[int, int]] = set()
        self.good: set[tuple[int, int]] = set()
        self.failed: set[tuple[int, int]] = set()
        self.journal = JournalState()
        self.attempts = 0
        self.start()

    def start(self, already: Counts | None = None) -> None:
        self.places = Places(None, None)
        rules = InitRules(1, 1, self.now)
        self.judge = Judge(
            self.limits,
            self.places,
            rules,
            self.now,
            1e6,
            already or Counts(),
            partly_done=self.journal.partly_done,
        )
        self.grants: dict[int, Grant] = {}
        self.parts: dict[int, Part] = {}
        self.join("a", 2)
        self.join("b", 1)
        ended = {*self.journal.finished, *self.journal.failed}
        self.judge.supply(
            (number, whole.items, encode(whole)) for number, whole in enumerate(self.wholes) if number not in ended
        )
        self.judge.supply_ended(len(self.wholes))

    def join(self, address: str, threads: int) -> None:
        worker = self.places.join(address, "one node", threads, self.now)
        for lane in range(threads):
            number = self.places.next_process(worker.node)
            self.judge.process_ready((address, lane), f"{worker.node}/{number}", self.now)

    @property
    def running(self) -> bool:
        return self.judge.verdict is None

    def items_of(self, number: int) -> set[tuple[int, int]]:
        part = self.parts[number]
        return {(part.mini_batch, item) for item in range(part.start, part.stop)}

    # ---------------------------------------------------------------- what happens

    @rule(seconds=st.sampled_from([0.0, 0.6, 1.1]))
    def time_passes(self, seconds):
        self.now += seconds
        for address in list(self.places.workers):
            self.judge.heard(address, self.now)
        self.judge.tick(self.now)

    @precondition(lambda self: self.running)
    @rule(index=INDEX)
    def lane_claims(self, index):
        lane = LANES[index % len(LANES)]
        if lane[0] not in self.places.workers or any(grant.lane == lane for grant in self.grants.values()):
            return
        self.judge.permits(self.now)
        used = {grant.permit for grant in self.grants.values()}
        free = [number for number in self.places.workers[lane[0]].permits if number not in used]
        if not free:
            return
        process = self.judge._processes[lane]
        grant = self.judge.claim(free[0], lane, process, self.now).grant
        if grant is None:
            self.places.end(free[0])
            return
        self.grants[grant.token] = grant
        for number, _, descriptor in grant.work:
            self.parts[number] = self.part_of(number, decode(descriptor))
            assert not self.items_of(number) & (self.good | self.failed), "an item that has ended is tried again"
        open_items = [
            item for token in self.grants for number in self.grants[token].open for item in self.items_of(number)
        ]
        assert len(open_items) == len(set(open_items)), "an item is tried twice at a time"

    def part_of(self, number: int, mini_batch: MiniBatch) -> Part:
        if number < FIRST_PART:
            return Part(number, 0, self.sizes[number], self.sizes[number])
        assert isinstance(mini_batch, BisectedMiniBatch)
        part, whole = mini_batch.part, self.wholes[mini_batch.part.mini_batch]
        assert part.of == self.sizes[part.mini_batch]
        if isinstance(whole, FileMiniBatch):
            assert mini_batch.source == whole._replace(paths=whole.paths[part.start : part.stop])
        else:
            assert mini_batch.source == whole
        return part

    @precondition(lambda self: self.running and self.grants)
    @rule(
        index=INDEX,
        way=WAYS,
        trouble=st.sampled_from(["", "", "", "", "flaky", "unread", "fatal"]),
        back=st.booleans(),
    )
    def lane_reports(self, index, way, trouble, back=False):
        token = sorted(self.grants)[index % len(self.grants)]
        grant = self.grants[token]
        number = next(iter(grant.open))
        if back and not trouble:
            self.report(grant, [], {}, [number])
            return
        items = self.items_of(number)
        part = self.parts[number]
        poisoned = any((part.mini_batch, item) in items for item in self.bad[part.mini_batch])
        if trouble or poisoned:
            read = trouble != "unread"
            category = way if read or way != Category.EXCEPTION else Category.LOAD_ERROR
            record = self.record(number, category, part.items if read else 0, 0)
            error = AttemptError("Fatal" if trouble == "fatal" else "ValueError", trouble)
            if trouble:
                self.hurt |= items
            self.report(grant, [record], {number: error}, [])
        else:
            self.report(grant, [self.record(number, Category.SUCCEEDED, part.items, part.items)], {}, [])

    def record(self, number: int, category: Category, items: int, results: int) -> AttemptRecord:
        return AttemptRecord(number, 1, category, int(not category), items, results, 0, 0.0, 0.5, 0.0, 0.5, 0.0)

    def report(self, grant: Grant, records, errors, back) -> None:
        accepted = self.judge.report(grant.token, pack(records), b"", errors, {}, {}, back, self.now)
        assert accepted is not None
        if not grant.open:
            del self.grants[grant.token]
        self.commit(accepted)

    def commit(self, accepted: Accepted) -> None:
        """The driver: what has ended goes into the journal."""
        finished, parts, failures = [], [], []
        for record in unpack(accepted.records):
            self.attempts += 1
            number = record.mini_batch
            part, items = accepted.parts.get(number), self.items_of(number)
            assert (part is None) == (number < FIRST_PART)
            assert part in (None, self.parts[number])
            if record.category and not record.final:
                continue
            assert not items & (self.good | self.failed), "an item has ended twice"
            if not record.category:
                self.good |= items
                (finished if part is None else parts).append(number if part is None else list(part))
                continue
            self.failed |= items
            failure = {"id": self.parts[number].mini_batch, "items": record.items, "attempts": 1, "category": "x"}
            failures.append({**failure, "message": "", **({} if part is None else {"part": list(part[1:])})})
            assert record.items == len(items) or self.parts[number].of == len(items)
        entry = {"kind": "commit", "output": 0, "finished": ",".join(map(str, sorted(finished)))}
        self.journal.apply({**entry, "parts": parts, "failed": failures})
        self.check_counts()

    @precondition(lambda self: self.running and len(self.places.workers) > 1)
    @rule(index=INDEX, charge=st.booleans())
    def worker_is_lost(self, index, charge):
        address = sorted(self.places.workers)[index % len(self.places.workers)]
        lost = [number for grant in self.grants.values() if grant.lane[0] == address for number in grant.open]
        self.grants = {token: grant for token, grant in self.grants.items() if grant.lane[0] != address}
        if charge:
            for number in lost:
                self.hurt |= self.items_of(number)
            self.judge.heard(address, self.now, self.begun(address))
        accepted, _ = self.judge.worker_lost(address, self.now, Loss.GONE if charge else Loss.TAKEN_AWAY)
        if accepted is not None:
            self.commit(accepted)

    def begun(self, address: str) -> list[tuple[int, int]]:
        return [(g.lane[1], next(iter(g.open))) for g in self.grants.values() if g.lane[0] == address]

    @rule(address=st.sampled_from("ab"))
    def worker_joins(self, address):
        if address not in self.places.workers:
            self.join(address, 2 if address == "a" else 1)

    @rule(retry_failed=st.booleans(), index=INDEX)
    def driver_crashes_and_the_step_run_is_resumed(self, retry_failed, index):
        if index > 2:
            return
        self.journal.apply({"kind": "resumed", "retry_failed": retry_failed})
        if retry_failed:
            self.failed = set()
        counts = Counts(
            succeeded=len(self.journal.finished),
            failed=self.journal.failed_mini_batches,
            items=len(self.good) + len(self.failed),
            succeeded_items=len(self.good),
            failed_items=len(self.failed),
        )
        self.start(counts)

    # ---------------------------------------------------------------- what must be true

    def check_counts(self) -> None:
        counts = self.judge.counts()
        bad_ones = {number for number, _ in self.failed}
        done = {
            number
            for number, size in enumerate(self.sizes)
            if number not in bad_ones and all((number, item) in self.good for item in range(size))
        }
        assert counts.succeeded == len(done) == len(self.journal.finished)
        assert counts.failed == len(bad_ones) == self.journal.failed_mini_batches
        assert counts.supplied == len(self.wholes)
        assert counts.succeeded_items == len(self.good)
        failed = sum(1 for _ in self.failed)
        assert counts.failed_items <= failed or self.hurt
        left = {number: done.left for number, done in self.journal.partly_done.items()}
        for number, ranges in left.items():
            items = {(number, item) for start, stop in ranges for item in range(start, stop)}
            every = {(number, item) for item in range(self.sizes[number])}
            assert items == every - self.good - self.failed

    @invariant()
    def parts_are_few(self):
        """Depth first: only the siblings on the way down wait, for each lane that works on it."""
        waiting = len(self.judge._retries) + len(self.judge._delayed)
        assert waiting <= sum(size.bit_length() + 9 for size in self.sizes)

    def teardown(self):
        """However it came to this, the rest can be finished; then only what is bad or was hurt has failed."""
        if not hasattr(self, "judge"):
            return
        for _ in range(2000):
            if not self.running:
                break
            for address in "ab":
                self.worker_joins(address)
            self.time_passes(1.1)
            for index in range(len(LANES)):
                self.lane_claims(index)
            while self.grants and self.running:
                self.lane_reports(0, Category.EXCEPTION, "")
        assert not self.running, f"stuck with {self.judge.counts()}"
        if self.judge.verdict.state == "Completed":
            every = {(number, item) for number, size in enumerate(self.sizes) for item in range(size)}
            assert self.good | self.failed == every
            poisoned = {(number, item) for number, bad in enumerate(self.bad) for item in bad}
            assert not self.good & poisoned
            assert self.failed <= poisoned | self.hurt
            assert not self.journal.partly_done


TestBisectingMachine = BisectingMachine.TestCase
TestBisectingMachine.settings = settings(max_examples=150, stateful_step_count=40, derandomize=True)

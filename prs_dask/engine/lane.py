"""One lane of a worker: a worker process, what it is given, its limits, and what it reports.

A lane works in the thread of the Dask task that holds its permit, as one loop that waits for
three things at once: frames of the process, the end of its family, and the answer of the
scheduler. So limits hold also while an answer is awaited, and the process computes meanwhile.

The process is given about 50 ms of work ahead; the rest of a chunk stays here. All of it that has not
been begun goes back to the scheduler when the chunk's box of time is over, or when one mini-batch is
far slower than those before it, so nobody waits behind a slow one.
Where files of the input have to be fetched from a store, the lane asks for its next chunk as soon as it has handed
over the last of this one, and the node's fetcher is told of every chunk. The scheduler asks it to give
back what it has not begun when another lane is idle.

What the process is doing is read from the shared page, only when nothing has come for as
long as the shortest limit: quick mini-batches cost no look at a clock.
"""

from __future__ import annotations

import math
import pickle
import select
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from prs_dask.attempts.chunks import MAX_CHUNK
from prs_dask.attempts.gpus import GpuShare, Slot
from prs_dask.attempts.records import AttemptError, AttemptRecord, Category
from prs_dask.engine.bell import Bell
from prs_dask.engine.outbox import Outbox, sendable
from prs_dask.engine.process import LaneProcess
from prs_dask.logs.process_events import OVER
from prs_dask.worker_process.family import ProcessFamily
from prs_dask.worker_process.frames import (
    OUTCOME_SIZE,
    FrameKind,
    unpack_error,
    unpack_outcome,
)
from prs_dask.worker_process.phase import Phase, PhaseReading

if TYPE_CHECKING:
    from prs_dask.engine.supervisor import Supervisor

__all__ = ["Lane"]

AHEAD_SECONDS = 0.05
REPORT_BYTES = 1 << 20
"""What has ended is reported as soon as it is so much, however little time has passed."""

ASK_AHEAD_SECONDS = 0.02
"""With less work than this left a lane asks for its next chunk: several times what an answer takes."""

SLOW_FACTOR = 3.0
SLOW_SECONDS = 0.05
"""A mini-batch that takes so many times the mean, and so much longer, holds up its chunk."""

ASK_AGAIN_SECONDS = 0.05
"""Where there was none, it asks again after this, or when it has ended all."""

HOARD_AGAIN_SECONDS = 0.25
"""The same for a lane that asks ahead because of the fetching, also while one mini-batch takes long."""

PAUSE_BYTES = 8 << 20
"""Unreported rows above which the process is not read from until the scheduler has answered."""

FOREVER = 3600.0

MESSAGE_LETTERS = 5000
TRACE_LINES = 30
"""What the scheduler is told of an error; the logs get all of it."""

_DOING = {
    Phase.RUN: "run()",
    Phase.READ: "reading the mini-batch",
    Phase.ROWS: "turning the result into rows",
}
_AT_WORK = tuple(_DOING)

_KILLED_OVER = f"{OVER}; it was killed"
_VOID = "its worker had been given up meanwhile, and what it ran is run elsewhere; it was killed"
_FORGOTTEN = "its worker had been given up meanwhile, and its place may be another's"
_RETREAT = "its worker had not heard of the scheduler for too long; it was killed"
_FILES_LOST = "files that it had sent do not count, and it would go on adding to them; it was killed"
_UNATTENDED = "its worker had been stopped for too long; it was killed"
_OVERTAKEN = "another attempt of mini-batch {} was faster; it was killed"


class Lane:
    """See the module's docstring. Used by one thread at a time but for `under_way`, `limit_memory`, `retreat`,
    `drop`, `give_back` and `overtaken`."""

    def __init__(self, supervisor: Supervisor, index: int) -> None:
        self.index = index
        self._supervisor = supervisor
        self._limits = supervisor.settings.limits
        self._hoards = supervisor.fetch_ahead is not None
        self._wake = Bell()
        self._family: ProcessFamily | None = None
        self._process: LaneProcess | None = None
        self._call: Future[dict[str, Any]] | None = None
        self._told_of: LaneProcess | None = None
        self._calls = 0
        self._outbox = Outbox()
        self._pending: deque[tuple[int, int, bytes]] = deque()
        self._sent: dict[int, tuple[int, int]] = {}
        self._asking = False
        self._asked_back = False
        self._box_ends = 0.0
        self._flush_at = 0.0
        self._report_seconds = 0.0
        self._ask_at = 0.0
        self._piece_bytes = 0
        self._sends_files = False
        self._header: bytes | None = None
        self._mean: float | None = None
        self._look_at = 0.0
        self._heard_at = 0.0
        self._excused_until = 0.0
        self._retreating = ""
        self._given_up = 0
        self._overtaken: set[int] = set()
        self._lost_race = False

    @property
    def process(self) -> LaneProcess | None:
        """The worker process, once it has been started."""
        return self._process

    @property
    def under_way(self) -> int | None:
        """Id of the mini-batch that the process has begun and not ended; asked by another thread."""
        process = self._process
        try:
            reading = process.page.read() if process is not None else None
        except ValueError:  # the page has just been closed
            return None
        if reading is None or reading.phase not in _AT_WORK:
            return None
        mini_batch, _ = self._sent.get(reading.sequence, (None, 0))
        return mini_batch

    # ---------------------------------------------------------------- one permit

    def work(self, permit: int) -> None:
        """Claim and run chunks until there is nothing to do or the thread must be returned."""
        while not self._supervisor.stopping:
            if self._process is None:
                if self._outbox:  # what its last process left is told first: nobody waits for init()
                    self._exchange(permit, claim=False)
                if not self._start():
                    return
            reply = self._exchange(permit, claim=True)
            if "work" not in reply:
                return
            self._run(permit, reply)
            if self._process is None and self._lost_race:
                self._exchange(permit, claim=False)
                return  # another process is started when there is something to do for it

    def _exchange(self, permit: int, *, claim: bool) -> dict[str, Any]:
        """One call of this lane, while the process is looked after; returns the answer."""
        self._await_call(permit)  # one may be under way since the chunk's last flush
        self._begin_call(permit, claim=claim)
        return self._await_call(permit)

    def _await_call(self, permit: int) -> dict[str, Any]:
        while self._call is not None and not self._call.done():
            if self._supervisor.stopping == "kill":  # the answer may never come
                self._call.cancel()
                self._call = None
                self._abandon(_KILLED_OVER)
                return {}
            self._pump(permit)
        return self._finish_call()

    def _begin_call(self, permit: int, *, claim: bool, keep: tuple[int, ...] = ()) -> None:
        self._calls += 1
        self._asking = claim
        arguments = {
            "lane": self.index,
            "process": self._process.number if self._process else -1,
            "permit": permit,
            "number": self._calls,
            "token": self._outbox.token,
            "report": self._outbox.take() if self._outbox else None,
            "claim": claim,
            "keep": keep,
            "hoards": self._hoards,
        }
        self._told_of = self._process
        self._call = self._supervisor.begin_call("lane", **arguments)
        self._call.add_done_callback(lambda _: self._wake.ring())

    def _finish_call(self) -> dict[str, Any]:
        call, self._call, self._asking = self._call, None, False
        reply = call.result() if call is not None else {}
        self._header = reply.get("header", self._header)
        self._fetch_ahead(reply.get("soon", ()))
        if reply.get("void") or reply.get("closed"):
            self._abandon(_VOID if reply.get("void") == "given up" else _KILLED_OVER)
        elif reply.get("files_refused"):
            self._outbox.give_back_filed()
            if self._process is not None and self._process is self._told_of:
                self._process_over(self._process, _FILES_LOST)
        if "work" in reply:
            self._outbox.token = reply["token"]  # also for what the process had been given before
            if self._process is None:  # it died, or was abandoned, while the lane asked
                self._outbox.back.extend(work[0] for work in reply["work"])
        return reply

    # ---------------------------------------------------------------- the process

    def _start(self) -> bool:
        """Start a process and wait until init() is done; False where there will be none now."""
        while not self._supervisor.stopping:
            self._given_up = self._supervisor.given_up
            locks = self._supervisor.gpu_locks
            answer = self._supervisor.call("may_start", lane=self.index, busy=locks.busy())
            if "number" in answer:
                slot = answer["slot"] and Slot(*answer["slot"])
                lock = locks.take(slot) if slot else None
                if slot and lock is None:  # the scheduler will know of it now
                    continue
                self._supervisor.share_memory(answer["lanes"])
                gpus = GpuShare(answer["gpus"], slot, answer["visible"])
                process = LaneProcess(self._supervisor, self._usable_family(), answer["number"], gpus, lock)
                problem = process.start()
                self._process = process
                if problem is None:
                    self._mean = None
                    self._supervisor.tell_of_process(process.number, "ready", seconds=process.init_seconds)
                    self._tell("ready", process.number, pid=process.pid)
                    return True
                if self._supervisor.stopping:
                    break
                error = sendable(problem.error)
                self._supervisor.log_process_error(process.number, "loading the entry script", error)
                self._end_process(_told(error), event="failed")
                self._tell_failed(process, error, too_long=problem.too_long, from_outside=problem.from_outside)
            elif answer.get("wait"):
                self._supervisor.sleep(min(answer["wait"], 1.0))
            else:
                return False
        self._end_process(f"{OVER}; it was not ready yet")
        return False

    def _usable_family(self) -> ProcessFamily:
        """A reaper; another one where user code has killed it, or where it has children that do not die."""
        if self._family is not None and not self._family.is_usable:
            self._supervisor.abandon(self._family)
            self._family = None
        self._family = self._family or ProcessFamily()
        return self._family

    def _tell(self, event: str, process: int, **more: Any) -> None:
        self._supervisor.call("process", lane=self.index, event=event, process=process, **more)

    def _tell_failed(self, process: LaneProcess, error: AttemptError, **how: bool) -> None:
        self._tell("failed", process.number, error=_with_trace(error), **how)

    def _end_process(self, why: str, event: str = "ended") -> None:
        """End the process where there is one; ``why`` completes ``processNNN ended: ``."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
            self._supervisor.tell_of_process(process.number, event, pid=process.pid, why=why)
        self._retreating = ""
        self._piece_bytes, self._sends_files = 0, False

    def limit_memory(self, limit: int) -> None:
        """So many bytes may the process use from now on; asked by another thread."""
        family = self._family
        if family is not None:
            family.limit_memory(limit)

    def retreat(self) -> None:
        """Another thread has not heard of the scheduler for too long: the process ends, and nobody is charged."""
        self._kill(_RETREAT)

    def drop(self) -> None:
        """Another thread has heard that what is under way is run elsewhere: the process ends, and nobody is charged."""
        if self.under_way is not None:
            self._kill(_VOID)

    def _kill(self, why: str) -> None:
        process = self._process
        if process is not None:
            self._retreating = why
            process.kill()

    def end_if_forgotten(self) -> None:
        """End an idle process that was started before the scheduler gave the worker up: it knows nothing of that any
        more, and may have told others to start one there, and to use its GPU."""
        process = self._process
        if process is None or self._supervisor.stopping:
            return  # at the end all are ended
        if self._given_up != self._supervisor.given_up:
            self.stop(orderly=True, seconds=self._limits.shutdown_seconds, why=_FORGOTTEN)
            self._tell("ended", process.number)

    def give_back(self) -> None:
        """Another thread asks for what has not been begun."""
        self._asked_back = True
        self._wake.ring()

    def overtaken(self, mini_batch: int) -> None:
        """Another thread tells that this mini-batch has succeeded elsewhere: for good, so it is never given again."""
        self._overtaken.add(mini_batch)
        self._wake.ring()

    def stop(self, *, orderly: bool, seconds: float, why: str = OVER) -> None:
        """End the process, with shutdown() where ``orderly``; when no task holds the lane."""
        process = self._process
        if process is not None and self._retreating:
            self._end_process(self._retreating)
        elif process is not None:
            limit = "--shutdown_timeout" if why in (OVER, _FORGOTTEN) else why
            problem = self._quit(process, seconds, limit) if orderly else None
            how = "" if orderly else "; it was killed"
            if problem is not None:
                self._supervisor.log_process_error(process.number, "shutdown()", problem)
                how = f"; shutdown() failed: {_told(problem)}"
            self._end_process(f"{why}{how}")

    def _quit(self, process: LaneProcess, seconds: float, limit: str) -> AttemptError | None:
        """The orderly end; from the first piece of what it stores on until all is there it is missed."""
        missed = False

        def send(piece: bytes, *, ended: bool = False) -> None:
            """At once: nobody else waits."""
            nonlocal missed
            missed = not ended
            self._calls += 1
            whose = {"node": self._supervisor.node, "process": process.number, "number": self._calls}
            self._supervisor.call("last_file", **whose, piece=piece, ended=ended)

        if process.has_stored:  # also where its worker is lost meanwhile
            send(b"")
        problem = process.quit(seconds, limit, send)
        if process.sent_all and missed:
            send(b"", ended=True)
        elif not process.sent_all and not missed and process.has_stored:
            send(b"")
        return problem

    def close(self) -> None:
        """Kill the process; the lane is of no use afterwards."""
        self._end_process("its lane was closed; it was killed")
        if self._family is not None:
            self._family.close()
        self._wake.close()

    # ---------------------------------------------------------------- one chunk

    def _run(self, permit: int, grant: dict[str, Any]) -> None:
        """Run the mini-batches of a grant; outcomes that are left are reported by the next call."""
        if self._process is None:
            return  # it was abandoned by the very answer that brought the grant
        self._outbox.process, self._outbox.pid = self._process.number, self._process.pid
        self._lost_race = False
        begun = time.monotonic()
        self._look_later(begun)
        if grant["careful"]:
            # A worker was lost with it. Where this one is lost too, it must be known that it had begun.
            self._supervisor.call("alive", begun=[(self.index, work[0]) for work in grant["work"]])
        self._take(grant, begun)
        while (self._sent or self._pending or self._asking) and self._process is not None:
            if self._supervisor.stopping == "kill":
                self._abandon(_KILLED_OVER)
                return
            if self._pending:
                self._top_up(self._process)
            if self._hoards and self._call is None:  # the next files can be fetched from now on
                self._ask_ahead(permit, time.monotonic())
            self._pump(permit, until=self._look_again_at(), flush_at=self._flush_at)
            now = time.monotonic()
            if self._asked_back or now >= self._give_back_at():
                self._give_back_rest()
            if self._call is not None and self._call.done():
                reply = self._finish_call()
                self._flush_at = now + self._report_seconds
                if "work" in reply and self._process is not None:
                    self._take(reply, now)
                    self._ask_at = now
            if self._call is None and not self._ask_ahead(permit, now):
                self._flush(permit, now)

    def _take(self, grant: dict[str, Any], now: float) -> None:
        """More work, and so much time for it."""
        self._pending.extend(work for work in grant["work"] if work[0] not in self._overtaken)
        self._asked_back = False
        self._report_seconds = grant["report"]
        self._flush_at = now + self._report_seconds
        # What a hoarding lane has got ahead of time waits as long as nobody else is idle.
        self._box_ends = math.inf if self._hoards else now + grant["box"]
        self._fetch_ahead([work[2] for work in grant["work"]])

    def _fetch_ahead(self, descriptors: Sequence[bytes]) -> None:
        if descriptors and self._supervisor.fetch_ahead is not None:
            self._supervisor.fetch_ahead.expect(descriptors)

    def _look_again_at(self) -> float | None:
        """When there is something to decide although nothing has come."""
        if len(self._sent) + len(self._pending) > 1:
            return self._give_back_at()
        return self._ask_at if self._hoards else None

    def _give_back_at(self) -> float:
        """When what has not been begun goes back."""
        return min(self._box_ends, self._slow_at())

    def _slow_at(self) -> float:
        """When the mini-batch under way is far slower than those before: nobody shall wait behind it."""
        if self._hoards and self._mean is None:
            return math.inf  # there is none before it
        return self._heard_at + SLOW_FACTOR * (self._mean or 0.0) + SLOW_SECONDS

    def _ask_ahead(self, permit: int, now: float) -> bool:
        """Ask for the next chunk before this one is over, where it is time for that."""
        may = self._may_hoard(now) if self._hoards else self._may_ask_ahead(now)
        if may:
            self._ask_at = now + (HOARD_AGAIN_SECONDS if self._hoards else ASK_AGAIN_SECONDS)
            kept = [number for number, _ in self._sent.values()] + [work[0] for work in self._pending]
            self._begin_call(permit, claim=True, keep=tuple(kept))
        return may

    def _flush(self, permit: int, now: float) -> None:
        """Tell what has ended, where it is time for that; at the end of a chunk the next claim does so."""
        if self._outbox and (now >= self._flush_at or self._outbox.size > REPORT_BYTES or self._outbox.back):
            if self._sent or self._pending:
                self._begin_call(permit, claim=False)
            self._flush_at = now + self._report_seconds

    @property
    def _is_in_pieces(self) -> bool:
        """Has a part of what the one under way has come to been reported? The rest belongs to the same grant."""
        return bool(self._piece_bytes) or self._sends_files

    def _may_ask_ahead(self, now: float) -> bool:
        """Will the process be idle soon? Then its next chunk is asked for while it runs the last ones."""
        if self._pending or not self._sent or self._mean is None or self._is_in_pieces or now < self._ask_at:
            return False
        if now - self._heard_at > ASK_AHEAD_SECONDS:
            return False  # the one under way is slow: what comes next is better off elsewhere
        return len(self._sent) <= MAX_CHUNK and len(self._sent) * self._mean <= ASK_AHEAD_SECONDS

    def _may_hoard(self, now: float) -> bool:
        """Has the process all there is, and is no slow one under way? Then the files of the next are fetched."""
        if self._pending or not self._sent or self._is_in_pieces or now < self._ask_at:
            return False
        return now < self._slow_at()

    def _top_up(self, process: LaneProcess) -> None:
        """Give the process about 50 ms of work ahead, one frame for all of it."""
        allowed = 1 if self._mean is None else max(1, int(AHEAD_SECONDS / max(self._mean, 1e-6)))
        if len(self._sent) > allowed // 2:
            return
        work = []
        while self._pending and len(self._sent) < allowed:
            mini_batch, attempt, descriptor = self._pending.popleft()
            sequence = process.next_sequence()
            self._sent[sequence] = (mini_batch, attempt)
            work.append((sequence, mini_batch, attempt, descriptor))
        process.send(FrameKind.WORK, pickle.dumps(work, 5))

    def _give_back_rest(self) -> None:
        """What has not been begun goes back, uncharged: it has waited too long, or another lane is idle."""
        self._asked_back = False
        self._outbox.back.extend(work[0] for work in self._pending)
        self._pending.clear()
        waiting = list(self._sent)[1:]
        if waiting and self._process is not None:
            self._process.page.revoke(waiting[0], waiting[-1] + 1)
            self._outbox.back.extend(self._sent.pop(sequence)[0] for sequence in waiting)

    def _abandon(self, why: str) -> None:
        """The grant is void, or all is over: nobody wants the results."""
        self._pending.clear()
        self._sent.clear()
        self._outbox = Outbox()
        self._end_process(why)

    # ---------------------------------------------------------------- waiting

    def _pump(self, permit: int, until: float | None = None, flush_at: float | None = None) -> None:
        """Wait for the next thing to happen, and deal with it."""
        process = self._process
        now = time.monotonic()
        paused = self._call is not None and self._outbox.size > PAUSE_BYTES
        wake_at = now + FOREVER
        if until is not None and until > now:
            wake_at = until
        if self._outbox and self._call is None and flush_at is not None:
            wake_at = min(wake_at, flush_at)
        if self._sent and not paused:
            wake_at = min(wake_at, self._look_at)
        poll = select.poll()
        poll.register(self._wake.descriptor, select.POLLIN)
        if process is not None:
            poll.register(process.control, select.POLLIN)
            events = (0 if paused else select.POLLIN) | (select.POLLOUT if process.unsent else 0)
            if events:
                poll.register(process.socket, events)
        ready = dict(poll.poll(max(0.0, min(wake_at - now, 1.0)) * 1000))
        if self._wake.descriptor in ready:
            self._wake.hush()
        if process is None:
            return
        if paused:
            self._excused_until = time.monotonic()
        happened = ready.get(process.socket.fileno(), 0)
        if happened & select.POLLOUT:
            process.flush()
        if happened & ~select.POLLOUT:
            alive = self._receive(process)
            self._look_later(time.monotonic())
            if not alive:
                self._process_died(process)
            elif process.files_lost:
                self._process_over(process, _FILES_LOST)
        elif process.control.fileno() in ready:
            self._process_died(process)
        elif self._sent and not paused and time.monotonic() >= self._look_at:
            self._look_at_limits(process)
        if self._overtaken and self._process is process:
            self._end_overtaken(process)

    def _look_later(self, now: float) -> None:
        self._heard_at = now
        self._look_at = now + min(self._limits.run_seconds, self._limits.overhead_seconds)

    def _receive(self, process: LaneProcess, too_late: int = -1) -> bool:
        """Deal with the frames that have come; False at the end of the stream.

        ``too_late``: what was over its limit when it was looked at. The signal that asks for its stack may have
        made it return.
        """
        frames, alive = process.receive()
        for kind, sequence, payload in frames:
            if sequence not in self._sent or sequence == too_late:
                process.drop(kind, sequence, payload)  # revoked meanwhile: somebody else has it
            elif process.files_lost:
                continue  # it goes back
            elif kind == FrameKind.OUTCOME:
                self._outcome(sequence, payload)
            elif kind == FrameKind.ROWS:
                data = bytes(payload)
                self._piece_bytes += len(data)
                self._outbox.add_piece(self._sent[sequence][0], data)
            elif kind == FrameKind.FILE:
                self._sends_files = True
                self._excused_until = time.monotonic()  # a large one takes what it takes
                self._outbox.add_file(self._sent[sequence][0], bytes(payload))
            elif kind == FrameKind.HEADER and payload != self._header:
                self._outbox.headers.append((self._sent[sequence][0], bytes(payload)))
        return alive

    def _outcome(self, sequence: int, payload: bytes | memoryview) -> None:
        mini_batch, attempt = self._sent.pop(sequence)
        header = unpack_outcome(payload)
        body = bytes(payload[OUTCOME_SIZE:])
        failed = header.category != Category.SUCCEEDED
        record = AttemptRecord(
            mini_batch, attempt, header.category, not failed, header.items, header.results,
            0 if failed else self._piece_bytes + len(body),
            header.started, header.elapsed, header.read, header.run, header.cpu,
        )  # fmt: skip
        self._mean = header.elapsed if self._mean is None else self._mean + 0.2 * (header.elapsed - self._mean)
        if failed:
            self._outbox.fail(record, unpack_error(body))
        else:
            if self._piece_bytes:
                self._outbox.pieced.append((mini_batch, self._piece_bytes))
            if self._sends_files:
                self._outbox.filed.append(mini_batch)
            self._outbox.add(record, body)
        self._piece_bytes, self._sends_files = 0, False

    # ---------------------------------------------------------------- limits and deaths

    def _look_at_limits(self, process: LaneProcess) -> None:
        """Nothing has come for a while: is the phase under way within its limit?"""
        reading, now = process.page.read(), time.monotonic()
        limits = self._limits
        limit = limits.run_seconds if reading.phase == Phase.RUN else limits.overhead_seconds
        since = reading.since
        if reading.phase != Phase.RUN:
            since = max(since, self._excused_until)
        if now < since + limit:
            self._look_at = since + limit
            return
        stacks = process.stacks()
        process.kill()
        ended = process.wait()
        while self._receive(process, too_late=reading.sequence):
            pass
        option = "run_invocation_timeout" if reading.phase == Phase.RUN else "--task_overhead_timeout"
        late = f"{_DOING.get(Phase(reading.phase), 'taking a mini-batch')} took longer than {option}={limit:g} s"
        left = f"; {ended.survivors} of its processes could not be killed yet" if ended.survivors else ""
        current = next(iter(self._sent), None)
        if current is not None and current == reading.sequence:  # else it had ended at the last moment
            error = process.killed("TimeLimit", f"{late}; its process was killed{left}", stacks)
            self._charge(process, reading, Category.TIME_LIMIT, error)
        self._process_over(process, f"{late}; it was killed{left}")

    def _process_died(self, process: LaneProcess) -> None:
        """The process is gone: only what it was running is charged (behaviour, section 5.1)."""
        ended = process.wait()
        while self._receive(process):
            pass
        reading = process.page.read()
        current = next(iter(self._sent), None)
        if self._retreating or ended.unattended:  # nobody's fault
            why = self._retreating or _UNATTENDED
        elif current is not None and reading.sequence == current and reading.phase in _AT_WORK:
            why = process.how_it_ended(ended, "it", f" while {_DOING[Phase(reading.phase)]} was under way")
            category = Category.OUT_OF_MEMORY if ended.out_of_memory else Category.PROCESS_DIED
            self._charge(process, reading, category, process.why_it_ended(ended, "its process"))
        else:
            when = " between mini-batches" if process.finished_any else " before it ended its first mini-batch"
            why = process.how_it_ended(ended, "it", when)
            error = sendable(process.why_it_ended(ended, "a process", when))
            self._supervisor.log_process_error(process.number, "waiting for a mini-batch", error)
            if not process.finished_any:
                self._tell_failed(process, error, from_outside=ended.from_outside, was_ready=True)
        self._process_over(process, why)

    def _end_overtaken(self, process: LaneProcess) -> None:
        """What is under way has succeeded elsewhere: nobody waits for its end."""
        current = next(iter(self._sent.values()), (None, 0))[0]
        if current not in self._overtaken:
            return
        process.kill()
        process.wait()
        while self._receive(process):
            pass
        self._sent = {sequence: work for sequence, work in self._sent.items() if work[0] != current}
        self._process_over(process, _OVERTAKEN.format(current))
        self._lost_race = True

    def _charge(self, process: LaneProcess, reading: PhaseReading, category: Category, error: AttemptError) -> None:
        mini_batch, attempt = self._sent.pop(reading.sequence)
        elapsed = time.monotonic() - reading.since
        run = elapsed if reading.phase == Phase.RUN else 0.0
        record = AttemptRecord(
            mini_batch, attempt, category, 0, max(0, reading.items), 0, 0,
            time.time() - elapsed, elapsed, 0.0, run, process.cpu_seconds(),
        )  # fmt: skip
        self._outbox.fail(record, error)

    def _process_over(self, process: LaneProcess, why: str) -> None:
        """What it had not begun goes back; the next chunk begins with a new process."""
        self._outbox.back.extend(mini_batch for mini_batch, _ in self._sent.values())
        self._outbox.back.extend(work[0] for work in self._pending)
        self._sent.clear()
        self._pending.clear()
        self._end_process(why)
        self._tell("ended", process.number)


def _with_trace(error: AttemptError) -> str:
    """What says all, and below it the end of the traceback."""
    return "\n".join([_told(error), *error.traceback.rstrip().splitlines()[-TRACE_LINES:]])


def _told(error: AttemptError) -> str:
    text = f"{error.type}: {error.message}" if error.message else error.type
    return text[:MESSAGE_LETTERS] + (f" ({error.where})" if error.where else "")

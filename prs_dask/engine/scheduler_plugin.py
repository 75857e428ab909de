"""The judge's shell on the scheduler: it translates and forwards, and decides nothing.

Workers and driver reach it by one permanent op, ``prs``, with a run id and the name of a call:

    workers   hello, piece, prepared, unfit, alive, may_start, process, lane, last_file, logs, stopped, unusable, fault
    driver    sync, parcels, driver_alive, stop, remove

Every call answers something. An unknown step run answers ``{"closed": True}``; a fault of our
own ends the step run as Failed instead of reaching Dask, which would remove the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from distributed.comm.addressing import get_address_host
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

from prs_dask import __version__
from prs_dask.attempts.fitting import Fitting
from prs_dask.attempts.gpus import VISIBLE, Gpus, Slot, ToldGpus
from prs_dask.attempts.grants import Accepted, Grant, LaneKey, Overtaken
from prs_dask.attempts.init_rules import InitRules
from prs_dask.attempts.judge import Judge
from prs_dask.attempts.losses import Loss
from prs_dask.attempts.places import Places, Worker
from prs_dask.attempts.records import AttemptError, pack
from prs_dask.engine import adaptation, metrics
from prs_dask.engine.node_key import node_key
from prs_dask.engine.parcels import Exchange, Key
from prs_dask.engine.patient_clock import PatientClock
from prs_dask.engine.run_settings import OP, RunSettings, plugin_name
from prs_dask.logs.text import process_name

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState

__all__ = ["RunPlugin"]

Reply: TypeAlias = dict[str, Any]

DRIVER_LOST_SECONDS = 10.0
"""How long the driver may be silent where its Client is not connected any more: its process has ended, most likely."""

CLEAR_SECONDS = 5.0
"""So long a worker that hangs may hold up the clearing away when the driver is gone."""

GPU_WAIT_SECONDS = 0.2
"""After so long a lane asks again for a GPU that a process which was killed still holds."""

CLAIM_WAIT_SECONDS = 0.1
TICK_SECONDS = 0.5
GATHER_SECONDS = 0.05
"""What comes within this time goes to the driver in one answer, where nothing is urgent."""

URGENT_GATHER_SECONDS = 0.005
MOST_REPLY_BYTES = 8 << 20
MOST_LOG_BYTES = 8 << 20
PIECE_BYTES = 1 << 20
EVENT_BYTES = 200
"""What an event of a process counts for, besides why it happened."""

MOST_OBITUARIES = 100
MOST_NAMED = 5
"""So many workers that are not done are named at the end."""

_runs: WeakKeyDictionary[Scheduler, dict[str, RunPlugin]] = WeakKeyDictionary()
_obituaries: WeakKeyDictionary[Scheduler, dict[str, str]] = WeakKeyDictionary()
"""Why the scheduler has ended a step run by itself: for a driver that comes back."""


class _Dispatcher:
    """The permanent op of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.runs = _runs.setdefault(scheduler, {})
        self.obituaries = _obituaries.setdefault(scheduler, {})

    async def handle(self, run: str, call: str, **arguments: Any) -> Reply:
        plugin = self.runs.get(run)
        if plugin is None:
            return {"closed": True, "why": self.obituaries.get(run, "")}
        try:
            answer: Reply = await getattr(plugin, f"on_{call}")(**arguments)
        except Exception as error:
            plugin.fault(call, traceback.format_exc())
            return {"closed": True, "fault": f"internal error of prs_dask in {call}: {type(error).__name__}: {error}"}
        return answer

    def ignore(self, **message: Any) -> None:
        """Nothing is sent to the scheduler on streams; a stray message must not cost a worker."""


def _install(scheduler: Scheduler) -> dict[str, RunPlugin]:
    dispatcher = _Dispatcher(scheduler)
    if OP not in scheduler.handlers:
        scheduler.handlers[OP] = dispatcher.handle
        scheduler.stream_handlers[OP] = dispatcher.ignore
    return dispatcher.runs


class RunPlugin(SchedulerPlugin):
    """One step run on the scheduler.

    Parameters
    ----------
    settings
        What the judge needs to know.
    worker_settings
        Pickled `WorkerSettings`, handed to workers that say hello.
    """

    def __init__(self, settings: RunSettings, worker_settings: bytes) -> None:
        self.name = plugin_name(settings.run_id)
        self._settings = settings
        self._worker_settings = worker_settings

    # ---------------------------------------------------------------- life

    async def start(self, scheduler: Scheduler) -> None:
        settings = self._settings
        self._scheduler = scheduler
        self._now = PatientClock()
        now = self._now()
        wall_offset = time.time() - now
        gpus = Gpus(settings.processes_per_gpu, settings.wished_gpus)
        places = Places(
            settings.processes_per_node, settings.node_count, dict(settings.first_process), node_key(), gpus
        )
        rules = InitRules(settings.processes_per_node or 1, settings.node_count or 1, now)
        self._judge = Judge(settings.limits, places, rules, now, wall_offset, settings.already, settings.partly_done)
        self._judge.header = settings.header
        self._fitting = Fitting(scheduler.workers, settings.node_count)
        self._results: deque[tuple[int, Reply, int]] = deque()
        self._last_result = 0
        self._result_bytes = 0
        self._replies: dict[LaneKey, tuple[int, asyncio.Task[Reply]]] = {}
        self._logs: deque[tuple[Reply, int]] = deque()
        self._log_bytes = 0
        self._log_numbers: dict[str, int] = {}
        self._at_work: dict[LaneKey, tuple[int, int]] = {}  # node and number of each lane's process
        self._pids: dict[LaneKey, int] = {}
        self._verdict_told = False
        self._exchange = Exchange()
        self._file_numbers: dict[tuple[str, int], int] = {}
        self._with_files: set[int] = set()  # grants under which files have come
        self._unstored: set[str] = set()  # processes that are storing files at their end
        self._header_sent = False
        self._driver_heard = now
        self._closed = False
        self._stopping: str = ""
        self._live: set[str] = set()
        self._unusable: set[str] = set()
        self._news = asyncio.Event()
        self._supplied = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        _install(scheduler)[settings.run_id] = self
        if metrics.show(settings.run_id, self._measured) and (server := getattr(scheduler, "http_server", None)):
            self._note(f"metrics for Prometheus: port {server.port} of the scheduler, /metrics")
        self._ahead = 0
        adaptation.join(scheduler, settings.run_id, lambda horizon: self._judge.workers_wanted(self._ahead, horizon))
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        self._closed = True
        self._exchange.close()
        self._ticker.cancel()
        metrics.show_no_more(self._settings.run_id)
        adaptation.leave(self._scheduler, self._settings.run_id)
        _runs.get(self._scheduler, {}).pop(self._settings.run_id, None)

    def _measured(self) -> metrics.Measured:
        places = self._judge.places
        return metrics.Measured(self._judge.counts(), places.lanes, len(places.nodes_in_use))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._look_around(self._now())
            except Exception:
                self.fault("tick", traceback.format_exc())

    async def _look_around(self, now: float) -> None:
        for address in self._judge.silent_workers(now):
            self._lose(address, Loss.SILENT)
        self._judge.tick(now)
        self._judge_fitting()
        self._news.set()
        silent = now - self._driver_heard
        if silent > self._driver_may_be_silent:
            await self._clear_away(f"it had not heard of its driver for {silent:.0f} s (was it stopped, or cut off?)")

    @property
    def _driver_may_be_silent(self) -> float:
        most = self._settings.silent_seconds
        connected = self._settings.client in self._scheduler.clients
        return most if connected else min(most, DRIVER_LOST_SECONDS)

    async def _clear_away(self, why: str) -> None:
        """The driver is gone: leave the cluster as it was found."""
        self._judge.end("Failed", why)
        obituaries = _obituaries.setdefault(self._scheduler, {})
        obituaries[self._settings.run_id] = why
        for old in list(obituaries)[:-MOST_OBITUARIES]:
            del obituaries[old]
        await self.on_stop(orderly=False)
        with contextlib.suppress(ValueError, OSError):
            await asyncio.wait_for(self._scheduler.unregister_worker_plugin(None, self.name), CLEAR_SECONDS)
        await self.on_remove()  # the very last: it ends this task

    async def on_fault(self, where: str, text: str) -> Reply:
        """A fault of our own on a worker."""
        self.fault(where, text)
        return {}

    def fault(self, where: str, text: str) -> None:
        """A fault of our own: it ends the step run and is written into its logs."""
        self._put({"kind": "fault", "time": time.time(), "where": where, "text": text}, len(text))
        self._judge.end("Failed", f"internal error of prs_dask in {where}: {text.strip().splitlines()[-1]}")
        self._news.set()

    def _note(self, text: str) -> None:
        self._put({"kind": "note", "time": time.time(), "text": text}, len(text))

    # ---------------------------------------------------------------- Dask's events

    def remove_worker(self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any) -> None:
        try:
            self._live.discard(worker)
            self._fitting.left(worker)
            self._exchange.left(worker)
            if worker in self._judge.places.workers:
                self._lose(worker, Loss.TAKEN_AWAY if self._was_expected(worker) else Loss.GONE)
            self._news.set()
        except Exception:
            self.fault("remove_worker", traceback.format_exc())

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[WorkerState]) -> list[WorkerState]:
        """A cluster that adapts may have those that are idle."""
        try:
            busy = self._judge.busy_workers
        except Exception:
            self.fault("valid_workers_downscaling", traceback.format_exc())
            return workers
        return [worker for worker in workers if worker.address not in busy]

    def _was_expected(self, worker: str) -> bool:
        """Was it scaled down, retired or restarted, or does the scheduler close, and its workers with it?"""
        if self._scheduler.status in (Status.closing, Status.closed):
            return True
        for _, event in reversed(self._scheduler.get_events("all")):
            if isinstance(event, dict) and event.get("action") == "remove-worker" and event.get("worker") == worker:
                return bool(event["expected"])
        return False

    def _lose(self, address: str, loss: Loss, why: str = "") -> None:
        place = self._judge.places.workers.get(address)
        accepted, void = self._judge.worker_lost(address, self._now(), loss)
        if void:
            self._put({"kind": "void", "permits": void}, 0)
        for lane in [lane for lane in self._replies if lane[0] == address]:
            del self._replies[lane]
        self._live.discard(address)
        what = f"worker {address} {why or loss.value}"
        for key in [key for key in self._at_work if key[0] == address]:
            self._pids.pop(key, None)
            self._process_lost(*self._at_work.pop(key), f"its {what}")
        self._note(what + ("" if loss is Loss.TAKEN_AWAY else self._alone_on(place)))
        if accepted is not None:
            self._emit(accepted, node=-1, process=-1, token=0)
        self._forget_files()
        self._supplied.set()
        self._news.set()

    def _process_lost(self, node: int, process: int, why: str) -> None:
        """It can tell of its end no more. Behind what its worker has told of it, and in the same way."""
        event = {"kind": "process", "event": "ended", "node": node, "process": process, "time": time.time()}
        self._keep({**event, "why": why, "data": b""})

    def _alone_on(self, gone: Worker | None) -> str:
        """What else is lost where a worker that is gone was the last one of its node."""
        if gone is None or any(worker.node == gone.node for worker in self._judge.places.workers.values()):
            return ""
        return (
            f"; node {gone.node} has no other: what its processes wrote last comes into the logs only if a worker comes"
            " back there"
        )

    # ---------------------------------------------------------------- calls of workers

    async def on_hello(
        self,
        worker: str,
        node_key: str,
        threads: int,
        version: str = "",
        prepares: bool = False,
        gpus: Sequence[Any] = (),
        first_gpu_only: bool = False,
        missed_gpus: str = "",
    ) -> Reply:
        """A worker's plugin is ready and tells what it sees (``gpus``: `ToldGpus`); it learns what to run and its
        node's number. One that ``prepares`` first gets nothing to do before it says that it is ``prepared``."""
        if worker not in self._scheduler.workers or self._stopping:
            return {"closed": True}
        if version not in ("", __version__):
            self._leave_out(worker, node_key.partition("/")[0], [("prs_dask", version, __version__)])
            return {"closed": True}
        told = ToldGpus(*gpus)
        place = self._judge.places.join(
            worker, node_key, threads, self._now(), told, first_gpu_only=first_gpu_only, prepared=not prepares
        )
        if self._settings.processes_per_node is None:
            self._judge.init_rules.processes_per_node = max(1, self._judge.places.most_lanes_of_a_node)
        self._live.add(worker)
        seen = ", ".join(gpu.visible for gpu in told.gpus(told.listed))
        sees = f" and sees GPU {seen}" if seen else ""
        why = self._judge.places.why_unused(place)
        unused = f"; it is not used for now: {why}" if why else ""
        self._note(f"worker {worker} of node {place.node} ({node_key}) has come with {threads} threads{sees}{unused}")
        if absent := self._judge.places.gpus.absent(worker):
            missed_gpus = _left_out(absent, len(told.devices or ()))
        if missed_gpus:
            self._note(f"node {place.node}: {missed_gpus}")
        self._news.set()
        silent = self._settings.silent_seconds
        return {"settings": self._worker_settings, "node": place.node, "silent_seconds": silent}

    async def on_prepared(self, worker: str, told: Sequence[str] = ()) -> Reply:
        """A worker has all that it needs, and tells what of it came to its node: it may get permits."""
        place = self._judge.places.prepared(worker)
        self._exchange.left(worker)
        if place is not None:
            for text in told:
                self._note(f"node {place.node}: {text}")
            self._fitting.fits(worker, place.node)
            self._judge_fitting()
        self._news.set()
        return {}

    async def on_unfit(self, worker: str, lacking: list[tuple[str, str, str]]) -> Reply:
        """A worker has not what ``environment`` wants."""
        place = self._judge.places.workers.get(worker)
        if place is not None:
            host = get_address_host(worker)
            self._leave_out(worker, f"{place.node} ({host})", lacking)
        return {}

    def _leave_out(self, worker: str, node: str, lacking: list[tuple[str, str, str]]) -> None:
        self._unusable.add(worker)
        self._fitting.does_not_fit(worker, node, lacking, self._now())
        if worker in self._judge.places.workers:
            self._lose(worker, Loss.TAKEN_AWAY, "does not fit: it has not all that is wanted")
        self._judge_fitting()

    def _judge_fitting(self) -> None:
        told = self._fitting.decide(self._now())
        if told is not None and told.ends:
            self._judge.end("Failed", told.text)
        elif told is not None:
            self._note(told.text)

    async def on_unusable(self, worker: str, error: str) -> Reply:
        """A worker cannot take part; where none is left that can, or has yet to say so, the step run fails."""
        self._unusable.add(worker)
        self._fitting.left(worker)
        self._lose(worker, Loss.TAKEN_AWAY, f"cannot be used: {error}")
        if not self._judge.places.workers and not self._scheduler.workers.keys() - self._unusable:
            self._judge.end("Failed", f"no worker can be used; worker {worker}: {error}")
        return {}

    async def on_piece(self, worker: str, parcel: int, offset: int, listing: bool = False) -> Reply:
        """A piece of what the driver has; none where the step run is over."""
        data = await self._exchange.piece(worker, (parcel, listing, offset))
        return {} if data is None else {"data": data}

    async def on_parcels(self, answers: Sequence[tuple[Key, bytes, str]], wait: float) -> Reply:
        """Pieces that workers have asked for; the driver is told the next ones."""
        for error in [error for _, _, error in answers if error]:
            self._judge.end("Failed", error)
            self._exchange.close()
            self._news.set()
        return {"wanted": await self._exchange.serve(answers, wait)}

    async def on_alive(
        self,
        worker: str,
        begun: list[tuple[int, int]] = [],  # noqa: B006 - never changed
        prepared: bool = False,
    ) -> Reply:
        """A worker's heartbeat, with (lane, mini-batch) of what is under way; ``known`` False: its work was
        handed out again, start anew."""
        if prepared:  # told once more: what it said may have come before it was known again
            self._judge.places.prepared(worker)
        return {"known": self._judge.heard(worker, self._now(), begun), "stop": self._stopping}

    async def on_may_start(
        self,
        worker: str,
        lane: int,
        busy: list[tuple[str, int]] = [],  # noqa: B006 - never changed
    ) -> Reply:
        """May the lane start a process, and which number and GPU does it get? ``busy``: slots of GPUs that somebody
        holds on its node."""
        gpus = self._judge.places.gpus
        permission = self._judge.may_start_process((worker, lane), self._now())
        if not permission.allowed:
            gpus.release((worker, lane))
            return {"wait": permission.wait, "refused": permission.refused}
        waited = (worker, lane) in gpus.waiting
        share = gpus.take((worker, lane), {Slot(*slot) for slot in busy})
        place = self._judge.places.workers[worker]
        if share.wait:
            if not waited:
                self._note(f"a process of node {place.node} waits for a GPU that one which was killed still holds")
            return {"wait": GPU_WAIT_SECONDS}
        number = self._judge.places.next_process(place.node)
        self._at_work[worker, lane] = place.node, number
        gpu = {"gpus": share.count, "slot": tuple(share.slot) if share.slot else None, "visible": share.visible}
        return {"number": number, "node": place.node, "lanes": place.lanes, **gpu}

    async def on_process(
        self, worker: str, lane: int, event: str, process: int, error: str = "", pid: int = 0, **how: bool
    ) -> Reply:
        """A process is ``ready``, has ``failed`` to get to its first mini-batch (``how``: see the judge), or has
        ``ended``."""
        key, now = (worker, lane), self._now()
        if event == "ready":
            self._pids[key] = pid
            self._judge.process_ready(key, self._identity(worker, process), now)
        elif event == "failed":
            self._judge.process_failed(key, error, now, **how)
        else:
            self._judge.process_ended(key)
        if event != "ready":
            self._at_work.pop(key, None)
            self._judge.places.gpus.release(key)
        self._news.set()
        return {}

    def _identity(self, worker: str, process: int) -> str:
        place = self._judge.places.workers.get(worker)
        return f"{place.node if place else worker}/{process_name(process)}"

    async def on_lane(
        self,
        worker: str,
        lane: int,
        process: int,
        permit: int,
        number: int,
        token: int = 0,
        report: Reply | None = None,
        claim: bool = False,
        keep: tuple[int, ...] = (),
        hoards: bool = False,
    ) -> Reply:
        """A lane's report of what has ended, and its claim of the next chunk.

        Calls of a lane are numbered: one that is repeated, because its answer was lost, gets
        the same answer and changes nothing, also while the first is still being worked on. With
        ``keep`` the lane asks ahead of time: it gets a chunk if there is one, and no advice to stop.
        """
        key = (worker, lane)
        last = self._replies.get(key)
        if last is None or last[0] != number:
            call = self._lane_call(key, process, permit, token, report, claim, frozenset(keep), hoards)
            last = self._replies[key] = (number, asyncio.create_task(call))
        return await last[1]

    async def _lane_call(
        self,
        key: LaneKey,
        process: int,
        permit: int,
        token: int,
        report: Reply | None,
        claim: bool,
        keep: frozenset[int],
        hoards: bool,
    ) -> Reply:
        worker = key[0]
        self._judge.heard(worker, self._now())
        reply: Reply = {}
        while not self._room.is_set():  # what came while this one waited may have taken it
            await self._room.wait()
        if report is not None:
            accepted = self._take_report(worker, token, report)
            if accepted is None:
                reply["void"] = "over" if self._judge.verdict is not None else "given up"
            elif accepted.files_refused:
                reply["files_refused"] = True
        if claim:
            reply |= await self._claim(key, process, permit, keep, hoards)
        if self._judge.header is not None:
            reply["header"] = self._judge.header
        return reply

    def _take_report(self, worker: str, token: int, report: Reply) -> Accepted | None:
        place = self._judge.places.workers.get(worker)
        node = place.node if place is not None else -1
        self._take_pieces(node, token, report)
        errors = {number: AttemptError(*fields) for number, fields in report.get("errors", ())}
        accepted = self._judge.report(
            token,
            report["records"],
            report["rows"],
            errors,
            dict(report.get("pieced", ())),
            dict(report.get("headers", ())),
            report.get("back", ()),
            self._now(),
            frozenset(report.get("filed", ())),
        )
        if accepted is not None:
            for loser in accepted.overtaken:
                self._end_overtaken(loser)
            self._emit(accepted, node, report["process"], token, get_address_host(worker), report["pid"])
        self._forget_files()
        self._supplied.set()
        self._news.set()  # what was given back wants another lane, and that a permit
        return accepted

    def _end_overtaken(self, loser: Overtaken) -> None:
        """Another attempt was faster: its lane ends it, the driver forgets what it has sent, and the logs tell it."""
        worker, lane = loser.lane
        number = loser.record.mini_batch
        self._say(worker, "overtaken", lane=lane, mini_batch=number)
        node, process = self._at_work.get(loser.lane, (-1, -1))
        # By the wall clock: the judge's leaves out when nobody could read it, and its process had to be ready.
        record = loser.record._replace(started=time.time() - loser.record.elapsed)
        told = Accepted(pack([record]), b"", {number: loser.error}, {})
        self._emit(told, node, process, loser.token, get_address_host(worker), self._pids.get(loser.lane, 0))

    def _take_pieces(self, node: int, token: int, report: Reply) -> None:
        """Rows and files of mini-batches, before what says that they have ended."""
        for mini_batch, data in self._still_wanted(token, report.get("pieces", ())):
            self._put({"kind": "piece", "mini_batch": mini_batch, "token": token, "data": data}, len(data))
        whose = {"kind": "file", "token": token, "node": node, "process": report["process"]}
        for mini_batch, data in self._still_wanted(token, report.get("files", ())):
            self._put({**whose, "mini_batch": mini_batch, "data": data}, len(data))
            self._with_files.add(token)

    def _still_wanted(self, token: int, pieces: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Those of mini-batches that are still open: else the driver may have committed them, or what they build on."""
        return [piece for piece in pieces if self._judge.is_open(token, piece[0])]

    def _forget_files(self) -> None:
        """The driver need not keep what came under grants that are over, where it has not been committed."""
        for token in [token for token in self._with_files if not self._judge.is_open(token)]:
            self._with_files.discard(token)
            self._put({"kind": "files_over", "token": token}, 0)

    async def _claim(self, key: LaneKey, process: int, permit: int, keep: frozenset[int], hoards: bool) -> Reply:
        until = self._now() + CLAIM_WAIT_SECONDS
        while True:
            now = self._now()
            answer = self._judge.claim(
                permit,
                key,
                self._identity(key[0], process),
                now,
                others_wait=self._others_wait(key[0]),
                keep=keep,
                hoards=hoards,
            )
            if answer.ask is not None:
                self._say(answer.ask[0], "give_back", lane=answer.ask[1])
            if answer.second and answer.grant is not None:
                [number] = answer.grant.open
                self._note(f"mini-batch {number} is started a second time, on worker {key[0]}, {answer.second}")
            self._news.set()
            if answer.grant is not None:
                return _grant_reply(answer.grant)
            if keep:
                return {"soon": list(answer.soon)} if answer.soon else {}
            if not answer.pause or now >= until:
                self._judge.places.end(permit)
                return {"stop": True}
            self._supplied.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._supplied.wait(), until - now)

    def _others_wait(self, worker: str) -> bool:
        """Does a task that is none of ours want a thread of this worker, or is the worker to do no more?

        Tasks that Dask could run anywhere wait in the scheduler, ``queued``, as long as our permits fill the workers.
        """
        state = self._scheduler.workers.get(worker)
        if state is None:
            return False
        if state.status is not Status.running or self._scheduler.queued:
            return True
        place = self._judge.places.workers.get(worker)
        own = len(place.permits) if place is not None else 0
        return len(state.processing) > max(state.nthreads, own)

    async def on_last_file(
        self, worker: str, node: int, process: int, number: int, piece: bytes, ended: bool = False
    ) -> Reply:
        """A piece of what a process stores at its end, empty while it looks for more; the answer comes when there is
        room. Until all has ``ended`` it is missed; not so of a worker that was taken away."""
        key = (worker, process)
        if number > self._file_numbers.get(key, 0):
            self._file_numbers[key] = number
            token = f"process{process:03d} of node {node}"
            entry = {"kind": "file", "mini_batch": -1, "token": token, "node": node, "process": process}
            self._put({**entry, "data": piece, "ended": ended}, len(piece))
            if ended:
                self._unstored.discard(token)
            elif worker in self._judge.places.workers:
                self._unstored.add(token)
        while not self._room.is_set() and not self._closed:
            await asyncio.sleep(0.02)
        return {}

    async def on_logs(self, worker: str, sender: str, number: int, pieces: list[Reply]) -> Reply:
        """Pieces of log files, and news of processes; the answer comes when there is room for more.

        A call that is repeated, by another supervisor of the node too, has the number of the first, and adds nothing.
        """
        if number > self._log_numbers.get(sender, 0):
            self._log_numbers[sender] = number
            for piece in pieces:
                self._keep(piece)
        while self._log_bytes > MOST_LOG_BYTES and not self._closed:
            await asyncio.sleep(0.05)
        return {}

    def _keep(self, piece: Reply) -> None:
        self._logs.append((piece, size := _size(piece)))
        self._log_bytes += size

    async def on_stopped(self, worker: str) -> Reply:
        """A worker has ended its processes and sent its last logs."""
        self._live.discard(worker)
        self._news.set()
        return {}

    # ---------------------------------------------------------------- results

    def _emit(self, accepted: Accepted, node: int, process: int, token: int, ip: str = "", pid: int = 0) -> None:
        if self._judge.header is not None and not self._header_sent:
            self._header_sent = True
            self._put({"kind": "header", "data": self._judge.header}, 0)
        if accepted.records:
            self._put(
                {
                    "kind": "attempts",
                    "node": node,
                    "process": process,
                    "ip": ip,
                    "pid": pid,
                    "token": token,
                    "records": accepted.records,
                    "rows": accepted.rows,
                    "errors": [(number, tuple(error)) for number, error in accepted.errors.items()],
                    "pieced": list(accepted.pieced.items()),
                    "parts": [(number, *part) for number, part in accepted.parts.items()],
                },
                len(accepted.rows) + len(accepted.records) + sum(map(_length, accepted.errors.values())),
            )

    def _put(self, entry: Reply, size: int) -> None:
        self._last_result += 1
        self._results.append((self._last_result, entry, size))
        self._result_bytes += size
        if self._result_bytes > self._settings.rows_in_flight:
            self._room.clear()
        self._news.set()

    def _acknowledge(self, number: int) -> None:
        while self._results and self._results[0][0] <= number:
            self._result_bytes -= self._results.popleft()[2]
        if self._result_bytes <= self._settings.rows_in_flight:
            self._room.set()

    # ---------------------------------------------------------------- calls of the driver

    async def on_sync(
        self,
        ack: int,
        supply: list[tuple[int, int | None, bytes]] = [],  # noqa: B006 - never changed
        total: int | None = None,
        ended: list[int] = [],  # noqa: B006 - never changed
        wait: float = 0.0,
        ahead: int = 0,
    ) -> Reply:
        """The driver's round: what it has written and supplies; what there is for it.

        What lies above ``ack`` is sent again, so nothing is lost with a lost answer.
        """
        judge = self._judge
        self._driver_heard = self._now()
        self._ahead = ahead
        self._acknowledge(ack)
        if supply:
            judge.supply(supply)
            self._supplied.set()
        if total is not None:
            judge.supply_ended(total)
            self._supplied.set()
        for number in ended:
            judge.places.end(number)
        await self._wait_for_news(ack, wait)
        results, size = [], 0
        for result_number, entry, length in self._results:
            if result_number > ack:
                results.append((result_number, entry))
                size += length
            if size > MOST_REPLY_BYTES:
                break
        return {
            "results": results,
            "last": self._last_result,
            "more_logs": bool(self._logs),
            "room": judge.room,
            "lanes": judge.places.lanes,
            "nodes": len(judge.places.nodes_in_use),
            "unused_nodes": judge.places.unused_nodes,
            "process_numbers": list(judge.places.process_numbers().items()),
            "counts": asdict(judge.counts()),
            "waits_for": judge.waits_for,
            "verdict": None if judge.verdict is None else asdict(judge.verdict),
            "live": len(self._live),
            "some_live": sorted(self._live)[:MOST_NAMED] if self._stopping else [],
            "unstored": sorted(self._unstored),
            "seconds": 0.0 if judge.first_run is None else self._now() - judge.first_run,
        }

    async def _wait_for_news(self, ack: int, wait: float) -> None:
        until = time.monotonic() + wait
        while not self._has_news(ack):
            if not await self._next_news(until):
                return
        if wait:
            await self._gather(ack)

    async def _gather(self, ack: int) -> None:
        """Wait for what comes right behind the first news: an answer for each would cost more than it is worth."""
        until = time.monotonic() + GATHER_SECONDS
        await asyncio.sleep(URGENT_GATHER_SECONDS)
        while self._has_news(ack) and not self._is_urgent(ack):
            if not await self._next_news(until):
                return

    async def _next_news(self, until: float) -> bool:
        """Wait for something to happen; False where the time was over before."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        self._news.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), left)
        return True

    def _is_urgent(self, ack: int) -> bool:
        """Does somebody wait for the driver: lanes for permits or mini-batches, or all for the end?"""
        if self._judge.verdict is not None or self._stopping or self._judge.runs_short:
            return True
        return self._result_bytes > PIECE_BYTES or any(
            entry["kind"] == "permit" for number, entry, _ in self._results if number > ack
        )

    def _has_news(self, ack: int) -> bool:
        """Is there anything for the driver? New permits, log pieces and the verdict are made results here."""
        verdict = self._judge.verdict
        if verdict is not None and not self._verdict_told:
            self._verdict_told = True
            cause = verdict.cause.partition("\n")[0]
            self._note(f"the step run ends: {verdict.state}{': ' * bool(cause)}{cause}")
        for permit in self._judge.permits(self._now()):
            self._put({"kind": "permit", "permit": permit.number, "worker": permit.worker}, 0)
        size = 0
        while self._logs and size < PIECE_BYTES:
            piece, length = self._logs.popleft()
            size += length
            self._put({"kind": "log", **piece}, length)
        self._log_bytes -= size
        return self._last_result > ack or self._judge.verdict is not None

    async def on_driver_alive(self) -> Reply:
        """The driver lives, however long its disk takes."""
        self._driver_heard = self._now()
        return {}

    async def on_stop(self, orderly: bool, state: str = "", cause: str = "") -> Reply:
        """End the step run where it has not ended; workers end their processes, with
        ``shutdown()`` where ``orderly``."""
        if state:
            self._judge.end(state, cause)
        self._stopping = "orderly" if orderly else "kill"
        self._room.set()
        self._supplied.set()
        self._exchange.close()
        for worker in list(self._live):
            self._say(worker, "stop", orderly=orderly)
        self._news.set()
        return {"live": len(self._live)}

    def _say(self, worker: str, call: str, **arguments: Any) -> None:
        """A message to a worker's plugin."""
        if worker in self._scheduler.stream_comms:
            self._scheduler.worker_send(worker, {"op": OP, "run": self._settings.run_id, "call": call, **arguments})

    async def on_remove(self) -> Reply:
        """Forget the step run; only the inert op stays."""
        await self.close()
        self._scheduler.plugins.pop(self.name, None)
        return {}


def _size(piece: Reply) -> int:
    event = EVENT_BYTES + len(piece["why"]) if "event" in piece else 0
    return len(piece["data"]) + _length(piece.get("error", ())) + event


def _length(error: Sequence[Any]) -> int:
    """Letters of what an error says; there may be a traceback of many."""
    return sum(len(field) for field in error if isinstance(field, str))


def _left_out(entries: Sequence[str], count: int) -> str:
    """In words: an index is too large for a node with so many GPUs."""
    there = f"{count}, the first of which is 0" if count else "none"
    return (
        f"{VISIBLE} names GPU {entries[0]}, but the driver tells of {there}. What is not used, as with CUDA: "
        f"{', '.join(entries)}. Name only GPUs that are there, or unset it"
    )


def _grant_reply(grant: Grant) -> Reply:
    return {
        "token": grant.token,
        "work": grant.work,
        "box": grant.box,
        "report": grant.report,
        "careful": grant.careful,
    }

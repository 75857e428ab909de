"""One step run on one Dask worker: its lanes, folders, heartbeat and log shipping.

It speaks with the scheduler plugin over the worker's own connection. Tasks of Dask come in by
`run_permit`, each in a thread of the worker; everything else happens on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.comm.addressing import get_address_host
from distributed.core import Status

from prs_dask import __version__
from prs_dask.attempts.gpus import GpuShare, gpu_variables
from prs_dask.attempts.records import AttemptError
from prs_dask.clusters.visible_gpus import seen_gpus
from prs_dask.engine.fetch_ahead import FetchAhead
from prs_dask.engine.gpu_locks import GpuLocks
from prs_dask.engine.installed import misfits
from prs_dask.engine.lane import Lane
from prs_dask.engine.node_key import node_key
from prs_dask.engine.node_preparation import NodePreparation, Over
from prs_dask.engine.outbox import sendable, sendable_text
from prs_dask.engine.process_environment import inherited
from prs_dask.engine.resource_monitor import ResourceMonitor
from prs_dask.engine.run_settings import OP, SILENT_SECONDS, WorkerSettings, plugin_name
from prs_dask.engine.shipper import Shipper, monitor_files
from prs_dask.engine.spool import NodeFolder
from prs_dask.logs.process_events import OVER
from prs_dask.worker_process.family import ProcessFamily
from prs_dask.worker_process.frames import FetcherSetup
from prs_dask.worker_process.launch import NAME_VARIABLE

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["Supervisor"]

HEARTBEAT_SECONDS = 2.0
SHIP_SECONDS = 1.0
BUSY_SECONDS = 30.0
"""So long lanes have to come to their end before their processes are ended."""
CALL_TRIES = 5
_NAMELESS = "fault"
"""The call that does not tell which worker makes it."""
WHY_LETTERS = 1000
"""What an event tells at most; the error logs have all of it."""

GIVEN_BACK_SECONDS = 2.0
"""So long shutdown() may take in idle processes of a worker that is taken away: Dask waits for 4 s, then kills it."""

TAKEN_AWAY = "its worker was taken away"

LAST_WORDS_SECONDS = 3.0
"""So long a worker that is taken away may take to send what its processes have written."""

LEAVE_SECONDS = 5.0
"""So long the scheduler has time to take the plugin away itself, when a step run is over."""


class Supervisor:
    """See the module's docstring.

    Attributes
    ----------
    given_up
        How often the scheduler has given this worker up so far, because it was silent.
    stopping
        Empty while the step run goes on; then ``"orderly"`` or ``"kill"``.
    node
        Number of this node; ``folder``: this supervisor's own; ``source``: the unpacked source.
    shared_output
        The step's output folder where this worker sees it, and may write there.
    side_inputs
        (the driver's path, this node's) of side inputs that lie elsewhere here.
    shipper
        Takes what the processes write to the scheduler.
    cache_folder, fetch_ahead
        The node's cache of files of stores, and who fetches them ahead; None where no input needs them.
    """

    settings: WorkerSettings
    folder: Path
    shipper: Shipper

    def __init__(self, worker: Worker, run_id: str) -> None:
        self.run_id = run_id
        self.given_up = 0
        self.stopping = ""
        self.node = -1
        self.source: Path | None = None
        self.memory_limit = 0
        self.cache_folder: Path | None = None
        self.fetch_ahead: FetchAhead | None = None
        self.shared_output: str | None = None
        self._sees: dict[str, Any] = {}
        self.side_inputs: tuple[tuple[str, str], ...] = ()
        self._leaves = False
        self._monitor: ResourceMonitor | None = None
        self._worker = worker
        self._loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop  # type: ignore[attr-defined]
        self._node_folder: NodeFolder | None = None
        self._prepared = threading.Event()
        self._stop = threading.Event()
        self._lanes: list[Lane] = []
        self._abandoned: list[ProcessFamily] = []
        self._free: list[Lane] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._adopting = asyncio.Lock()
        self._beats: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = threading.Lock()
        self._ended: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._silent_seconds = SILENT_SECONDS
        self._files_sent_at = 0.0
        self._fault_told = False

    # ---------------------------------------------------------------- life

    async def begin(self) -> None:
        """Say hello, prepare the node, and start to beat; never raises into Dask."""
        gpus = await asyncio.to_thread(seen_gpus)
        own = _has_own_gpu(self._worker)
        self._sees = {"gpus": gpus.told, "first_gpu_only": own, "missed_gpus": gpus.missed}
        answer = await self._hello(prepares=True)
        if "settings" not in answer:
            self.stopping = "kill"
            return
        self.settings = pickle.loads(answer["settings"])  # noqa: S301 - from our own scheduler plugin
        self.node = answer["node"]
        self._silent_seconds = answer["silent_seconds"]
        self._node_folder = await asyncio.to_thread(NodeFolder, self.run_id, node_key())
        self.folder = self._node_folder.own
        self.shipper = Shipper(self.acall, self.folder)
        self._beats = [asyncio.create_task(self._beat())]  # what follows may take long
        lacking = await asyncio.to_thread(self._lacking)
        if lacking:
            self.stopping = "kill"
            await self.acall("unfit", lacking=lacking)
            return
        try:
            told = await self._prepare(self._node_folder)
        except Over:
            return
        self.share_memory(self._worker.state.nthreads)
        self._prepared.set()
        if not self.stopping:
            self._beats += [asyncio.create_task(beat()) for beat in (self._ship, self._adopt)]
            await self.acall("prepared", told=told)

    def hurry(self) -> None:
        """The worker goes: do not go on to prepare."""
        self._leaves = True

    async def _hello(self, *, prepares: bool) -> dict[str, Any]:
        more = {"version": __version__, "prepares": prepares, **self._sees}
        return await self.acall("hello", node_key=node_key(), threads=self._worker.state.nthreads, **more)

    def _lacking(self) -> list[tuple[str, str, str]]:
        """What of the requirements does not hold in the Python that runs the script, and where it looks."""
        added = self.settings.environment.get("PYTHONPATH", "").split(os.pathsep)
        found = misfits(self.settings.requirements, [path for path in (*added, *sys.path) if path])
        return [(name, sendable_text(version), wanted) for name, version, wanted in found]

    async def _prepare(self, folder: NodeFolder) -> list[str]:
        """What came for it to the node, in words."""
        self.shared_output = await asyncio.to_thread(_seen_output, self.settings)
        self._prepare_cache(folder)
        self._prepare_monitor(folder)
        preparation = NodePreparation(self.acall, folder, lambda: self.stopping or self._leaves)
        if self.settings.source_digest is not None:
            self.source = await preparation.source(self.settings.source_digest)
        places = []
        for number, side_input in enumerate(self.settings.side_inputs, 1):
            place = await preparation.side_input(number, side_input)
            places += [(side_input.data, place)] if place != side_input.data else []
        self.side_inputs = tuple(sorted(places, key=lambda pair: -len(pair[0])))  # what lies deeper first
        return preparation.told

    def _prepare_cache(self, folder: NodeFolder) -> None:
        settings = self.settings
        if any(reader.in_cache for reader in settings.readers):
            self.cache_folder = folder.cache
            paths = tuple(path for path in sys.path if path)
            setup = FetcherSetup(settings.readers, str(folder.cache), settings.input_cache_size, paths)
            self.fetch_ahead = FetchAhead(folder.path, setup, self.environment("fetcher"))

    def _prepare_monitor(self, folder: NodeFolder) -> None:
        interval = self.settings.monitor_interval
        if interval:
            self._monitor = ResourceMonitor(folder.path, folder.own, interval, self.environment("monitor"))
            self.shipper.watch(monitor_files(folder.own, self.node))

    def stop(self, *, orderly: bool) -> None:
        """The scheduler ends the step run: end the processes, ship the last logs, say so."""
        if not self.stopping or (self.stopping == "orderly" and not orderly):
            first = not self.stopping
            self.stopping = "orderly" if orderly else "kill"
            self._stop.set()
            if first:
                self._tasks.append(asyncio.create_task(self._end()))

    async def _end(self) -> None:
        try:
            await self._lanes_ended()
            await self._ship_once(last=True)
            await self._adopt_once(last=True)
        finally:  # whatever has gone wrong, the scheduler waits for this
            for task in self._beats:
                task.cancel()
            await self.acall("stopped")

    async def _lanes_ended(self, why: str = OVER, shutdown_seconds: float = math.inf) -> None:
        """End the lanes, once, whoever asks for it and is cancelled meanwhile."""
        if self._ended is None:
            self._ended = asyncio.create_task(asyncio.to_thread(self._end_lanes, why, shutdown_seconds))
        await asyncio.shield(self._ended)

    def _end_lanes(self, why: str = OVER, shutdown_seconds: float = math.inf) -> None:
        """Wait for tasks to leave their lanes (at an orderly end there is nothing to do any more), and
        end the processes; a second call finds nothing left."""
        with self._ending:
            if self._monitor is not None:
                self._monitor.finish()
            until = time.monotonic() + BUSY_SECONDS
            while self._busy and time.monotonic() < until:
                time.sleep(0.01)
            if self._lanes:
                seconds = min(shutdown_seconds, self.settings.limits.shutdown_seconds)
                orderly = self.stopping == "orderly"
                ends = [partial(lane.stop, orderly=orderly, seconds=seconds, why=why) for lane in self._lanes]
                self._in_threads([*ends, *(family.close for family in self._abandoned)])
            for lane in self._lanes:
                lane.close()
            self._lanes.clear()
            if self.fetch_ahead is not None:
                self.fetch_ahead.close()
            if self._monitor is not None:
                self._monitor.close()

    def _in_threads(self, ends: Sequence[Callable[[], None]]) -> None:
        """End what there is, all at once; wait as long as shutdown() may take, or what was stored there is being
        sent."""
        threads = [threading.Thread(target=end, daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        most = self.settings.limits.shutdown_seconds + 15
        until = time.monotonic() + most
        while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
            for thread in threads:
                thread.join(0.05)
            if self._files_sent_at:
                until = max(until, self._files_sent_at + most)

    async def close(self) -> None:
        """The plugin is taken away: leave nothing behind."""
        alone = not self.stopping and self._prepared.is_set()  # the step run goes on elsewhere
        self.stopping = self.stopping or ("orderly" if alone and not self._busy else "kill")
        self._stop.set()
        if alone:
            await self._lanes_ended(TAKEN_AWAY, GIVEN_BACK_SECONDS)
            with self._logs_may_fail(), contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._last_words(), LAST_WORDS_SECONDS)
        leaving = self._leaving if self._leaving is not asyncio.current_task() else None
        for task in (*self._beats, *self._tasks, *([leaving] if leaving else ())):
            task.cancel()
        # Dask cancels this where the worker ends meanwhile, or whoever had asked for it is gone; a thread goes on.
        await asyncio.shield(self._loop.run_in_executor(None, self._leave_nothing))

    async def _last_words(self) -> None:
        await self.shipper.ship(last=True)
        async with self._adopting:  # what is being adopted may be removed with us
            pass

    def _leave_nothing(self) -> None:
        self._end_lanes()
        if self._node_folder is not None:
            self._node_folder.close()

    # ---------------------------------------------------------------- calls

    async def acall(self, call: str, **arguments: Any) -> dict[str, Any]:
        """A call to the scheduler plugin; repeated where the connection breaks."""
        if call != _NAMELESS:
            arguments["worker"] = self._worker.address
        for attempt in range(CALL_TRIES):
            try:
                answer: dict[str, Any] | None = await getattr(self._worker.scheduler, OP)(
                    run=self.run_id, call=call, **arguments
                )
            except OSError:
                await asyncio.sleep(0.1 * 2**attempt)
                continue
            if answer is None:  # what Dask answers to an op that it does not know: it was started anew
                answer = {"closed": True}
            if answer.get("closed"):
                self._closed()
            elif call == "last_file":
                self._files_sent_at = time.monotonic()
            return answer
        self._closed()
        return {"closed": True}

    def _closed(self) -> None:
        """The step run is over for the scheduler, or there is no scheduler: end at once, and take the plugin away."""
        self.stopping = self.stopping or "kill"
        self._stop.set()
        if self._leaving is None:
            self._leaving = self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        await self._lanes_ended()
        until = time.monotonic() + LEAVE_SECONDS
        while self._worker.status is not Status.closing and time.monotonic() < until:
            await asyncio.sleep(0.1)
        await self._take_plugin_away()

    async def _take_plugin_away(self) -> None:
        name = plugin_name(self.run_id)
        if name in self._worker.plugins:  # the scheduler did not reach this worker when it took the plugins away
            await self._worker.plugin_remove(name=name)

    def begin_call(self, call: str, **arguments: Any) -> Future[dict[str, Any]]:
        """The same from a lane's thread, without waiting."""
        return asyncio.run_coroutine_threadsafe(self.acall(call, **arguments), self._loop)

    def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        """The same from a lane's thread; nothing, where all is over and nobody answers."""
        answer = self.begin_call(call, **arguments)
        while True:
            try:
                return answer.result(1.0)
            except TimeoutError:
                if self.stopping == "kill":
                    answer.cancel()
                    return {}

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the step run goes on."""
        self._stop.wait(seconds)

    # ---------------------------------------------------------------- permits

    def run_permit(self, permit: int) -> None:
        """A Dask task: let a free lane work. In a thread of the worker."""
        while not self._prepared.wait(0.1):
            if self.stopping:
                return
        with self._lock:
            if self.stopping:
                return
            self._busy += 1
            if self._free:
                # One that has a process is served at once, and one that cannot start keeps nobody waiting.
                lane = next((free for free in self._free if free.process is not None), self._free[-1])
                self._free.remove(lane)
            else:
                lane = Lane(self, len(self._lanes))
                self._lanes.append(lane)
        try:
            lane.work(permit)
            lane.end_if_forgotten()
        except CancelledError:
            raise  # the worker's event loop has ended in the middle of a call, and with it all that is here
        except Exception:
            # Dask would only log it, and the same would happen again with the next permit, for ever.
            if not self.stopping:
                self.call("fault", where=f"lane {lane.index} of {self._worker.address}", text=traceback.format_exc())
            raise
        finally:
            with self._lock:
                self._free.append(lane)
                self._busy -= 1

    def environment(self, name: str, process: int | None = None, gpus: GpuShare | None = None) -> dict[str, str]:
        """Environment variables of a worker process with its GPU, or of a process that runs no user code."""
        own = {} if process is None else {"AZUREML_BI_OUTPUT_PATH": self._output_folder(process)}
        fixed = {"AZUREML_RUN_ID": self.settings.run_id, NAME_VARIABLE: name, **own}
        variables = {**inherited(os.environ), **fixed, **self.settings.environment, "PYTHONUNBUFFERED": "1"}
        return variables if gpus is None else gpu_variables(gpus, variables, self.settings.surplus_gpu_processes)

    @property
    def gpu_locks(self) -> GpuLocks:
        """Who holds the node's GPUs."""
        return GpuLocks(self.folder.parent)

    def _output_folder(self, process: int) -> str:
        return self.shared_output or str(self.folder / f"process{process:03d}" / "output")

    def give_back(self, lane: int) -> None:
        """The scheduler asks a lane for what it has not begun: another one is idle."""
        for one in list(self._lanes):
            if one.index == lane:
                one.give_back()

    def overtaken(self, lane: int, mini_batch: int) -> None:
        """The scheduler says that what a lane runs has succeeded elsewhere."""
        for one in list(self._lanes):
            if one.index == lane:
                one.overtaken(mini_batch)

    def share_memory(self, lanes: int) -> None:
        """What each process may use: as told, or its share of the worker's limit where that has so many lanes."""
        limit = self.settings.memory_limit
        if limit is None:
            limit = int((self._worker.memory_manager.memory_limit or 0) / max(1, lanes))
        more, self.memory_limit = limit > self.memory_limit, limit
        if more:  # a smaller share is for processes to come: those that run were promised theirs
            for lane in list(self._lanes):
                lane.limit_memory(limit)

    def abandon(self, family: ProcessFamily) -> None:
        """A reaper that is of no use any more, but may have children that do not die yet."""
        with self._lock:
            self._abandoned.append(family)

    # ---------------------------------------------------------------- beats

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            begun = [(lane.index, number) for lane in list(self._lanes) if (number := lane.under_way) is not None]
            try:
                alive = self.acall("alive", begun=begun, prepared=self._prepared.is_set())
                answer = await asyncio.wait_for(alive, self._silent_seconds)
            except TimeoutError:
                for lane in list(self._lanes):
                    lane.retreat()
                continue
            if answer.get("stop") and not self.stopping:
                self.stop(orderly=answer["stop"] == "orderly")
            elif not answer.get("known", True) and not self.stopping:
                await self._start_anew()

    async def _start_anew(self) -> None:
        """The scheduler has given this worker up. Work was handed out again, and what the lanes report is void; others
        may be about to use the GPUs of processes that are idle."""
        self.given_up += 1
        for lane in list(self._lanes):
            lane.drop()
        await asyncio.to_thread(self._end_forgotten)
        await self._hello(prepares=not self._prepared.is_set())

    def _end_forgotten(self) -> None:
        """Those of lanes at work end there."""
        with self._ending:
            with self._lock:
                idle, self._free = self._free, []
            self._in_threads([lane.end_if_forgotten for lane in idle])
            with self._lock:
                self._free += idle

    def log_process_error(self, process: int, doing: str, error: AttemptError) -> None:
        """Write what went wrong outside of mini-batches into the user's error log."""
        news = {"stream": "process_error", "doing": doing, "error": tuple(sendable(error))}
        self.shipper.tell({"node": self.node, "process": process, "time": time.time(), **news})

    def tell_of_process(self, process: int, event: str, *, pid: int = 0, seconds: float = 0.0, why: str = "") -> None:
        """An event of a process, see `prs_dask.logs.process_events`; it goes with the next pieces of log files."""
        ip, why = get_address_host(self._worker.address), sendable_text(why[:WHY_LETTERS])
        news = {"kind": "process", "event": event, "pid": pid, "ip": ip, "seconds": seconds, "why": why}
        self.shipper.tell({"node": self.node, "process": process, "time": time.time(), **news})

    async def _ship(self) -> None:
        while True:
            with self._logs_may_fail():
                if self._monitor is not None:
                    await asyncio.to_thread(self._monitor.tend)
            await asyncio.sleep(SHIP_SECONDS)
            if self._worker.status is Status.closing and self._leaving is None:
                # Dask may come to its plugins too late: a worker and its nanny that close at the same time wait for
                # each other until the nanny kills the worker, some seconds later.
                self._leaving = self._loop.create_task(self._take_plugin_away())
            await self._ship_once()

    async def _ship_once(self, *, last: bool = False) -> None:
        with self._logs_may_fail():
            await self.shipper.ship(last=last)

    async def _adopt(self) -> None:
        while True:
            await asyncio.sleep(SHIP_SECONDS)
            await self._adopt_once()

    async def _adopt_once(self, *, last: bool = False) -> None:
        async with self._adopting:  # the last time waits for the one that is under way
            with self._logs_may_fail():
                if self._node_folder is not None:
                    as_json = self.settings.logging_format == "json"
                    await Shipper.adopt(self.acall, self._node_folder, self.node, last=last, as_json=as_json)

    @contextlib.contextmanager
    def _logs_may_fail(self) -> Iterator[None]:
        """Nothing fails for it; it is told once, and tried again a second later."""
        try:
            yield
        except Exception:
            if not self._fault_told:
                self._fault_told = True
                self.shipper.tell_fault(f"worker {self._worker.address}: {traceback.format_exc()}")


def _seen_output(settings: WorkerSettings) -> str | None:
    """The step's output folder, where it is the driver's and not only one of the same name.

    Not where attempts are started twice: of two that store files at once only those of the one that counts may count.
    """
    if settings.limits.speculate:
        return None
    folder, mark = settings.output_folder, settings.output_mark
    return folder if folder and mark and os.path.isfile(mark) and os.access(folder, os.W_OK | os.X_OK) else None


def _has_own_gpu(worker: Worker) -> bool:
    """Was it started by dask-cuda, which puts the worker's own GPU first in its list and the others' behind it?"""
    return any(type(plugin).__module__.partition(".")[0] == "dask_cuda" for plugin in worker.plugins.values())

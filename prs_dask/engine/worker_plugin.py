"""The supervisor's shell on a Dask worker, and the task that Dask runs there."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from prs_dask.engine.run_settings import OP, plugin_name
from prs_dask.engine.supervisor import Supervisor

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["RunWorkerPlugin", "run_permit"]

BEGIN_SECONDS = 10.0

logger = logging.getLogger(__name__)

_supervisors: WeakKeyDictionary[Worker, dict[str, Supervisor]] = WeakKeyDictionary()


class RunWorkerPlugin(WorkerPlugin):
    """One step run on a worker. User code never runs here, nor does anything that may raise."""

    def __init__(self, run_id: str) -> None:
        self.name = plugin_name(run_id)
        self.run_id = run_id

    def setup(self, worker: Worker) -> None:
        supervisors = _supervisors.setdefault(worker, {})
        if OP not in worker.stream_handlers:
            worker.stream_handlers[OP] = _Receiver(worker).receive
        supervisor = supervisors[self.run_id] = Supervisor(worker, self.run_id)
        self._begun = asyncio.create_task(_begin(supervisor))

    async def teardown(self, worker: Worker) -> None:
        supervisor = _supervisors.get(worker, {}).pop(self.run_id, None)
        if supervisor is not None:
            supervisor.hurry()
            try:
                await asyncio.wait([self._begun], timeout=BEGIN_SECONDS)  # or what it makes would be left behind
            finally:
                await supervisor.close()


async def _begin(supervisor: Supervisor) -> None:
    try:
        await supervisor.begin()
    except Exception as error:
        logger.exception("step run %s cannot use this worker", supervisor.run_id)
        supervisor.stopping = "kill"
        await supervisor.acall(
            "unusable", error=f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
        )


class _Receiver:
    """The permanent op on a worker's stream: the scheduler plugin says ``stop``, or to a lane ``give_back`` or
    ``overtaken``."""

    def __init__(self, worker: Worker) -> None:
        self.supervisors = _supervisors.setdefault(worker, {})

    def receive(self, run: str = "", call: str = "", **arguments: Any) -> None:
        supervisor = self.supervisors.get(run)
        if supervisor is not None and call == "stop":
            supervisor.stop(orderly=bool(arguments.get("orderly")))
        elif supervisor is not None and call == "give_back":
            supervisor.give_back(arguments["lane"])
        elif supervisor is not None and call == "overtaken":
            supervisor.overtaken(arguments["lane"], arguments["mini_batch"])


def run_permit(run_id: str, permit: int) -> None:
    """What Dask runs: let one lane of this worker work on the step run for a while."""
    supervisor = _supervisors.get(get_worker(), {}).get(run_id)
    if supervisor is not None:
        supervisor.run_permit(permit)

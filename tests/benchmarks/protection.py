"""What it costs that nothing is lost: mini-batches of 10 ms with all protection, and with none, in turn.

The engine has no switches for it. Here its parts are replaced: no fsync, no journal, no manifest, no table of attempts
and no progress in the logs on the driver; on the workers no limits of time and memory are looked at and no logs are
shipped; worker processes do not tell what they are doing. What stays is what starts once for each process, the reaper
among it, and the order in which the driver does things.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import psutil
from distributed import Client

from prs_dask.attempts.records import unpack
from prs_dask.logs.tree import LogTree
from prs_dask.output.journal import JournalWriter
from prs_dask.output.manifest import ManifestWriter
from prs_dask.pipeline.recording import TreeRecorder
from prs_dask.report.writing import SWITCH
from tests.benchmarks.ours import run_step, two_workers
from tests.benchmarks.workloads import Synthetic

__all__ = ["protection"]

PAIRS = 5


def protection(scale: float) -> dict[str, Any]:
    """How much more it takes with all protection on than off: medians of pairs that were measured side by side.

    Where processes sleep, of time. Where they compute, of the processor's time too: what all processes of the step run
    use beside `run()`, on less off, as a share of what `run()` uses. However much the machine does besides, it is that
    which computing loses.
    """
    figure: dict[str, Any] = {"mini_batches": int(600 * scale), "pairs": PAIRS}
    # The report is no protection, and there is less to draw without a table of attempts.
    with two_workers() as client, mock.patch.dict(os.environ, {SWITCH: "0"}):
        for script in ("sleep.py", "compute.py"):
            _cost(client, script, 50)
            pairs = [_pair(client, script, int(600 * scale), on_first=bool(number % 2)) for number in range(PAIRS)]
            name = script.removesuffix(".py")
            _tell(figure, f"{name}_percent_more", [on.seconds / off.seconds - 1 for on, off in pairs])
            if script == "compute.py":
                _tell(figure, "compute_percent_of_processor", [(on.beside - off.beside) / off.run for on, off in pairs])
    return figure


def _tell(figure: dict[str, Any], name: str, shares: list[float]) -> None:
    figure[name] = round(100 * statistics.median(shares), 1)
    figure[f"{name}_all"] = [round(100 * share, 1) for share in sorted(shares)]


class Cost(NamedTuple):
    """Seconds of a step run; of the processor in ``run()``, and beside it in all processes that belong to it."""

    seconds: float
    run: float
    beside: float


def _pair(client: Client, script: str, count: int, *, on_first: bool) -> tuple[Cost, Cost]:
    if on_first:
        on = _cost(client, script, count)
    with _unprotected(client):
        off = _cost(client, script, count)
    if not on_first:
        on = _cost(client, script, count)
    return on, off


def _cost(client: Client, script: str, count: int) -> Cost:
    inputs = Synthetic(paths=("/data",), seconds=(0.01,) * count)
    processes = [psutil.Process(), *map(psutil.Process, client.run(os.getpid).values())]
    in_run: list[float] = []
    attempts = TreeRecorder.attempts

    def noted(self: TreeRecorder, node: int, process: int, records: bytes, *others: Any) -> None:
        in_run.extend(record.cpu for record in unpack(records))
        attempts(self, node, process, records, *others)

    def used() -> float:
        """By those that have ended too."""
        return sum(sum(process.cpu_times()[:4]) for process in processes)

    before = used()
    with mock.patch.object(TreeRecorder, "attempts", noted):
        summary, _ = run_step(script, inputs, client)
    assert summary.rows == len(in_run) == count
    return Cost(summary.seconds, sum(in_run), used() - before - sum(in_run))


@contextlib.contextmanager
def _unprotected(client: Client) -> Iterator[None]:
    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731 - what parts are replaced by
    parts: list[tuple[object, str]] = [
        (os, "fsync"),
        *((JournalWriter, name) for name in ("inputs", "commit")),
        *((ManifestWriter, name) for name in ("append", "end", "sync")),
        *((LogTree, name) for name in ("add_attempts", "progress", "tick")),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(mock.patch.object(owner, name, nothing))
        client.run(_take_away)
        stack.callback(client.run, _give_back)
        yield


_BEFORE: dict[str, Any] = {}
"""On a worker: what was there before."""


def _take_away() -> None:
    """On a worker: neither limits nor logs, and processes that say nothing of what they do."""
    import asyncio

    from prs_dask.engine.lane import Lane
    from prs_dask.engine.supervisor import Supervisor
    from prs_dask.worker_process import launch

    async def rest(self: Supervisor) -> None:
        await asyncio.Event().wait()

    def look_later(self: Lane, now: float) -> None:
        self._heard_at, self._look_at = now, now + 3600.0

    _BEFORE.update(ship=Supervisor._ship, look=Lane._look_later, bootstrap=launch._BOOTSTRAP)
    _BEFORE.update(memory=Supervisor.share_memory)
    Supervisor._ship = rest  # type: ignore[method-assign]
    Supervisor.share_memory = lambda *_: None  # type: ignore[assignment, method-assign]
    Lane._look_later = look_later  # type: ignore[method-assign]
    silent = (
        "from prs_dask.worker_process.phase import PhasePage; PhasePage.write = lambda *_: None; from prs_dask.worker"
    )
    launch._BOOTSTRAP = launch._BOOTSTRAP.replace("from prs_dask.worker", silent)


def _give_back() -> None:
    """On a worker: all as it was."""
    from prs_dask.engine.lane import Lane
    from prs_dask.engine.supervisor import Supervisor
    from prs_dask.worker_process import launch

    Supervisor._ship, Supervisor.share_memory = _BEFORE["ship"], _BEFORE["memory"]  # type: ignore[method-assign]
    Lane._look_later = _BEFORE["look"]  # type: ignore[method-assign]
    launch._BOOTSTRAP = _BEFORE["bootstrap"]

"""What it costs that nothing is lost: mini-batches of 10 ms with all protection, and with none, in turn.

The engine has no switches for it. Here its parts are replaced: no fsync, no journal, no manifest, no table of attempts
and no progress in the logs on the driver; on the workers no limits of time and memory are looked at and no logs are
shipped; worker processes do not tell what they are doing. What stays is what starts once for each process, the reaper
among it, and the order in which the driver does things.
"""

from __future__ import annotations

import os
from functools import partial
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
from tests.benchmarks.taken_away import PAIRS, in_pairs, nothing, replace_here, ship_nothing, taken_away, tell_percent
from tests.benchmarks.workloads import Synthetic

__all__ = ["protection"]


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
            job = (client, script, int(600 * scale))
            pairs = in_pairs(partial(_cost, *job), partial(_unprotected, *job))
            name = script.removesuffix(".py")
            tell_percent(figure, f"{name}_percent_more", [on.seconds / off.seconds - 1 for on, off in pairs])
            if script == "compute.py":
                tell_percent(
                    figure, "compute_percent_of_processor", [(on.beside - off.beside) / off.run for on, off in pairs]
                )
    return figure


class Cost(NamedTuple):
    """Seconds of a step run; of the processor in ``run()``, and beside it in all processes that belong to it."""

    seconds: float
    run: float
    beside: float


def _cost(client: Client, script: str, count: int) -> Cost:
    inputs = Synthetic(seconds=(0.01,) * count)
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


def _unprotected(client: Client, script: str, count: int) -> Cost:
    parts: list[tuple[object, str]] = [
        (os, "fsync"),
        *((JournalWriter, name) for name in ("inputs", "commit")),
        *((ManifestWriter, name) for name in ("append", "end", "sync")),
        *((LogTree, name) for name in ("add_attempts", "progress", "tick")),
    ]
    with taken_away(client, [(owner, name, nothing) for owner, name in parts], _protect_nothing):
        return _cost(client, script, count)


def _protect_nothing() -> None:
    """On a worker: neither limits nor logs, and processes that say nothing of what they do."""
    from prs_dask.engine.lane import Lane
    from prs_dask.engine.supervisor import Supervisor
    from prs_dask.worker_process import launch

    def look_later(self: Lane, now: float) -> None:
        self._heard_at, self._look_at = now, now + 3600.0

    ship_nothing()
    replace_here(Supervisor, "share_memory", nothing)
    replace_here(Lane, "_look_later", look_later)
    silent = (
        "from prs_dask.worker_process.phase import PhasePage; PhasePage.write = lambda *_: None; from prs_dask.worker"
    )
    replace_here(launch, "_BOOTSTRAP", launch._BOOTSTRAP.replace("from prs_dask.worker", silent))

"""What the logs cost: mini-batches of 10 ms and of nothing, with all logs and with none, in turn.

The engine has no switch for its logs. Here they are taken away: on the driver nothing is written below ``logs/`` and
nothing formatted for it, on the workers nothing is shipped, no process of a node measures it. What stays is what has to
be there to begin with: stdout and stderr of a process are files on its node, and an attempt is timed.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from distributed import Client

from prs_dask.engine import submission
from prs_dask.logs.tree import LogTree
from prs_dask.report.writing import SWITCH
from tests.benchmarks.ours import run_step, two_workers
from tests.benchmarks.taken_away import PAIRS, Part, in_pairs, nothing, ship_nothing, taken_away, tell_percent
from tests.benchmarks.workloads import Synthetic

__all__ = ["log_cost"]

MONITOR = ("--resource_monitor_interval", "5")


def log_cost(scale: float) -> dict[str, Any]:
    """How much more it takes with all logs and a monitor than with none; and bytes of logs a mini-batch."""
    jobs = {
        "sleep_10_ms": ("sleep.py", Synthetic(seconds=(0.01,) * int(1000 * scale))),
        "no_op": ("no_op.py", Synthetic(count=int(50_000 * scale))),
    }
    figure: dict[str, Any] = {"pairs": PAIRS}
    # The report is written behind the end of a step run, and is none of its logs.
    with two_workers() as client, mock.patch.dict(os.environ, {SWITCH: "0"}):
        for name, (script, inputs) in jobs.items():
            _cost(client, script, Synthetic(count=500) if script == "no_op.py" else inputs, MONITOR)
            sizes: list[int] = []
            pairs = in_pairs(
                partial(_cost, client, script, inputs, MONITOR, sizes), partial(_bare, client, script, inputs)
            )
            count = inputs.count or len(inputs.seconds)
            figure[f"{name}_mini_batches"] = count
            tell_percent(figure, f"{name}_percent_more", [on.seconds / off.seconds - 1 for on, off in pairs])
            on, off = zip(*pairs, strict=True)
            figure |= {
                f"{name}_per_second": [round(count / _median("seconds", side)) for side in (on, off)],
                f"{name}_driver_us_each": [round(1e6 * _median("driver", side) / count, 1) for side in (on, off)],
                f"{name}_log_bytes_each": round(statistics.median(sizes) / count),
            }
    return figure


class Cost(NamedTuple):
    """Seconds of a step run; of the processor in this process, which is driver and client."""

    seconds: float
    driver: float


def _median(name: str, costs: Sequence[Cost]) -> float:
    return statistics.median(getattr(one, name) for one in costs)


def _cost(
    client: Client, script: str, inputs: Synthetic, arguments: tuple[str, ...], sizes: list[int] | None = None
) -> Cost:
    def look(run_folder: Path) -> None:
        if sizes is not None:
            sizes.append(sum(path.stat().st_size for path in (run_folder / "logs").rglob("*") if path.is_file()))

    before = time.process_time()
    summary, _ = run_step(script, inputs, client, arguments=arguments, look=look)
    assert summary.state == "Completed"
    return Cost(summary.seconds, time.process_time() - before)


def _bare(client: Client, script: str, inputs: Synthetic) -> Cost:
    """Without logs."""
    writers = [name for name in vars(LogTree) if name.startswith(("add_", "progress", "tick", "driver", "scheduler"))]
    undescribed: Callable[..., Any] = lambda mini_batch, descriptor: (mini_batch.items, descriptor, "")  # noqa: E731
    parts: list[Part] = [(submission, "_listed", undescribed), *((LogTree, name, nothing) for name in writers)]
    with taken_away(client, parts, ship_nothing):
        return _cost(client, script, inputs, ("--resource_monitor_interval", "0"))

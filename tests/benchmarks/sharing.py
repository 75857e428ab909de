"""Two step runs at once on one cluster: does each get its half?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distributed import Client, LocalCluster

from tests.benchmarks.ours import run_step
from tests.benchmarks.workloads import Synthetic

__all__ = ["two_step_runs"]


def two_step_runs(scale: float) -> dict[str, Any]:
    """Two step runs at once on two workers, each against itself alone on one of them; both of 20 s, and one of 5 s."""
    long, short = (Synthetic(seconds=(0.02,) * int(count * scale)) for count in (1000, 250))
    alone = {name: _alone(inputs) for name, inputs in (("long", long), ("short", short))}
    both = _at_once(long, long)
    unequal = _at_once(long, short)
    return {
        "alone_seconds": round(alone["long"], 2),
        "both_seconds": [round(seconds, 2) for seconds in both],
        "times_alone": round(max(both) / alone["long"], 2),
        "short_alone_seconds": round(alone["short"], 2),
        "short_beside_long_seconds": round(unequal[1], 2),
        "short_times_alone": round(unequal[1] / alone["short"], 2),
        "long_beside_short_times_alone": round(unequal[0] / alone["long"], 2),
    }


def _cluster(workers: int) -> LocalCluster:
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


def _alone(inputs: Synthetic) -> float:
    with _cluster(1) as cluster, Client(cluster, set_as_default=False) as client:
        run_step("sleep.py", Synthetic(seconds=(0.01,) * 10), client)
        return _seconds(inputs, client)


def _at_once(*all_inputs: Synthetic) -> list[float]:
    with _cluster(2) as cluster, Client(cluster, set_as_default=False) as client:
        run_step("sleep.py", Synthetic(seconds=(0.01,) * 10), client)
        with ThreadPoolExecutor(len(all_inputs)) as pool:
            return list(pool.map(lambda inputs: _seconds(inputs, client), all_inputs))


def _seconds(inputs: Synthetic, client: Client) -> float:
    begun = time.perf_counter()
    run_step("sleep.py", inputs, client)
    return time.perf_counter() - begun

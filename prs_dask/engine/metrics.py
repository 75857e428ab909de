"""Step runs on the scheduler's own ``/metrics`` page, for Prometheus; where prometheus-client is installed there.

Dask's scheduler shows what the registry of its process has. One collector stands there for all step runs of the
process, from the first to the last; it looks at the judges when it is asked, and costs nothing in between.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prs_dask.attempts.judge import Counts

__all__ = ["Measured", "show", "show_no_more"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is shown of one step run."""

    counts: Counts
    lanes: int
    nodes: int


class _Collector:
    """See the module."""

    def __init__(self) -> None:
        self.runs: dict[str, Callable[[], Measured]] = {}

    def describe(self) -> list[Any]:
        """Nothing, so that registering it does not collect."""
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        mini_batches = GaugeMetricFamily(
            "prs_dask_mini_batches", "Mini-batches of a step run by state.", labels=["run", "state"]
        )
        items = GaugeMetricFamily(
            "prs_dask_items", "Items of mini-batches that ended, by what became of them.", labels=["run", "state"]
        )
        attempts = CounterMetricFamily("prs_dask_attempts", "Tries of mini-batches.", labels=["run"])
        lanes = GaugeMetricFamily("prs_dask_lanes", "Lanes that work on a step run.", labels=["run"])
        nodes = GaugeMetricFamily("prs_dask_nodes", "Nodes that work on a step run.", labels=["run"])
        for run, measure in list(self.runs.items()):
            with contextlib.suppress(Exception):  # it ends just now; the page is Dask's, and stays whole
                found = measure()
                counts = found.counts
                for state in ("queued", "running", "succeeded", "failed"):
                    mini_batches.add_metric([run, state], getattr(counts, state))
                items.add_metric([run, "succeeded"], counts.succeeded_items)
                items.add_metric([run, "failed"], counts.failed_items)
                attempts.add_metric([run], counts.attempts)
                lanes.add_metric([run], found.lanes)
                nodes.add_metric([run], found.nodes)
        yield from (mini_batches, items, attempts, lanes, nodes)


_collector = _Collector()
_lock = threading.Lock()


def show(run: str, measure: Callable[[], Measured]) -> bool:
    """Show a step run from now on; False where prometheus-client is not installed."""
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return False
    with _lock:
        if not _collector.runs:
            REGISTRY.register(_collector)
        _collector.runs[run] = measure
    return True


def show_no_more(run: str) -> None:
    """It has ended; with the last one nothing of ours stays on the page."""
    with _lock:
        if _collector.runs.pop(run, None) is not None and not _collector.runs:
            from prometheus_client import REGISTRY

            REGISTRY.unregister(_collector)

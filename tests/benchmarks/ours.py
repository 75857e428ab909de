"""prs_dask on a workload, by its public API."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from prs_dask import ParallelRunConfig, ParallelRunStep, TabularDataset
from prs_dask.logs.summary import StepSummary
from tests.benchmarks.workloads import Synthetic

__all__ = ["SCRIPTS", "run_step", "two_workers"]

SCRIPTS = Path(__file__).parent / "scripts"


@contextmanager
def two_workers() -> Iterator[Client]:
    """Two worker processes of one thread, for prs_dask and for Dask alone."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run_step(
    script: str,
    inputs: Synthetic | TabularDataset,
    target: Any = "local",
    *,
    rows: list[str] | None = None,
    arguments: Sequence[str] = (),
    look: Callable[[Path], None] = lambda _: None,
    **settings: Any,
) -> tuple[StepSummary, float]:
    """The summary, and the seconds from submit to the end; ``rows`` is filled with the output's, ``look`` gets the
    run folder."""
    with tempfile.TemporaryDirectory() as folder:
        config = ParallelRunConfig(
            entry_script=SCRIPTS / script,
            error_threshold=-1,
            output_action="append_row",
            process_count_per_node=2,
            **settings,
        )
        step = ParallelRunStep("benchmark", config, [inputs], Path(folder) / "output", arguments=arguments)
        begun = time.perf_counter()
        step_run = step.submit(run_folder=Path(folder) / "run", compute_target=target)
        step_run.wait_for_completion()
        seconds = time.perf_counter() - begun
        look(Path(folder) / "run")
        if rows is not None:
            rows += (Path(folder) / "output" / "parallel_run_step.txt").read_text().splitlines()
        return step_run.summary(), seconds

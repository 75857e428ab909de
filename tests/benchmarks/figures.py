"""One function a figure; each returns what is printed as a JSON line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.cache import full_cache
from tests.benchmarks.fresh_process import in_fresh_process, peak_mib
from tests.benchmarks.inputs import plan_as_lines, plan_in_a_store, read_csv, scan_quotes
from tests.benchmarks.judging import many_workers
from tests.benchmarks.logs import log_cost
from tests.benchmarks.many_files import small_files
from tests.benchmarks.ours import SCRIPTS, run_step, two_workers
from tests.benchmarks.peers import client_map, pool_imap, windowed_client_map
from tests.benchmarks.protection import protection
from tests.benchmarks.pulled_plug import pulled_plug
from tests.benchmarks.report import report
from tests.benchmarks.sharing import two_step_runs
from tests.benchmarks.workloads import Synthetic, list_schedule, lognormal_seconds, slow_stretch_seconds

__all__ = ["FIGURES"]

Figure = dict[str, Any]


def no_op(scale: float) -> Figure:
    """No-op mini-batches a second, against Dask alone and multiprocessing in the same run."""
    ours_count, peer_count = int(100_000 * scale), int(20_000 * scale)
    with two_workers() as client:
        run_step("no_op.py", Synthetic(count=2000), client)
        summary, _ = run_step("no_op.py", Synthetic(count=ours_count), client)
        ours = summary.succeeded_mini_batches / summary.seconds
        windowed = windowed_client_map(client, int(5000 * scale))
        mapped = client_map(client, int(5000 * scale))
    pool = pool_imap(peer_count)
    return {
        "mini_batches": ours_count,
        "per_second": round(ours),
        "windowed_client_map": round(windowed),
        "client_map": round(mapped),
        "pool_imap_unordered": round(pool),
        "times_windowed_client_map": round(ours / windowed, 1),
        "times_pool": round(ours / pool, 2),
    }


def million(scale: float) -> Figure:
    """A million no-op mini-batches, and how much memory driver and scheduler (one process) grow by."""
    count = int(1_000_000 * scale)
    small = in_fresh_process(measured, "no_op.py", int(10_000 * scale))
    large = in_fresh_process(measured, "no_op.py", count)
    return {
        "mini_batches": count,
        "seconds": large["seconds"],
        "per_second": round(count / large["seconds"]),
        "peak_mib_10k": small["peak_mib"],
        "peak_mib": large["peak_mib"],
        "growth_mib": round(large["peak_mib"] - small["peak_mib"], 1),
    }


def measured(script: str, count: int) -> Figure:
    """In a process of its own: seconds, and the highest resident memory of driver and scheduler."""
    summary, _ = run_step(script, Synthetic(count=count))
    return {"seconds": round(summary.seconds, 2), "peak_mib": peak_mib()}


def _efficiency(seconds: tuple[float, ...], ideal: float) -> Figure:
    """On the local target; ``percent_asleep`` is what time.sleep(), never quite in time, took of both processes."""
    rows: list[str] = []
    summary, _ = run_step("sleep.py", Synthetic(seconds=seconds), rows=rows)
    return {
        "mini_batches": len(seconds),
        "seconds": round(summary.seconds, 3),
        "ideal": round(ideal, 3),
        "percent_of_ideal": round(100 * ideal / summary.seconds, 1),
        "percent_asleep": round(50 * sum(map(float, rows)) / summary.seconds, 1),
    }


def sleep_10_ms(scale: float) -> Figure:
    """2,000 mini-batches of 10 ms on two processes."""
    seconds = (0.01,) * int(2000 * scale)
    return _efficiency(seconds, sum(seconds) / 2)


def sleep_100_ms(scale: float) -> Figure:
    """200 mini-batches of 100 ms on two processes, the tail included."""
    seconds = (0.1,) * int(200 * scale)
    return _efficiency(seconds, sum(seconds) / 2)


def lognormal(scale: float) -> Figure:
    """300 of lognormal length against greedy list scheduling in the same order."""
    seconds = lognormal_seconds(int(300 * scale))
    return _efficiency(seconds, list_schedule(seconds))


def stragglers(scale: float) -> Figure:
    """300 of lognormal length of which one hangs in the first process that runs it, with second attempts and without;
    and what these cost where none hangs. Medians of three, measured in turn."""
    seconds = lognormal_seconds(int(300 * scale))
    ideal, limit = list_schedule(seconds), 20.0

    def took(*, hangs: bool, speculate: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            mark = Path(folder) / "mark"
            if not hangs:
                mark.touch()
            summary, _ = run_step(
                "hang_once.py",
                Synthetic(seconds=seconds),
                run_invocation_timeout=limit,
                speculative_attempts=speculate,
                environment_variables={"BENCHMARK_MARK": str(mark), "BENCHMARK_HANGS": str(len(seconds) // 2)},
            )
        return summary.seconds

    cases = {
        name: {"hangs": "hangs" in name, "speculate": "with" in name}
        for name in ("alike_off", "alike_with", "hangs_off", "hangs_with")
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(3):
        for name, case in cases.items():
            found[name].append(took(**case))
    medians = {name: median(times) for name, times in found.items()}
    return {
        "mini_batches": len(seconds),
        "ideal": round(ideal, 2),
        "limit": limit,
        **{f"seconds_{name}": round(one, 2) for name, one in medians.items()},
        "times_faster_where_one_hangs": round(medians["hangs_off"] / medians["hangs_with"], 2),
        "percent_more_where_none_hangs": round(100 * (medians["alike_with"] / medians["alike_off"] - 1), 1),
    }


def slow_stretch(scale: float) -> Figure:
    """60 of 100 ms in a row among 6,000 quick ones, whose own cost is measured in the same run."""
    seconds = slow_stretch_seconds(int(6000 * scale), int(60 * scale))
    with two_workers() as client:
        run_step("sleep.py", Synthetic(seconds=(0.0,) * 200), client)
        quick, _ = run_step("sleep.py", Synthetic(seconds=(0.0,) * int(6000 * scale)), client)
        summary, _ = run_step("sleep.py", Synthetic(seconds=seconds), client)
    ideal = sum(seconds) / 2 + quick.seconds
    return {
        "mini_batches": len(seconds),
        "seconds": round(summary.seconds, 3),
        "ideal": round(ideal, 3),
        "percent_of_ideal": round(100 * ideal / summary.seconds, 1),
    }


def csv_scoring(scale: float) -> Figure:
    """A table of ten columns scored by a linear model, against pandas in one process."""
    import numpy as np
    import pandas as pd

    from prs_dask import TabularDataset

    rows = int(400_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table = pd.DataFrame(np.random.default_rng(1).normal(size=(rows, 10)).round(6))
        table.columns = pd.Index([f"c{index}" for index in range(10)])
        table.to_csv(path, index=False)
        size = path.stat().st_size
        with two_workers() as client:
            dataset = TabularDataset.from_delimited_files(path)
            summary, _ = run_step("score_table.py", dataset, client, mini_batch_size="4MB")
        begun = time.perf_counter()
        weights = np.linspace(-1, 1, 10)
        scores = pd.read_csv(path).to_numpy() @ weights
        (Path(folder) / "scores.txt").write_text("\n".join(f"{score:.6f}" for score in scores))
        alone = time.perf_counter() - begun
    return {
        "rows": summary.rows,
        "megabytes": round(size / 1e6, 1),
        "seconds": round(summary.seconds, 2),
        "megabytes_per_second": round(size / 1e6 / summary.seconds, 1),
        "pandas_one_process_seconds": round(alone, 2),
        "times_pandas_one_process": round(alone / summary.seconds, 2),
    }


def first_row(scale: float) -> Figure:
    """Seconds from the start of ``prs-dask run`` to the first row on disk, on a local target."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for number in range(100):
            (folder / "data" / f"{number}.txt").write_text("x")
        partial = folder / "output" / "parallel_run_step.txt.partial"
        command = [sys.executable, "-m", "prs_dask", "run", "--entry-script", str(SCRIPTS / "no_op.py")]
        command += [
            "--input",
            str(folder / "data"),
            "--output",
            str(folder / "output"),
            "--output-action",
            "append_row",
        ]
        command += ["--mini-batch-size", "1", "--process-count-per-node", "2", "--run-folder", str(folder / "run")]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            first = None
            while process.poll() is None and first is None:
                for path in (partial, partial.with_suffix("")):
                    if path.exists() and path.stat().st_size:
                        first = time.perf_counter() - begun
                time.sleep(0.005)
            process.wait()
            whole = time.perf_counter() - begun
    return {"seconds": None if first is None else round(first, 2), "whole_command_seconds": round(whole, 2)}


def stuck_process(scale: float) -> Figure:
    """A run() that holds the GIL for ever: seconds from its limit until the new process is initialised."""
    limit = 2.0
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        run_step(
            "stuck.py",
            Synthetic(seconds=(0.0,) + (0.02,) * 300),  # more than the other process does until then
            run_invocation_timeout=limit,
            run_max_try=1,
            environment_variables={"BENCHMARK_NOTES": str(notes)},
        )
        told = [line.split() for line in notes.read_text().splitlines()]
    stuck = next(float(when) for word, when in told if word == "stuck")
    replaced = min(float(when) for word, when in told if word == "init" and float(when) > stuck + limit)
    return {"limit": limit, "seconds_after_limit": round(replaced - stuck - limit, 3)}


FIGURES: dict[str, Callable[[float], Figure]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        no_op,
        million,
        sleep_10_ms,
        sleep_100_ms,
        lognormal,
        stragglers,
        slow_stretch,
        csv_scoring,
        first_row,
        stuck_process,
        protection,
        log_cost,
        report,
        many_workers,
        scan_quotes,
        plan_as_lines,
        plan_in_a_store,
        read_csv,
        small_files,
        full_cache,
        pulled_plug,
        two_step_runs,
    )
}

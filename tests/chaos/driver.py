"""``python -m tests.chaos.driver FOLDER NUMBER``: submits the step of a plan, or resumes it, and says how it went.

It is the user's program: a process of its own, so that it can be killed. What it writes beside the
run folder, ``driver-<number>.json``, holds what nobody can see from outside: which descriptors and
threads the step run has left in the process.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, PrsError, TabularDataset
from prs_dask.datasets import Dataset
from tests.chaos.plans import Plan, from_json

PATIENCE = 10.0
OVERHEAD_SECONDS = 15.0
PROGRESS_SECONDS = 90.0
PERMANENT_THREADS = ("Dask-Offload", "Dask-Default-Threads", "TCP-Executor", "Profile", "asyncio_", "fsspecIO")


def step_of(plan: Plan, folder: Path) -> ParallelRunStep:
    """The step of a plan."""
    work, settings = plan.workload, plan.settings
    secret, environment_secret = plan.canaries
    config = ParallelRunConfig(
        entry_script=str(Path(__file__).with_name("score.py")),
        mini_batch_size=1 if work.kind == "parquet" else work.size,
        error_threshold=settings.error_threshold,
        allowed_failed_count=settings.allowed_failed_count,
        output_action=settings.action,
        append_row_order=settings.order,
        run_invocation_timeout=settings.run_seconds,
        run_max_try=settings.run_max_try,
        process_count_per_node=plan.lanes,
        on_failed_mini_batch="bisect" if settings.bisect else "fail",
        speculative_attempts=settings.speculate,
        memory_limit_per_process="700MB",
        environment_variables={"CHAOS_SECRET": environment_secret},
    )
    arguments = [
        str(folder / "traces"), str(folder / "poisons.json"), str(folder / "inits"), str(work.pause),
        "--task_overhead_timeout", str(OVERHEAD_SECONDS),
        "--init_timeout", str(plan.init_seconds),
        "--progress_update_timeout", str(PROGRESS_SECONDS),
    ]  # fmt: skip
    dataset = _dataset(work.kind, folder / "data", {"account_key": secret})
    return ParallelRunStep("chaos", config, dataset, output=folder / "disk" / "out", arguments=arguments)


def _dataset(kind: str, data: Path, options: dict[str, str]) -> Dataset:
    if kind == "files":
        return FileDataset.from_files(data, storage_options=options)
    if kind == "parquet":
        return TabularDataset.from_parquet_files(data, storage_options=options)
    return TabularDataset.from_delimited_files(data, storage_options=options)


def _standing() -> set[str]:
    """Descriptors and threads, by what they are."""
    found = {f"thread {thread.name}" for thread in threading.enumerate()}
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"descriptor {name}: {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return {one for one in found if not one.startswith(tuple(f"thread {name}" for name in PERMANENT_THREADS))}


def _left(before: set[str]) -> list[str]:
    end = time.monotonic() + PATIENCE
    while (left := _standing() - before) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    return sorted(left)


def _end(plan: Plan, folder: Path) -> dict[str, Any]:
    run_folder = folder / "disk" / "run"
    target = "local" if plan.cluster == "local" else str(folder / "scheduler.json")
    try:
        step = step_of(plan, folder)
        if (run_folder / "run.json").exists():
            run = step.submit(resume=run_folder, retry_failed=plan.retry_failed, compute_target=target)
        else:
            run = step.submit(run_folder=run_folder, compute_target=target)
    except PrsError as error:
        return {"state": "Refused", "error": str(error)}
    state = run.wait_for_completion(raise_on_error=False)
    summary = run.summary()
    counts = {name: getattr(summary, name) for name in summary.__dataclass_fields__}
    return {"state": state, "error": run.error, "summary": counts}


def main(folder: Path, number: int) -> int:
    """Submit or resume, wait, and tell; the exit code is that of the command line."""
    plan = from_json((folder / "plan.json").read_text())
    resource_tracker.ensure_running()
    import pyarrow.csv

    pyarrow.csv.read_csv(io.BytesIO(b"a\n1\n"))  # opened once in a process, until its end, on first use
    before = _standing()
    end = _end(plan, folder)
    gc.collect()
    end["left"] = _left(before)
    path = folder / f"driver-{number}.json"
    path.with_suffix(".new").write_text(json.dumps(end, indent=1))
    path.with_suffix(".new").rename(path)
    return {"Completed": 0, "Refused": 2}.get(end["state"], 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))

"""The report of very many mini-batches: what it takes, how large it is, and whether it has counted every attempt."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prs_dask.attempts.records import AttemptError, Category
from prs_dask.logs import places
from prs_dask.logs.roll_up import RECORD, RollUp
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.logs.tree import LogTree
from prs_dask.report.contents import Contents, gather
from prs_dask.report.run_reading import read_run
from prs_dask.report.writing import write_report
from tests.benchmarks.fresh_process import in_fresh_process, peak_mib

__all__ = ["report"]

NODES, PROCESSES = 2, 16
BLOCK = 10_000
BEGUN = 1_767_225_600.0


def report(scale: float) -> dict[str, Any]:
    """A run folder with a million mini-batches in its tables; one in 50 is tried again, one in 1,000 fails for good."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        records = _records(int(1_000_000 * scale))
        _write(folder, records)
        table = (folder.logs / places.ATTEMPTS).stat().st_size
        made = in_fresh_process(made_report, str(folder.path))
        exact = _counts(gather(read_run(folder.path))) == _expected(records)
        succeeded = f"Of {np.count_nonzero(records['category'] == 0):,} attempts that succeeded"
        exact = exact and succeeded in folder.report.read_text()
    return {
        "attempts": len(records),
        "table_megabytes": round(table / 1e6, 1),
        **made,
        "counts_are_exact": exact,
    }


def made_report(path: str) -> dict[str, Any]:
    """In a process of its own."""
    before, begun = peak_mib(), time.perf_counter()
    page = write_report(Path(path))
    return {
        "seconds": round(time.perf_counter() - begun, 2),
        "processor_seconds": round(time.process_time(), 2),
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
        "page_megabytes": round(page.stat().st_size / 1e6, 2),
    }


def _records(count: int) -> NDArray[np.void]:
    """Attempts in the order in which they ended."""
    numbers = np.arange(count)
    records = np.zeros(count, RECORD)
    records["mini_batch"], records["attempt"], records["final"] = numbers, 1, 1
    records["items"] = numbers % 7 + 1
    records["elapsed"] = 0.01 + numbers % 97 / 1e4
    records["read"], records["run"], records["cpu"] = 0.001, records["elapsed"] - 0.002, 0.005
    failed = numbers % 50 == 1
    records["category"][failed] = Category.EXCEPTION
    records["results"] = np.where(failed, 0, records["items"])
    again = records[failed & (numbers % 1000 != 1)].copy()
    records["final"][again["mini_batch"]] = 0
    again["attempt"], again["category"], again["results"] = 2, 0, again["items"]
    records = np.concatenate([records, again])
    records["started"] = BEGUN + np.arange(len(records)) * 0.001
    return records


def _process(block: int) -> tuple[int, int]:
    return block % NODES, block % PROCESSES


def _write(folder: RunFolder, records: NDArray[np.void]) -> None:
    folder.logs.mkdir(parents=True)
    folder.write_record({"name": "million", "created": "2026-01-01T00:00:00Z"})
    tree = LogTree(folder.logs)
    for block, at in enumerate(range(0, len(records), BLOCK)):
        some = records[at : at + BLOCK]
        details = {number: f"/data/images/{number:07d}.png" for number in some["mini_batch"].tolist()}
        bad = some["mini_batch"][some["category"] != 0].tolist()
        errors = {number: AttemptError("ValueError", f"item {number} is bad", "Traceback", "x.py:3") for number in bad}
        tree.add_attempts(*_process(block), some.tobytes(), details, errors)
    told = _expected(records)
    succeeded, failed, _, items, failed_items = told["sums"]
    counts = (succeeded + failed, succeeded, failed, items, items - failed_items, failed_items, len(records), items)
    tree.finish(StepSummary("Completed", *counts, 1000.0, 1000.0), BEGUN + 1100.0)


def _counts(contents: Contents) -> dict[str, Any]:
    attempts = contents.attempts
    roll_up, total = attempts.roll_up, attempts.roll_up.total
    return {
        "processes": {process: sums.attempts for process, sums in roll_up.processes.items()},
        "sums": (total.succeeded, total.failed, total.retried, total.items, total.failed_items),
        "run_times": [int(times.counts.sum()) for times in roll_up.run_times],
        "over_time": [int(roll_up.over_time.amounts(kind).sum()) for kind in _KINDS],
        "failed": (attempts.failed_count, attempts.unreadable),
        "errors": sum(group.count for group in contents.errors.most_frequent()),
    }


_KINDS = (RollUp.SUCCEEDED, RollUp.FAILED, RollUp.RETRIED, RollUp.ITEMS)


def _expected(records: NDArray[np.void]) -> dict[str, Any]:
    processes: dict[tuple[int, int], int] = {}
    for block, at in enumerate(range(0, len(records), BLOCK)):
        processes[_process(block)] = processes.get(_process(block), 0) + len(records[at : at + BLOCK])
    bad, final = records["category"] != 0, records["final"] != 0
    succeeded, failed, retried = (int(np.count_nonzero(which)) for which in (~bad, bad & final, bad & ~final))
    items, failed_items = (int(records["items"][which].sum()) for which in (final, bad & final))
    return {
        "processes": processes,
        "sums": (succeeded, failed, retried, items, failed_items),
        "run_times": [succeeded, failed + retried],
        "over_time": [succeeded, failed, retried, items],
        "failed": (failed, 0),
        "errors": failed + retried,
    }

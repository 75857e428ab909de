"""Every good row once, run_max_try attempts for each bad mini-batch, whatever dies meanwhile.

The oracle reads files only: the output, ``processed_mini-batches.csv``, ``job_result.txt`` and the journal. It
knows what the input holds, and what the step run says of itself has to agree with it.
"""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import LocalCluster

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun, TabularDataset

TRIES = 3
MINI_BATCHES = 2000
CATEGORIES = {"raise": "exception", "hang": "time limit", "segfault": "process died"}

SCRIPT = """
import ctypes
import re
import time
from pathlib import Path

BACKTRACKS = re.compile("(a+)+$")


def behave(kind):
    if kind == "raise":
        raise ValueError("this one is bad")
    if kind == "hang":
        BACKTRACKS.match("a" * 64 + "b")  # for ever, and holds the GIL
    if kind == "segfault":
        ctypes.string_at(0)


def run(mini_batch):
    time.sleep({pause})
    if not isinstance(mini_batch, list):
        for kind in mini_batch["kind"]:
            behave(kind)
        return [str(row) for row in mini_batch["row"]]
    names = [Path(path).name for path in mini_batch]
    for name in names:
        behave(name.split("-")[1])
    return names
"""


@dataclass
class Task:
    """Inputs whose mini-batches are known: by id, the rows and the kind of each."""

    dataset: Any
    rows: list[list[str]]
    kinds: list[str]
    mini_batch_size: int | str

    @property
    def bad(self) -> dict[int, str]:
        return {number: kind for number, kind in enumerate(self.kinds) if kind != "good"}


def kinds_of(count: int, seed: int, **bad: int) -> list[str]:
    """``count`` kinds, of them so many bad ones, at random places."""
    kinds = ["good"] * count
    places = random.Random(seed).sample(range(count), sum(bad.values()))
    for kind, amount in bad.items():
        for _ in range(amount):
            kinds[places.pop()] = kind
    return kinds


def file_task(folder: Path, kinds: list[str], files: int = 2) -> Task:
    folder.mkdir()
    rows = []
    for number, kind in enumerate(kinds):
        rows.append([f"{number:05d}-{kind if place == 0 else 'good'}-{place}" for place in range(files)])
        for name in rows[-1]:
            (folder / name).touch()
    return Task(FileDataset.from_files(folder), rows, kinds, files)


def parquet_task(folder: Path, kinds: list[str], length: int = 4) -> Task:
    """One row group is one mini-batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rows = []
    half = len(kinds) // 2
    for place, part in enumerate((kinds[:half], kinds[half:])):
        schema = pa.schema({"row": pa.string(), "kind": pa.string()})
        with pq.ParquetWriter(folder / f"part-{place}.parquet", schema) as writer:
            for kind in part:
                rows.append([f"{len(rows):05d}-{line}" for line in range(length)])
                table = pa.table({"row": rows[-1], "kind": [kind] + ["good"] * (length - 1)}, schema)
                writer.write_table(table)
    return Task(TabularDataset.from_parquet_files(folder), rows, kinds, 1)


# -------------------------------------------------------------------- the oracle


def result_numbers(text: str) -> dict[str, int]:
    """The counts in job_result.txt."""
    found = {}
    for line, names in {
        "Mini-batches": ("mini_batches", "succeeded_mini_batches", "failed_mini_batches"),
        "Items": ("items", "succeeded_items", "failed_items"),
        "Attempts": ("attempts",),
        "Rows": ("rows",),
    }.items():
        (content,) = re.findall(rf"^{line}: (.*)$", text, re.MULTILINE)
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", content)]
        found |= dict(zip(names, numbers, strict=False))
    return found


def journal_rows(path: Path) -> Counter[int]:
    """How often the journal tells each mini-batch as finished or failed."""
    told: Counter[int] = Counter()
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        for part in filter(None, entry.get("finished", "").split(",")):
            first, _, last = part.partition("-")
            told.update(range(int(first), int(last or first) + 1))
        told.update(failure["id"] for failure in entry.get("failed", []))
    return told


def check(task: Task, run: StepRun, *, workers_die: bool = False, children_die: bool = False) -> list[dict[str, str]]:
    """What the files say is what the input demands; returns the rows of the table of attempts."""
    good = [number for number, kind in enumerate(task.kinds) if kind == "good"]

    lines = run.output_file.read_text().splitlines()
    position = {line: place for place, line in enumerate(lines)}
    assert Counter(lines) == Counter(row for number in good for row in task.rows[number])
    for number in good:  # rows of a mini-batch together and in order
        first = position[task.rows[number][0]]
        assert lines[first : first + len(task.rows[number])] == task.rows[number]

    with open(run.log_dir / "sys" / "job_report" / "processed_mini-batches.csv", newline="") as file:
        attempts = list(csv.DictReader(file))
    by_number: dict[int, list[dict[str, str]]] = defaultdict(list)
    for attempt in attempts:
        by_number[int(attempt["Mini-batch Id"])].append(attempt)
    assert by_number.keys() == set(range(len(task.kinds)))
    for number, tried in by_number.items():
        final = [attempt["Status"] for attempt in tried if attempt["Status"] != "Failed attempt"]
        assert final == ["Failed" if number in task.bad else "Succeeded"], (number, tried)
        own = [attempt for attempt in tried if attempt["Error Category"] != "worker lost"]
        assert [int(attempt["Picked Count"]) for attempt in own] == list(range(1, len(own) + 1)), tried
        lost = len(tried) - len(own)
        assert workers_die or not lost
        if number not in task.bad:
            assert children_die or len(own) == 1, tried
            assert {attempt["Error Category"] for attempt in own} <= {"", "process died"}, tried
            continue
        assert len(own) == TRIES or lost == TRIES, tried
        allowed = {CATEGORIES[task.kinds[number]], *(["process died"] if children_die else [])}
        assert {attempt["Error Category"] for attempt in own} <= allowed, tried

    final_rows = [attempt for attempt in attempts if attempt["Status"] != "Failed attempt"]
    failed_items = sum(len(task.rows[number]) for number in task.bad)
    expected = {
        "mini_batches": len(task.kinds),
        "succeeded_mini_batches": len(good),
        "failed_mini_batches": len(task.bad),
        "items": sum(map(len, task.rows)),
        "succeeded_items": sum(len(task.rows[number]) for number in good),
        "failed_items": failed_items,
        "attempts": len(attempts),
        "rows": len(lines),
    }
    assert sum(int(row["Succeeded"]) for row in final_rows) == expected["succeeded_items"]
    assert sum(int(row["Failed"]) for row in final_rows) == failed_items
    text = (run.log_dir / "job_result.txt").read_text()
    assert "State: Completed" in text
    assert result_numbers(text) == expected
    summary = run.summary()
    assert {name: getattr(summary, name) for name in expected} == expected
    assert journal_rows(run.run_folder / "journal.jsonl") == Counter(range(len(task.kinds)))
    assert {failure.id for failure in run.failed_items()} == set(task.bad)
    assert not list(run.output_file.parent.glob("*.partial"))
    assert not any((run.log_dir / "sys" / "error").glob("*"))
    return attempts


# -------------------------------------------------------------------- what dies


class Killer:
    """Kills one of ``victims()`` every ``seconds``, chosen by a seeded generator."""

    def __init__(self, victims: Callable[[], list[int]], seconds: float, seed: int) -> None:
        self.killed: list[int] = []
        self._victims = victims
        self._seconds = seconds
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="killer", daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._over.wait(self._seconds):
            victims = sorted(self._victims())
            if victims:
                pid = self._random.choice(victims)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)


def worker_processes() -> list[int]:
    """Processes that run user code."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("prs_dask.worker_process.main" in part for part in process.cmdline()):
                found.append(process.pid)
    return found


def running_workers(cluster: LocalCluster) -> list[int]:
    """Dask workers that have come up; a nanny gives up on one that dies earlier."""
    known = cluster.scheduler.workers
    return [nanny.pid for nanny in cluster.workers.values() if nanny.pid and nanny.worker_address in known]


def submit(task: Task, folder: Path, *, pause: float = 0.0, compute_target: Any = "local", **settings: Any) -> StepRun:
    script = folder / "score.py"
    script.write_text(SCRIPT.replace("{pause}", str(pause)))
    config = ParallelRunConfig(
        entry_script=str(script),
        mini_batch_size=task.mini_batch_size,
        error_threshold=-1,
        output_action="append_row",
        process_count_per_node=2,
        run_invocation_timeout=1.5,
        run_max_try=TRIES,
        **settings,
    )
    step = ParallelRunStep("exactly-once", config, task.dataset, output=str(folder / "out"))
    return step.submit(run_folder=folder / "run", compute_target=compute_target)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return file_task(tmp_path / "data", kinds_of(MINI_BATCHES, 1, **{"raise": 20, "hang": 5, "segfault": 3}))


@pytest.mark.slow
def test_bad_mini_batches_have_exactly_their_tries_and_good_rows_come_once(task, tmp_path, no_leaks):
    run = submit(task, tmp_path)
    assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    attempts = check(task, run)
    hanging = [row for row in attempts if row["Error Category"] == "time limit"]
    assert all(1.5 <= float(row["Elapsed Seconds"]) < 3 for row in hanging)
    assert all("run_invocation_timeout" in row["Error Message"] for row in hanging)


@pytest.mark.slow
def test_rows_come_once_while_a_process_is_killed_every_second(task, tmp_path, no_leaks):
    with Killer(worker_processes, 1.0, seed=7) as killer:
        run = submit(task, tmp_path, pause=0.005)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    check(task, run, children_die=True)
    assert len(killer.killed) >= 5


@pytest.mark.slow
def test_rows_come_once_while_a_dask_worker_is_killed_again_and_again(tmp_path, no_leaks):
    task = file_task(tmp_path / "data", kinds_of(1000, 6, **{"raise": 10, "hang": 2, "segfault": 2}))
    with (
        # A worker that dies again just when this time after its last death is over would be given up by Dask.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 h"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        run = submit(task, tmp_path, pause=0.01, compute_target=cluster)
        killed_at = 0
        seen: dict[int, float] = {}

        def victims() -> list[int]:
            # After each 200 of its 1972 rows: there is progress however slow the machine is. None at the very end: the
            # folder of a worker that dies then stays until another one comes. None that has just come: its nanny
            # would give up.
            nonlocal killed_at
            now, rows = time.monotonic(), run.summary().rows
            ready = [pid for pid in running_workers(cluster) if now - seen.setdefault(pid, now) > 1]
            if not ready or not killed_at + 200 <= rows < 1700:
                return []
            killed_at = rows
            return ready

        with Killer(victims, 0.1, seed=11) as killer:
            assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    check(task, run, workers_die=True)
    assert len(killer.killed) >= 3


@pytest.mark.slow
def test_row_groups_come_once_while_processes_are_killed(tmp_path, no_leaks):
    task = parquet_task(tmp_path / "data", kinds_of(400, 2, **{"raise": 4, "hang": 1, "segfault": 1}))
    # Not more often: on a busy machine the import of pandas alone takes seconds, and a process that is killed
    # three times in the same mini-batch has failed it.
    with Killer(worker_processes, 4.0, seed=3):
        run = submit(task, tmp_path, pause=0.02)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    check(task, run, children_die=True)


@pytest.mark.slow
def test_lines_of_text_come_once_and_only_blocks_with_a_bad_line_are_missing(tmp_path, no_leaks):
    folder = tmp_path / "data"
    folder.mkdir()
    kinds = kinds_of(20_000, 4, **{"raise": 6, "segfault": 2})
    for part in range(4):
        lines = [f"{row},{kinds[row]}" for row in range(part * 5000, part * 5000 + 5000)]
        (folder / f"part-{part}.csv").write_text("row,kind\n" + "\n".join(lines) + "\n")
    task = Task(TabularDataset.from_delimited_files(folder), [], kinds, "1KB")
    run = submit(task, tmp_path)
    assert run.wait_for_completion(timeout_seconds=90) == "Completed"

    rows = [int(line) for line in run.output_file.read_text().split()]
    assert len(rows) == len(set(rows))
    missing = sorted(set(range(20_000)) - set(rows))
    bad = [row for row, kind in enumerate(kinds) if kind != "good"]
    assert set(bad) <= set(missing)
    failures = {failure.id: failure for failure in run.failed_items()}
    assert sum(failure.items for failure in failures.values()) == len(missing)
    assert len(failures) <= len(bad)
    assert all(failure.attempts == TRIES for failure in failures.values())
    summary = run.summary()
    assert (summary.succeeded_items, summary.failed_items) == (len(rows), len(missing))
    assert summary.attempts == summary.succeeded_mini_batches + TRIES * len(failures)
    with open(run.log_dir / "sys" / "job_report" / "processed_mini-batches.csv", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == summary.attempts


@pytest.mark.slow
def test_in_input_order_too_while_processes_are_killed(tmp_path, no_leaks):
    task = file_task(tmp_path / "data", kinds_of(600, 5, **{"raise": 6, "hang": 1, "segfault": 2}))
    with Killer(worker_processes, 0.5, seed=5):
        run = submit(task, tmp_path, pause=0.005, append_row_order="input")
        assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    check(task, run, children_die=True)
    lines = run.output_file.read_text().splitlines()
    assert lines == sorted(lines)


def test_quick_step_runs_after_each_other_have_all_rows_once(tmp_path, no_leaks):
    task = file_task(tmp_path / "data", ["good"] * 50)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = submit(task, folder)
        assert run.wait_for_completion(timeout_seconds=60) == "Completed"
        check(task, run)

"""Whole jobs from the text of an entry script, on a cluster that all tests share or on one of their own.

``job`` runs a step over files named ``0``, ``1``, ... and gives back what became of it, as a `Job`: its
rows, and its counts as four places tell them. After every job nothing that it started may live,
whatever session, group or parent it gave itself.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun

GOOD = """
import os

def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""
"""Its rows are the items' names."""

SECONDS_TO_DIE = 5.0


def processes_of(run_id: str) -> list[psutil.Process]:
    """Every process on this machine that was started within a step run: the environment tells."""
    mark = f"AZUREML_RUN_ID={run_id}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
            if mark in environment.split(b"\0"):
                found.append(psutil.Process(int(name)))
        except (OSError, psutil.NoSuchProcess):
            continue
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s for {what or condition}"
        time.sleep(0.02)
    return value


def make_items(folder: Path, count: int) -> Path:
    """Files ``0000``, ``0001``, ... in a folder: an item's number is its mini-batch's, where each is one."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04d}").touch()
    return folder


def make_script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return path


@dataclass
class Job:
    """What became of a step run."""

    run: StepRun
    state: str

    @property
    def file(self) -> Path:
        """The output, under its name or as it was left."""
        assert self.run.output_file is not None
        partial = self.run.output_file.with_name(self.run.output_file.name + ".partial")
        return self.run.output_file if self.state == "Completed" else partial

    @property
    def rows(self) -> list[str]:
        return self.file.read_text().splitlines()

    @property
    def items(self) -> list[int]:
        """The rows as numbers, sorted: with `GOOD` the items, each as often as it was written."""
        return sorted(map(int, self.rows))

    def log(self, name: str) -> str:
        return (self.run.log_dir / name).read_text()

    def logs(self, pattern: str) -> str:
        """All logs whose names match, one after the other."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.run.log_dir.glob(pattern)))

    @property
    def attempts(self) -> list[dict[str, str]]:
        path = self.run.log_dir / "sys/job_report/processed_mini-batches.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def tries(self) -> Counter[int]:
        """Attempts by mini-batch."""
        return Counter(int(row["Mini-batch Id"]) for row in self.attempts)

    def categories(self) -> Counter[str]:
        return Counter(row["Error Category"] for row in self.attempts if row["Error Category"])

    def check_counts(self, more_lines: int = 0) -> None:
        """summary(), job_result.txt, processed_mini-batches.csv and the output file say the same.

        ``more_lines`` has the file than rows: a header, or newlines within rows.
        """
        summary, attempts = self.run.summary(), self.attempts
        final = [row for row in attempts if row["Status"] in ("Succeeded", "Failed")]
        states = Counter(row["Status"] for row in final)
        items = {name: sum(int(row[name]) for row in final) for name in ("Total", "Succeeded", "Failed")}
        assert len({row["Mini-batch Id"] for row in final}) == len(final), "a mini-batch was decided twice"
        assert (summary.succeeded_mini_batches, summary.failed_mini_batches) == (states["Succeeded"], states["Failed"])
        assert (summary.items, summary.succeeded_items, summary.failed_items) == tuple(items.values())
        assert summary.attempts == len(attempts)
        if self.run.output_file is not None:
            written = self.file.read_bytes().count(b"\n") if self.file.exists() else 0
            assert summary.rows == written - more_lines
            assert self.run.output_file.exists() == (self.state == "Completed")
        told = self.log("job_result.txt")
        numbers = [
            int(number.replace(",", ""))
            for line in told.splitlines()
            if line.startswith(("Mini-batches", "Items", "Attempts", "Rows"))
            for number in re.findall(r"[\d,]*\d", line)
        ]
        not_run = summary.mini_batches - summary.succeeded_mini_batches - summary.failed_mini_batches
        assert numbers == [
            summary.mini_batches,
            summary.succeeded_mini_batches,
            summary.failed_mini_batches,
            *([not_run] if not_run else []),
            summary.items,
            summary.succeeded_items,
            summary.failed_items,
            summary.attempts,
            summary.rows,
        ]
        assert f"State: {summary.state}" in told
        assert summary.state == self.state

    def check_nothing_lives(self) -> None:
        """Every process that the step run has started is dead."""
        end = time.monotonic() + SECONDS_TO_DIE
        while living := processes_of(self.run.id):
            assert time.monotonic() < end, f"still alive: {[process.as_dict(['pid', 'cmdline']) for process in living]}"
            time.sleep(0.02)


def step(folder: Path, script: str, items: int | Path = 20, **settings: Any) -> ParallelRunStep:
    """A step over so many files, one to a mini-batch unless told otherwise."""
    arguments = settings.pop("arguments", None)
    inputs = settings.pop("inputs", None)
    if inputs is None:
        inputs = FileDataset.from_files(make_items(folder / "items", items) if isinstance(items, int) else items)
    config = ParallelRunConfig(
        **{
            "entry_script": make_script(folder, script),
            "output_action": "append_row",
            "error_threshold": -1,
            "mini_batch_size": 1 if inputs.kind == "file" else "1MB",
            "process_count_per_node": 2,
            **settings,
        }
    )
    return ParallelRunStep("hostile", config, inputs, folder / "output", arguments=arguments)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A LocalCluster as users make them; its workers must be the same ones at the end of every job."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        yield cluster


@pytest.fixture
def submit(tmp_path: Path, cluster: Any) -> Iterator[Callable[..., StepRun]]:
    """Start a step run on the shared cluster (or ``compute_target``); it is ended with the test."""
    runs: list[StepRun] = []

    def start(script: str, items: int | Path = 20, *, compute_target: Any = None, **settings: Any) -> StepRun:
        made = step(tmp_path, script, items, **settings)
        runs.append(made.submit(run_folder=tmp_path / "run", compute_target=compute_target or cluster))
        return runs[-1]

    yield start
    for run in runs:
        run.cancel()


@pytest.fixture
def job(submit: Callable[..., StepRun], cluster: Any) -> Callable[..., Job]:
    """Run a script over ``items`` files to the end; the counts agree and nothing lives on."""

    def run_it(
        script: str = GOOD, items: int | Path = 20, *, seconds: float = 60.0, more_lines: int = 0, **settings: Any
    ) -> Job:
        before = set(cluster.scheduler.workers)
        run = submit(script, items, **settings)
        done = Job(run, run.wait_for_completion(timeout_seconds=seconds, raise_on_error=False))
        done.check_counts(more_lines)
        done.check_nothing_lives()
        assert not list((run.log_dir / "sys").glob("error/*")), done.logs("sys/error/*")
        assert set(cluster.scheduler.workers) == before, "workers of the shared cluster were replaced"
        return done

    return run_it


class Command:
    """``prs-dask`` in a process of its own, with a folder of its own as the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TMPDIR": str(self.folder.parent / "tmp"), "COLUMNS": "400"}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        (self.folder.parent / "tmp").mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "prs_dask", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: object, timeout: float = 60.0) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"did not end in {timeout:g} s:\n{out}\n{err}")
        return process.returncode, out, err

    @property
    def temporary(self) -> list[str]:
        """What stands in its temporary folder."""
        return sorted(path.name for path in (self.folder.parent / "tmp").iterdir())


@pytest.fixture
def command(tmp_path: Path) -> Command:
    folder = tmp_path / "here"
    folder.mkdir()
    return Command(folder)

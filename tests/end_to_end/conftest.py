"""Whole jobs from the text of an entry script, on a cluster that all tests share or on one of their own.

``job`` runs a step over files named ``0``, ``1``, ... and gives back what became of it, as a `Job`: its
rows, and its counts as four places tell them. After every job nothing that it started may live,
whatever session, group or parent it gave itself.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
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

LIVES = (["started", "ready", "ended"], ["started", "failed"], ["started", "ended"], ["failed"])
"""Events of a worker process, in the only orders that there are."""


def processes_of(run_id: str) -> list[psutil.Process]:
    """Every process on this machine that was started within a step run: the environment tells."""
    return _with_variable(f"AZUREML_RUN_ID={run_id}")


def _with_variable(variable: str) -> list[psutil.Process]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.fsencode(variable) in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(name)))
        except (OSError, psutil.NoSuchProcess):
            continue
    return [process for process in found if process.pid != os.getpid()]


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

    def check_process_tables(self) -> None:
        """``sys/node`` has each attempt that was not lost, in the file of its process, with a pid of this machine."""
        own = []
        for path in (self.run.log_dir / "sys").glob("node/*/*.txt"):
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert len({(row["Ip"], row["Pid"]) for row in rows}) == 1
            assert all(int(row["Pid"]) > 1 and row["Ip"] for row in rows)
            own += [(f"{path.parent.name}/{path.stem}", row["Mini-batch Id"], row["Status"]) for row in rows]
        every = [(row["Process"], row["Mini-batch Id"], row["Status"]) for row in self.attempts if row["Process"]]
        assert Counter(own) == Counter(every)
        if not self.attempts:
            return
        lost = len(self.attempts) - len(every)
        for name, elsewhere in (("process_summary.csv", lost), ("node_summary.csv", 0)):
            with (self.run.log_dir / "sys/job_report" / name).open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert sum(int(row["Attempts"]) for row in rows) + elsewhere == len(self.attempts)
        final = [row for row in self.attempts if row["Status"] in ("Succeeded", "Failed")]
        for column, items in (("Items", "Total"), ("Succeeded Items", "Succeeded"), ("Failed Items", "Failed")):
            assert sum(int(row[column]) for row in rows) == sum(int(row[items]) for row in final)

    def lives(self) -> dict[str, list[dict[str, str]]]:
        """Events by process (``0/process007``), as the tables of nodes tell them."""
        found: dict[str, list[dict[str, str]]] = {}
        for path in (self.run.log_dir / "sys").glob("node/*/processes.csv"):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    found.setdefault(f"{path.parent.name}/{row['Process']}", []).append(row)
        return found

    def check_lives(self) -> None:
        """Each process has one life in order and with a reason for its end, and its attempts lie within it."""
        lives = self.lives()
        ran = Counter(row["Process"] for row in self.attempts if row["Process"])
        assert ran.keys() <= lives.keys()
        for process, events in lives.items():
            order = [event["Event"] for event in events]
            assert order in LIVES, (process, events)
            assert [event["Time"] for event in events] == sorted(event["Time"] for event in events)
            assert events[-1]["Why"]
            assert order == LIVES[0] or not ran[process], "an attempt in a process that was not ready"
        assert self.log("sys/master_role.txt").count("started: pid") == sum(
            event["Event"] == "started" for events in lives.values() for event in events
        )
        if not lives:  # it has ended before any was started
            return
        with (self.run.log_dir / "sys/job_report/process_summary.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                events = lives[f"{row['Node']}/{row['Process']}"]
                told = {event["Event"]: event for event in events}
                assert row["End Reason"] == events[-1]["Why"]
                assert row["End Time"] == events[-1]["Time"]
                assert row["Pid"] == events[-1]["Pid"]
                assert row["Ready Time"] == told.get("ready", {"Time": ""})["Time"]
                if row["First Start Time"]:
                    assert row["Ready Time"] <= row["First Start Time"] <= row["Last End Time"] <= row["End Time"], row

    def check_counts(self, more_lines: int = 0) -> None:
        """summary(), job_result.txt, processed_mini-batches.csv and the output file say the same.

        ``more_lines`` has the file than rows: a header, or newlines within rows. A mini-batch that was bisected has
        failed if one of its parts has.
        """
        self.check_process_tables()
        summary, attempts = self.run.summary(), self.attempts
        final = [row for row in attempts if row["Status"] in ("Succeeded", "Failed")]
        worst: dict[str, str] = {}
        for row in final:
            whole = row["Mini-batch Id"].partition("[")[0]
            worst[whole] = min(row["Status"], worst.get(whole, "Succeeded"))  # "Failed" comes first
        states = Counter(worst.values())
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


class SharedCluster:
    """A LocalCluster in a process of its own, so that nothing of it stands in the tests' process."""

    PROGRAM = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""

    def __init__(self, folder: Path) -> None:
        program = folder / "cluster.py"
        program.write_text(self.PROGRAM)
        self._process = subprocess.Popen(
            [sys.executable, str(program)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address.startswith("tcp://")

    def workers(self) -> set[psutil.Process]:
        """Its Dask workers."""
        children = psutil.Process(self._process.pid).children()
        return {child for child in children if any("spawn_main" in word for word in child.cmdline())}

    def memory(self) -> int:
        """MB that the process of the scheduler has."""
        return psutil.Process(self._process.pid).memory_info().rss >> 20

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    """Two workers; they must be the same ones at the end of every job."""
    cluster = SharedCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def submit(tmp_path: Path, cluster: SharedCluster) -> Iterator[Callable[..., StepRun]]:
    """Start a step run on the shared cluster (or ``compute_target``); it is ended with the test."""
    runs: list[StepRun] = []

    def start(script: str, items: int | Path = 20, *, compute_target: Any = None, **settings: Any) -> StepRun:
        made = step(tmp_path, script, items, **settings)
        runs.append(made.submit(run_folder=tmp_path / "run", compute_target=compute_target or cluster.address))
        return runs[-1]

    yield start
    for run in runs:
        run.cancel()


@pytest.fixture
def job(submit: Callable[..., StepRun], cluster: SharedCluster) -> Callable[..., Job]:
    """Run a script over ``items`` files to the end; the counts agree and nothing lives on."""

    def run_it(
        script: str = GOOD, items: int | Path = 20, *, seconds: float = 60.0, more_lines: int = 0, **settings: Any
    ) -> Job:
        before = cluster.workers()
        run = submit(script, items, **settings)
        done = Job(run, run.wait_for_completion(timeout_seconds=seconds, raise_on_error=False))
        done.check_counts(more_lines)
        done.check_lives()
        done.check_nothing_lives()
        assert not list((run.log_dir / "sys").glob("error/*")), done.logs("sys/error/*")
        assert cluster.workers() == before, "workers of the shared cluster were replaced"
        return done

    return run_it


class Command:
    """``prs-dask`` in a process of its own, with a folder of its own as the current one.

    Every process that comes of it has its ``TMPDIR``, and is found by it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder.parent / "tmp"
        self.temporary.mkdir()

    def items(self, count: int) -> Path:
        """Files to work on, in ``items``."""
        return make_items(self.folder / "items", count)

    def script(self, text: str = GOOD, name: str = "script.py") -> Path:
        """An entry script in the current folder."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, *arguments: object, python: bool = False) -> subprocess.Popen[str]:
        """``prs-dask`` with these arguments, or ``python`` with them."""
        return subprocess.Popen(
            [sys.executable, *(() if python else ("-m", "prs_dask")), *map(os.fspath, map(str, arguments))],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "400"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 60.0) -> tuple[int, str, str]:
        """Exit code, stdout and stderr; nothing of it lives, and no temporary folder is left."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"did not end in {timeout:g} s:\n{out}\n{err}")
        wait_until(lambda: not self.processes(), 5, "the end of all that it has started")
        assert not self.left_over()
        return process.returncode, out, err

    def forget(self, killed: subprocess.Popen[str], timeout: float = 60.0) -> None:
        """Wait until all that a killed one had started is gone; the temporary folders it leaves are removed."""
        wait_until(lambda: not self.processes(), timeout, "the end of what the killed one had started")
        killed.communicate(timeout=5)
        for name in self.left_over():
            shutil.rmtree(self.temporary / name)

    def __call__(self, *arguments: object, python: bool = False, timeout: float = 60.0) -> tuple[int, str, str]:
        """Start and finish it."""
        return self.finish(self.start(*arguments, python=python), timeout)

    def processes(self) -> list[psutil.Process]:
        """Everything that it has started and that lives."""
        return _with_variable(f"TMPDIR={self.temporary}")

    def left_over(self) -> list[str]:
        """What stands in its temporary folder."""
        return sorted(path.name for path in self.temporary.iterdir())


@pytest.fixture
def wait() -> Callable[..., Any]:
    """``wait(condition, seconds, what)``."""
    return wait_until


@pytest.fixture
def living() -> Callable[[str], list[psutil.Process]]:
    """``living(run_id)``: every process that was started within a step run and lives."""
    return processes_of


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    folder = tmp_path / "here"
    folder.mkdir()
    command = Command(folder)
    yield command
    for process in command.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

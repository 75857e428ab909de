"""Clusters that run already: a scheduler and workers as processes of their own, without nannies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from distributed import Client

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun

ROOT = Path(__file__).parents[2]
UNSHARED = ("unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c")
PATIENCE = 30.0

SCRIPT = """
import os
import time
from pathlib import Path


def init():
    time.sleep({init})


def run(mini_batch):
    begun = time.time()
    time.sleep({pause})
    return [f"{Path(path).name} {os.environ.get('WHERE', '-')} {os.getpid()} {begun}" for path in mini_batch]
"""


class Row:
    """One row of the output: which file, on which worker, in which process, when."""

    def __init__(self, line: str) -> None:
        self.name, self.where, self.process, begun = line.split(" ")
        self.begun = float(begun)


class Job:
    """A step run over files that are known, and what it came to."""

    def __init__(self, folder: Path, target: Any, count: int, pause: float, init: float, **settings: Any) -> None:
        folder.mkdir(parents=True)
        data = folder / "data"
        data.mkdir()
        self.names = [f"{number:05d}" for number in range(count)]
        for name in self.names:
            (data / name).touch()
        script = folder / "score.py"
        text = SCRIPT.replace("{pause}", str(pause)).replace("{init}", str(init))
        script.write_text(text + settings.pop("more", ""))
        arguments = settings.pop("arguments", None)
        config = ParallelRunConfig(
            entry_script=str(script),
            mini_batch_size=settings.pop("mini_batch_size", 1),
            error_threshold=settings.pop("error_threshold", 0),
            output_action="append_row",
            **settings,
        )
        step = ParallelRunStep(
            "attached", config, FileDataset.from_files(data), output=folder / "out", arguments=arguments
        )
        self.run: StepRun = step.submit(run_folder=folder / "run", compute_target=target)

    def wait(self, seconds: float = 60) -> list[Row]:
        """Its rows, when it has completed."""
        assert self.run.wait_for_completion(timeout_seconds=seconds) == "Completed"
        return self.rows()

    def rows(self) -> list[Row]:
        """Each file once."""
        rows = [Row(line) for line in self.run.output_file.read_text().splitlines()]
        assert Counter(row.name for row in rows) == Counter(self.names)
        summary = self.run.summary()
        assert (summary.rows, summary.succeeded_items, summary.failed_items) == (len(rows), len(rows), 0)
        return rows

    def until(self, succeeded: int, seconds: float = PATIENCE) -> None:
        """Wait until so many mini-batches have succeeded."""
        end = time.monotonic() + seconds
        while self.run.summary().succeeded_mini_batches < succeeded:
            assert self.run.get_status() == "Running", self.run.error
            assert time.monotonic() < end, self.run.progress()
            time.sleep(0.01)


class Fleet:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scheduler_file = folder / "scheduler.json"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.start_scheduler()

    def start_scheduler(self, port: str = "0") -> None:
        """A new one, whatever became of the last."""
        self.scheduler_file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(self.scheduler_file),
        )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not self.scheduler_file.exists():
            assert time.monotonic() < end
            time.sleep(0.02)

    @property
    def address(self) -> str:
        import json

        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ValueError):  # it is being written
                return json.loads(self.scheduler_file.read_text())["address"]
            assert time.monotonic() < end
            time.sleep(0.02)

    def _start(self, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{module}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def add(
        self, name: str, threads: int = 1, *, nanny: bool = False, preload: str | None = None, **environment: str
    ) -> None:
        """One more worker; its processes tell its name as WHERE."""
        self.workers[name] = self._start(
            "dask_worker", "--scheduler-file", str(self.scheduler_file), "--nanny" if nanny else "--no-nanny",
            "--name", name,
            "--nthreads", str(threads), "--no-dashboard", "--local-directory", str(self.folder / name),
            *(("--preload", preload) if preload is not None else ()),
            WHERE=name, **environment,
        )  # fmt: skip

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client, once all workers are there."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=PATIENCE)
            yield client
        client._loop_runner.stop()  # where the client has closed itself, since the scheduler was gone

    def until_it_works(self, name: str, over: threading.Event) -> None:
        """Wait until this worker has a process of user code, or all is over."""
        end = time.monotonic() + PATIENCE
        while not self.processes(name) and time.monotonic() < end and not over.wait(0.1):
            pass

    def processes(self, *names: str) -> list[psutil.Process]:
        """Processes of user code below these workers; below all where none is named."""
        found = []
        for worker in [self.workers[name] for name in names or self.workers]:
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(worker.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if any("prs_dask.worker_process.main" in part for part in process.cmdline()):
                            found.append(process)
        return found

    def _someone_clears_up(self) -> bool:
        """Is there a worker that can: one that goes on, and is not stopped?"""
        with contextlib.suppress(psutil.NoSuchProcess):
            alive = [psutil.Process(worker.pid) for worker in self.workers.values() if worker.poll() is None]
            return any(process.status() != psutil.STATUS_STOPPED for process in alive)
        return False

    def left(self) -> list[object]:
        """What workers of this machine have of step runs: processes of user code, and the folders of the nodes."""
        return [*self.processes(), *Path(tempfile.gettempdir()).glob("prs-dask-*")]

    def close(self) -> None:
        end = time.monotonic() + PATIENCE / 2
        while self.left() and self._someone_clears_up() and time.monotonic() < end:
            time.sleep(0.05)  # of a worker that is killed meanwhile nobody removes the rest
        for process in (*self.workers.values(), self.scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)  # with a nanny its worker sees that it is gone, and leaves by itself


@pytest.fixture
def fleet(tmp_path: Path, no_leaks: None) -> Iterator[Callable[..., Fleet]]:
    """Start one: ``fleet(first=1, second=3)`` has two workers with so many threads."""
    made: list[Fleet] = []

    def make(**threads: int) -> Fleet:
        folder = tmp_path / f"fleet{len(made)}"
        folder.mkdir()
        made.append(Fleet(folder))
        for name, count in threads.items():
            made[-1].add(name, count)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Submit one: ``job(target, 100, pause=0.05)``."""
    made: list[Job] = []

    def make(target: Any, count: int = 100, *, pause: float = 0.01, init: float = 0.0, **settings: Any) -> Job:
        made.append(Job(tmp_path / f"job{len(made)}", target, count, pause, init, **settings))
        return made[-1]

    yield make
    for each in made:
        if each.run.get_status() == "Running":
            each.run.kill()


class Apart:
    """Fleets of workers that see nothing of these folders of the driver's."""

    def __init__(self, fleet: Callable[..., Any], folder: Path) -> None:
        self._fleet = fleet
        self._driver, self._temporary = folder / "driver", folder / "tmp"
        for made in (self._driver, self._temporary):
            made.mkdir()

    def __call__(self, workers: int, *, nodes: int = 1) -> Any:
        ours = self._fleet()
        for number in range(workers):
            self.add(ours, f"worker{number}", host=f"node{number % nodes}" if nodes > 1 else None)
        return ours

    def add(self, ours: Any, name: str, host: str | None = None) -> None:
        """One more worker, of the host that has this name, or of this one."""
        temporary = str(self._temporary)
        apart = [f"mount -t tmpfs none '{self._driver}'", f"mkdir '{self._driver}/out'"]  # of the same name, another
        apart += [f"hostname {host}" if host else f"mount -t tmpfs none '{temporary}'"]
        options = ["--no-nanny", "--nthreads", "1", "--name", name, "--local-directory", f"{temporary}/dask"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", ours.address, *options]
        with open(ours.folder / "apart.log", "ab") as log:
            ours.workers[name] = subprocess.Popen(
                [*UNSHARED, f'{" && ".join(apart)} && exec "$@"', "sh", *worker],
                cwd=ours.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": temporary},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@pytest.fixture
def apart(fleet: Callable[..., Any], tmp_path: Path, leave_out: Callable[[str], NoReturn]) -> Apart:
    """Start one: ``apart(2)`` has two workers on one node, ``apart(2, nodes=2)`` one on each of two."""
    (tmp_path / "tried").mkdir()
    try_it = f"hostname tried && mount -t tmpfs none '{tmp_path}/tried'"
    tried = subprocess.run([*UNSHARED, try_it], capture_output=True, text=True)
    if tried.returncode:
        leave_out(f"mount namespaces and file systems can be made by root only: {tried.stderr.strip()}")
    return Apart(fleet, tmp_path)

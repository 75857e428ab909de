"""The processes of one chaos run: started here, found by a variable in their environment.

Everything that belongs to a run, whoever started it and whatever session or parent it gave itself,
has ``PRS_CHAOS=<token>`` in ``/proc/<pid>/environ``: that is how it is found, and at last ended.
Where this process may mount, they have a ``/dev/shm`` of their own, so that what is left there is theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.disk import may_mount
from tests.chaos.plans import Plan

__all__ = ["Process", "Scene"]

ROOT = Path(__file__).parents[2]
VARIABLE = "PRS_CHAOS"
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was seen; ``run``: it was started within a step run, for a worker process or by one."""

    pid: int
    parent: int
    command: str
    run: bool

    @property
    def is_child(self) -> bool:
        """A worker process (and nothing that it has started)."""
        return "prs_dask.worker_process.main" in self.command

    @property
    def is_reaper(self) -> bool:
        """The parent of a worker process."""
        return "worker_process/reaper.py" in self.command


class Scene:
    """Driver, scheduler, nannies and workers of one run.

    Parameters
    ----------
    plan, folder
        What is played, and where.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.token = uuid.uuid4().hex
        self.driver: subprocess.Popen[bytes] | None = None
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.drivers = 0
        self._worker_names: dict[int, str] = {}
        self._journal_read = self._ended = 0
        self._own_shared_memory: tuple[str, ...] = ()
        if may_mount():
            mount = 'mount --bind "$0" /dev/shm && exec "$@"'
            self._own_shared_memory = ("unshare", "--mount", "sh", "-c", mount, str(folder / "shm"))

    # ---------------------------------------------------------------- starting

    def start_cluster(self) -> None:
        """A scheduler and workers, where the plan has a cluster of its own."""
        if self.plan.cluster == "local":
            return
        path = self.folder / "scheduler.json"
        path.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--no-show", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(path),
        )  # fmt: skip
        for _ in range(self.plan.lanes):
            self.add_worker()
        end = time.monotonic() + START_SECONDS
        while not path.exists():
            if time.monotonic() > end or self.scheduler.poll() is not None:
                raise RuntimeError(f"the scheduler does not start: {self.folder / 'scheduler.txt'}")
            time.sleep(0.02)

    def add_worker(self) -> None:
        """One more worker of one lane."""
        name = f"worker-{len(self._worker_names) + 1}"
        nanny = "--nanny" if self.plan.cluster == "nannies" else "--no-nanny"
        worker = self._start(
            name,
            "distributed.cli.dask_worker",
            "--scheduler-file",
            str(self.folder / "scheduler.json"),
            nanny,
            "--name",
            name,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--local-directory",
            str(self.folder / "dask"),
        )
        self.workers.append(worker)
        self._worker_names[worker.pid] = name

    def start_driver(self) -> str:
        """Submit the step, or resume it where it was begun; how: ``python``, or ``cli``."""
        self.drivers += 1
        number, run_folder = str(self.drivers), self.folder / "disk" / "run"
        if self.plan.resume_by == "python" or not (run_folder / "run.json").exists():
            self.driver = self._start(f"driver-{number}", "tests.chaos.driver", str(self.folder), number)
            return "python"
        target = "local" if self.plan.cluster == "local" else str(self.folder / "scheduler.json")
        self.driver = self._start(
            f"driver-{number}", "prs_dask", "resume", str(run_folder), "--compute-target", target,
            "--storage-option", "account_key=${env:CHAOS_STORE_SECRET}", "--environment-variables", "CHAOS_SECRET",
            *([] if self.plan.retry_failed else ["--no-retry-failed"]),
            **dict(zip(("CHAOS_STORE_SECRET", "CHAOS_SECRET"), self.plan.canaries, strict=True)),
        )  # fmt: skip
        return "cli"

    def call_dask(self, *arguments: str) -> None:
        """Have another client of the cluster do something."""
        path = str(self.folder / "scheduler.json")
        self._start("client", "tests.chaos.dask_client", path, *arguments).wait(START_SECONDS)

    def _start(self, log: str, module: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **variables,
            VARIABLE: self.token,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(self.folder / "tmp"),
        }
        with open(self.folder / f"{log}.txt", "ab") as output:
            return subprocess.Popen(
                [*self._own_shared_memory, sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    # ---------------------------------------------------------------- finding

    def processes(self) -> list[Process]:
        """Everything of this run that lives now."""
        mark = f"{VARIABLE}={self.token}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                if mark not in environment:
                    continue
                state, parent = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state in (b"Z", b"X"):
                    continue
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                run = any(one.startswith(b"AZUREML_RUN_ID=") for one in environment)
                found.append(Process(int(name), int(parent), command.strip(), run))
        return sorted(found, key=lambda process: process.pid)

    def children(self) -> list[int]:
        """Worker processes."""
        found = self.processes()
        # A fork of a worker process has its command line, too, but not a reaper as its first parent.
        reapers = {process.pid for process in found if process.is_reaper}
        return [process.pid for process in found if process.is_child and process.parent in reapers]

    def dask_workers(self, known: float = 0.0) -> list[int]:
        """Dask workers: those with lanes where the cluster is the step's own; those that have been up for so long."""
        if self.plan.cluster == "bare":
            return [worker.pid for worker in self.workers if worker.poll() is None]
        found = self.processes()
        if self.plan.cluster == "nannies":
            nannies = {pid for pid in self.nannies() if self._is_up(self._worker_names[pid], known)}
            return [one.pid for one in found if one.parent in nannies and "spawn_main" in one.command]
        parents = {process.parent for process in found if process.is_reaper}
        return sorted(parents & {process.pid for process in found})

    def _is_up(self, name: str, seconds: float) -> bool:
        """Has the nanny's worker registered so long ago? One that is killed on its way there takes that with it."""
        text = (self.folder / f"{name}.txt").read_text(errors="replace")
        registered = text.rfind("Registered to")
        if registered <= max(text.rfind("Start Nanny"), text.rfind("Restarting worker")):
            return False
        line = text[text.rfind("\n", 0, registered) + 1 : registered]
        when = datetime.strptime(line.partition(" - ")[0], "%Y-%m-%d %H:%M:%S,%f")  # local time, as logging has it
        return time.time() - when.timestamp() >= seconds

    def nannies(self) -> list[int]:
        """Nannies that are processes of their own."""
        return [worker.pid for worker in self.workers if worker.poll() is None]

    # ---------------------------------------------------------------- ending

    def close_cluster(self) -> None:
        """End workers and scheduler in order; what does not go in time is killed."""
        for group in (self.workers, [self.scheduler] if self.scheduler else []):
            for process in group:
                for number in (signal.SIGCONT, signal.SIGTERM):
                    if process.poll() is None:
                        process.send_signal(number)
            end = time.monotonic() + 10
            for process in group:
                try:
                    process.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.workers.clear()
        self.scheduler = None

    def kill_all(self) -> None:
        """Nothing of this run lives when this returns."""
        while found := self.processes():
            for process in found:
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
            for started in (*self.workers, self.scheduler, self.driver):
                if started is not None:
                    started.poll()
            time.sleep(0.05)

    # ---------------------------------------------------------------- how far

    def ended_share(self, total: int) -> float:
        """Which share of the mini-batches the journal tells as ended."""
        try:
            with (self.folder / "disk" / "run" / "journal.jsonl").open("rb") as file:
                file.seek(self._journal_read)
                lines = file.readlines()
        except OSError:
            return 0.0
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._journal_read += len(line)
            entry: dict[str, Any] = json.loads(line)
            self._ended += len(entry.get("failed", ()))
            for part in filter(None, entry.get("finished", "").split(",")):
                first, _, last = part.partition("-")
                self._ended += int(last or first) - int(first) + 1
        return self._ended / max(1, total)

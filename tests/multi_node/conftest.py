"""Hosts for the tests of a module, and a driver among them that is a program of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import apt_program

from tests.multi_node.hosts import Hosts, may_make_hosts

PATIENCE = 60.0
SSHD = "/usr/sbin/sshd"
MARKS = ("release", "here", "hold", "trace", "python")
"""Files in the hosts' ``/tmp`` by which tests and scripts tell each other something."""

DRIVER = """
import json
import sys

import dask
from distributed import Security

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SSHTarget, TabularDataset


if __name__ == "__main__":
    job = json.loads(open(sys.argv[1]).read())
    dask.config.set(job["dask_config"])
    kind = TabularDataset.from_delimited_files if job["table"] else FileDataset.from_files
    given = kind(job["input"], storage_options=job["storage_options"])
    config = ParallelRunConfig(**job["settings"])
    step = ParallelRunStep("several-hosts", config, given, output=job["folder"] + "/out", **job["step"])
    target = job["target"]
    if job["security"]:
        target = SSHTarget(**target["ssh"], security=Security(**job["security"]))
    run = step.submit(run_folder=job["folder"] + "/run", compute_target=target)
    state = run.wait_for_completion(raise_on_error=False)
    print(json.dumps({"state": state, "error": run.error}))
"""

SCRIPT = """
import os
import socket
import time
from pathlib import Path


def run(mini_batch):
    is_table = hasattr(mini_batch, "columns")
    items = mini_batch["item"].astype(str) if is_table else [Path(path).name for path in mini_batch]
    rows = []
    for item in items:
        print("seen", item)
        time.sleep({pause})
        while item == "{held}" and not Path("/tmp/release").exists():
            time.sleep(0.05)
        rows.append(f"{item} {socket.gethostname()} {os.getpid()}")
    return rows
"""


class Job:
    """A step run that a driver of its own makes; its files lie here.

    ``more``: settings, and ``script``, ``step`` (what else the step is given), ``security``, ``environment_of_driver``.
    """

    def __init__(self, hosts: Hosts, folder: Path, target: Any, names: list[str], given: Any, **more: Any) -> None:
        self.hosts, self.folder, self.names = hosts, folder, names
        pause, held = more.pop("pause", 0.05), more.pop("held", "")
        script = more.pop("script", SCRIPT)
        (folder / "score.py").write_text(script.replace("{pause}", str(pause)).replace("{held}", held))
        environment = more.pop("environment_of_driver", {})
        job = {
            "folder": str(folder),
            "target": target,
            "input": given,
            "table": more.pop("table", False),
            "storage_options": more.pop("storage_options", None),
            "dask_config": more.pop("dask_config", {}),
            "step": more.pop("step", {}),
            "security": more.pop("security", None),
            "settings": {
                "entry_script": str(folder / "score.py"),
                "mini_batch_size": 1,
                "error_threshold": 0,
                "output_action": "append_row",
                "process_count_per_node": 1,
                "node_count": len(hosts.names),
                **more,
            },
        }
        (folder / "job.json").write_text(json.dumps(job))
        (folder / "driver.py").write_text(DRIVER)
        self.log = folder / "driver.log"
        with self.log.open("wb") as log:
            command = [sys.executable, str(folder / "driver.py"), str(folder / "job.json")]
            pipes = {"stdout": subprocess.PIPE, "stderr": log, "stdin": subprocess.DEVNULL}
            self.process = hosts.on_driver(*command, env=environment, **pipes)

    def rows(self) -> list[list[str]]:
        """Those that are in the output so far: item, host, process."""
        files = list((self.folder / "out").glob("parallel_run_step.txt*"))
        lines = [path.read_text() for path in files if path.suffix in (".txt", ".partial")]
        return [line.split(" ") for text in lines for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def until(self, is_so: Callable[[], Any], seconds: float = PATIENCE) -> float:
        """Wait until something is so; the seconds that it took."""
        begun = time.monotonic()
        while not is_so():
            assert self.process.poll() is None, self.told()
            assert time.monotonic() - begun < seconds, self.told()
            time.sleep(0.05)
        return time.monotonic() - begun

    def until_rows(self, count: int, seconds: float = PATIENCE) -> float:
        return self.until(lambda: len(self.rows()) >= count, seconds)

    def end(self, seconds: float = PATIENCE) -> Counter[str]:
        """When it has completed: how many rows are whose, each item's being there once."""
        self.expect("Completed", seconds)
        return self.rows_of_hosts()

    def expect(self, state: str, seconds: float = PATIENCE) -> str:
        """When it has ended so: why."""
        told, _ = self.process.communicate(timeout=seconds)
        answer = json.loads(told or b"{}")
        assert answer.get("state") == state, answer.get("error") or self.told()
        return str(answer["error"])

    def rows_of_hosts(self) -> Counter[str]:
        """How many rows are whose, each item's being there once."""
        rows = self.rows()
        assert Counter(item for item, _, _ in rows) == Counter(self.names), "every row once"
        return Counter(host for _, host, _ in rows)

    def told(self) -> str:
        overview = "".join(path.read_text() for path in (self.folder / "run/logs").glob("driver_log.txt"))
        return self.log.read_text() + overview

    def log_of(self, name: str) -> str:
        """One of its logs, so far."""
        return (self.folder / "run/logs" / name).read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            for child in [*_children(self.process.pid), self.process.pid]:
                os.kill(child, signal.SIGKILL)
        self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()


def _children(pid: int) -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """node1, node2 and node3."""
    leave_out = pytest.fail if os.environ.get("CI") else pytest.skip
    if os.geteuid():
        leave_out("hosts are made of namespaces, which only root may make")
    if why_not := may_make_hosts():
        leave_out(f"hosts cannot be made here: {why_not}")
    if not os.path.exists(SSHD) and os.path.isdir("/run/systemd/system"):
        leave_out(f"there is no {SSHD}, and to install it would start an SSH server in this machine's own network")
    with Hosts(tmp_path_factory.mktemp("hosts"), 3, apt_program((SSHD,), "openssh-server")) as made:
        yield made


@pytest.fixture
def job(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Submit one: ``job(target, names, inputs, pause=0.1)``; afterwards nothing of it is left on any host."""
    made: list[Job] = []

    def make(target: Any, names: list[str], given: Any, **more: Any) -> Job:
        made.append(Job(hosts, tmp_path, target, names, given, **more))
        return made[-1]

    yield make
    for each in made:
        each.kill()
    for host in hosts:
        for name in MARKS:
            host.path(f"/tmp/{name}").unlink(missing_ok=True)


@pytest.fixture
def files(hosts: Hosts, tmp_path: Path) -> Callable[[int], tuple[list[str], str]]:
    """So many files in a folder that every host has, too: their names, and the folder."""

    def make(count: int) -> tuple[list[str], str]:
        folder = tmp_path / "data"
        folder.mkdir()
        names = [f"{number:03d}" for number in range(count)]
        for name in names:
            (folder / name).write_text(name)
        for host in hosts:
            host.give(folder)
        return names, str(folder)

    return make

"""The resource monitor in whole jobs: its files are there at the start, while the job runs, and at the end."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from prs_dask import SettingsError, StepRun
from prs_dask.logs.places import DISK_USAGE_COLUMNS, NODE_USAGE_COLUMNS, PROCESS_USAGE_COLUMNS
from prs_dask.logs.usage_tables import node_columns
from prs_dask.report.resource_usage import read_usage

from .conftest import GOOD, processes_of, wait_until

GATED = """
import os, time

def run(mini_batch):
    while not os.path.exists({gate!r}):
        time.sleep(0.05)
    return [os.path.basename(path) for path in mini_batch]
"""
"""Goes on when there is a file."""
EVERY_SECOND = ("--resource_monitor_interval", "1")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def table(run: StepRun, name: str) -> list[dict[str, str]]:
    path = run.log_dir / f"perf/0/{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def monitors(run: StepRun) -> list[psutil.Process]:
    return [one for one in processes_of(run.id) if b"resource_usage" in _command(one)]


def _command(process: psutil.Process) -> bytes:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return b""


def test_what_nodes_and_processes_use_is_told_from_the_start_to_the_end(submit: Any, gate: Path) -> None:
    run = submit(GATED.format(gate=str(gate)), 20, arguments=EVERY_SECOND)
    wait_until(lambda: len(table(run, "node_resource_usage")) >= 3, 40)
    assert run.get_status() == "Running"
    gate.touch()
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"

    nodes = table(run, "node_resource_usage")
    assert len(nodes) >= 4
    assert tuple(nodes[0])[: len(NODE_USAGE_COLUMNS)] == NODE_USAGE_COLUMNS
    memory = psutil.virtual_memory().total / 2**20
    assert all(abs(float(row["Memory Total (MB)"]) - memory) < 1 for row in nodes)
    assert all(0 <= float(row["Cpu Percent"]) <= 100 for row in nodes)
    assert all(float(row["Memory Used Percent"]) > 0 for row in nodes)
    times = [row["Utc Time"] for row in nodes]
    assert times == sorted(times)

    processes = table(run, "processes_resource_usage")
    assert tuple(processes[0]) == PROCESS_USAGE_COLUMNS
    names = {row["Process"] for row in processes}
    assert {"process000", "process001", "worker", "monitor"} <= names
    assert all(float(row["Memory Used (MB)"]) > 1 for row in processes)

    disks = table(run, "node_disk_usage")
    assert tuple(disks[0]) == DISK_USAGE_COLUMNS
    assert "/" in {row["Mount Point"] for row in disks}

    listed = sorted((run.log_dir / "perf/0/os").glob("*/processes_*"))
    assert all(len(path.parent.name) == 10 and len(path.name) == len("processes_59") for path in listed)
    assert listed[0].read_text().splitlines()[1].split()[:2] == ["PID", "PPID"]

    [usage] = read_usage(run.log_dir / "perf")
    assert (usage.samples, set(usage.shares) >= {"CPU", "memory"}) == (len(nodes), True)
    assert not processes_of(run.id)


def test_a_short_job_has_a_sample_of_its_start_and_one_of_its_end_or_one_of_both(job: Any) -> None:
    done = job(items=3)
    assert len(table(done.run, "node_resource_usage")) in (1, 2)


def test_it_can_be_turned_off(job: Any) -> None:
    done = job(items=3, arguments=("--resource_monitor_interval", "0"))
    assert not (done.run.log_dir / "perf").exists()


def test_another_supervisor_goes_on_where_the_one_with_the_monitor_was_killed(
    submit: Any, no_leaks: None, gate: Path
) -> None:
    run = submit(GATED.format(gate=str(gate)), 40, compute_target="local", arguments=EVERY_SECOND, run_max_try=5)
    wait_until(lambda: len(table(run, "node_resource_usage")) >= 2, 40)
    [monitor] = monitors(run)
    reaper = monitor.parent()
    assert reaper is not None
    worker = reaper.parent()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    before = len(table(run, "node_resource_usage"))
    wait_until(lambda: [one for one in monitors(run) if one != monitor], 40)
    wait_until(lambda: len(table(run, "node_resource_usage")) >= before + 3, 40)
    assert not monitor.is_running()
    gate.touch()
    assert run.wait_for_completion(timeout_seconds=80) == "Completed"
    rows = table(run, "node_resource_usage")
    assert all(row["# of UDP Connections"] and None not in row for row in rows), "a torn row"
    assert run.summary().failed_mini_batches == 0


def test_gpus_have_columns_and_are_in_the_report(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/pynvml.py").write_text(
        """
from types import SimpleNamespace
NVMLError = ValueError
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUtilizationRates(index): return SimpleNamespace(gpu=40 + index)
def nvmlDeviceGetMemoryInfo(index): return SimpleNamespace(total=80 << 30, used=20 << 30)
"""
    )
    run = submit(GOOD, 5, arguments=EVERY_SECOND, environment_variables={"PYTHONPATH": str(tmp_path / "library")})
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    rows = table(run, "node_resource_usage")
    assert tuple(rows[0]) == node_columns(2)
    assert (rows[0]["GPU 1 Percent"], rows[0]["GPU 1 Memory Total (MB)"]) == ("41", "81920.0")
    [usage] = read_usage(run.log_dir / "perf")
    assert list(usage.shares["GPU 1 Percent"]) == [41.0] * len(rows)
    assert list(usage.shares["GPU 0 Memory Used Percent"]) == [25.0] * len(rows)


@pytest.mark.parametrize("interval", ["0.2", "-1", "soon"])
def test_an_interval_that_makes_no_sense_is_refused(submit: Any, interval: str) -> None:
    with pytest.raises(SettingsError, match=f"interval: found '{interval}'; allowed: seconds, at least 1"):
        submit(GOOD, 1, arguments=("--resource_monitor_interval", interval))

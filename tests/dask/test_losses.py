"""Workers, nannies and nodes that are lost or sick: the job goes on, and who has done nothing is not charged."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections import Counter

import psutil
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # Sockets that Dask leaves to the garbage collector when the other end has died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TWO_NODES = """
import os
import prs_dask.engine.supervisor as supervisor
supervisor.node_key = lambda: os.environ["WHERE"]
"""
"""Preloaded by workers that pose as nodes of their own."""


def table(run) -> list[dict[str, str]]:
    with open(run.log_dir / "sys" / "job_report" / "processed_mini-batches.csv", newline="") as file:
        return list(csv.DictReader(file))


def categories(run) -> Counter[str]:
    return Counter(row["Error Category"] or row["Status"] for row in table(run))


def test_all_workers_gone_for_twenty_seconds_cost_nothing_but_time(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client():
        submitted = job(ours.address, 300, pause=0.03)
        submitted.until(50)
        for name in ("first", "second"):
            ours.workers[name].kill()
        time.sleep(20)
        assert submitted.run.get_status() == "Running"
        ours.add("third")
        rows = submitted.wait(90)
    assert "third" in {row.where for row in rows}
    told = categories(submitted.run)
    assert told.pop("worker lost", 0) <= 2
    assert told == {"Succeeded": 300}


def test_workers_that_do_not_come_back_end_the_step_run_in_time(fleet, job):
    ours = fleet(first=1)
    with ours.client():
        submitted = job(ours.address, 300, pause=0.03, arguments=["--progress_update_timeout", "4"])
        submitted.until(50)
        ours.workers["first"].kill()
        assert submitted.run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Failed"
    assert "there has been no worker for" in submitted.run.error
    assert "--progress_update_timeout 4" in submitted.run.error


def test_a_quick_mini_batch_is_not_charged_for_a_worker_that_somebody_kills(fleet, job):
    """Nobody can know that one of a few milliseconds was under way."""
    ours = fleet(first=1, second=1)
    with ours.client():
        submitted = job(ours.address, 2500, pause=0.003, run_max_try=1)
        submitted.until(300)
        ours.workers["second"].kill()
        submitted.wait(90)
    assert categories(submitted.run) == {"Succeeded": 2500}


def test_a_nanny_that_is_killed_takes_its_worker_along_and_the_job_goes_on(fleet, job):
    ours = fleet(first=1)
    ours.add("guarded", nanny=True)
    with ours.client():
        submitted = job(ours.address, 500, pause=0.03)
        end = time.monotonic() + 60
        while not ours.processes("guarded") and time.monotonic() < end:
            time.sleep(0.1)
        below = psutil.Process(ours.workers["guarded"].pid).children(recursive=True)
        assert len(below) >= 3  # the worker, a reaper, a worker process
        ours.workers["guarded"].kill()
        rows = submitted.wait(90)
        _, alive = psutil.wait_procs(below, timeout=20)
        assert not alive, alive
    assert {row.where for row in rows} <= {"first", "guarded"}
    told = categories(submitted.run)
    assert told.pop("worker lost", 0) <= 1
    assert told == {"Succeeded": 500}


@pytest.mark.parametrize("sickness", ["raise RuntimeError('no GPU here')", "import a_module_nobody_has", "os.abort()"])
def test_a_sick_node_is_left_out_while_another_works(fleet, tmp_path, sickness):
    ours = fleet()
    (ours.folder / "two_nodes.py").write_text(TWO_NODES)
    for name in ("healthy", "sick"):
        ours.add(name, preload=str(ours.folder / "two_nodes.py"))
    folder = tmp_path / "items"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:04d}").touch()
    (tmp_path / "script.py").write_text(
        f"""
import os, time
def init():
    if os.environ["WHERE"] == "sick":
        {sickness}
def run(mini_batch):
    time.sleep(0.03)
    return [f"{{os.path.basename(mini_batch[0])}} {{os.environ['WHERE']}}"]
"""
    )
    config = ParallelRunConfig(
        entry_script=str(tmp_path / "script.py"), mini_batch_size=1, error_threshold=0, output_action="append_row",
        node_count=2, process_count_per_node=1,
    )  # fmt: skip
    step = ParallelRunStep("sick", config, FileDataset.from_files(folder), output=tmp_path / "out")
    with ours.client():
        run = step.submit(run_folder=tmp_path / "run", compute_target=ours.address)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed"
    rows = [line.split() for line in run.output_file.read_text().splitlines()]
    assert sorted(int(number) for number, _ in rows) == list(range(200))
    assert {where for _, where in rows} == {"healthy"}
    master = (run.log_dir / "sys/master_role.txt").read_text()
    assert master.count("could not start") == 3, "3 x process_count_per_node"
    assert run.summary().attempts == 200


def test_a_worker_that_is_stopped_and_killed_leaves_nobody_charged_who_had_not_begun(fleet, job):
    """It hangs before it has told of anything; then it is gone for good."""
    ours = fleet(first=1, second=1)
    with ours.client():
        submitted = job(ours.address, 200, pause=0.05, init=1.0, run_max_try=1)
        end = time.monotonic() + 60
        while not ours.processes("second") and time.monotonic() < end:
            time.sleep(0.02)
        ours.workers["second"].send_signal(signal.SIGSTOP)
        submitted.until(100)
        os.kill(ours.workers["second"].pid, signal.SIGKILL)
        submitted.wait(90)
    assert categories(submitted.run) == {"Succeeded": 200}

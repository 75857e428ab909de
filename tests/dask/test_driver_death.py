"""The driver of an attached cluster is killed or stopped: the cluster is left as it was found, within a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prs_dask.output.journal import read_journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # Sockets that Dask leaves to the garbage collector when the other end has died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PROGRAM = """
import sys, time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep
from prs_dask.engine import run_settings

run_settings.SILENT_SECONDS = float(sys.argv[2])

if __name__ == "__main__":
    config = ParallelRunConfig(
        entry_script="script.py", mini_batch_size=1, error_threshold=0, output_action="append_row"
    )
    step = ParallelRunStep("attached", config, FileDataset.from_files("items"), output="answers")
    run = step.submit(run_folder="run", compute_target=sys.argv[1])
    while run.summary().rows < 30:
        time.sleep(0.01)
    print("running", flush=True)
    print(run.wait_for_completion(raise_on_error=False), run.error, flush=True)
"""

SCRIPT = """
import os, subprocess, sys, time
def init():
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
def run(mini_batch):
    time.sleep(0.03)
    return [os.path.basename(path) for path in mini_batch]
"""


@pytest.fixture
def driver(tmp_path):
    """``driver(address, silent)``: in the middle of its work."""
    started = []
    items = tmp_path / "items"
    items.mkdir()
    for number in range(3000):
        (items / f"{number:04d}").touch()
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "program.py").write_text(PROGRAM)

    def start(address, silent):
        process = subprocess.Popen(
            [sys.executable, "program.py", address, str(silent)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "running\n"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def descendants(ours):
    return [one for worker in ours.workers.values() for one in psutil.Process(worker.pid).children(recursive=True)]


def expect_nothing_left(ours, client, folder, before, seconds):
    end = time.monotonic() + seconds
    while True:
        left = [one for one in before if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        found = client.run_on_scheduler(
            lambda dask_scheduler: [*dask_scheduler.plugins, *dask_scheduler.worker_plugins]
        )
        for names in client.run(lambda dask_worker: list(dask_worker.plugins)).values():
            found += names
        plugins = [name for name in found if name.startswith("prs")]
        folders = list(Path(os.environ["TMPDIR"]).glob("prs-dask-*"))
        if not (left or plugins or folders):
            break
        assert time.monotonic() < end, (left, plugins, folders)
        time.sleep(0.1)
    state = read_journal(folder / "run/journal.jsonl")
    partial = (folder / "answers/parallel_run_step.txt.partial").read_bytes()
    assert len(partial) >= state.output_length > 0
    assert sorted(map(int, partial[: state.output_length].split())) == list(state.finished)


@pytest.mark.parametrize("nanny", [False, True], ids=["without nannies", "with nannies"])
def test_a_killed_driver_leaves_nothing_on_an_attached_cluster(fleet, driver, tmp_path, nanny):
    ours = fleet()
    for name in ("first", "second"):
        ours.add(name, nanny=nanny)
    with ours.client() as client:
        before_all = {one.pid for one in descendants(ours)}
        process = driver(ours.address, 45)
        children = [one for one in descendants(ours) if one.pid not in before_all]
        assert len(children) >= 6  # a reaper, a worker process and what it has started, each
        process.kill()
        expect_nothing_left(ours, client, tmp_path, children, 40)


def test_a_stopped_driver_loses_the_step_run_and_is_told_so_when_it_comes_back(fleet, driver, tmp_path):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        process = driver(ours.address, 5)
        children = descendants(ours)
        process.send_signal(signal.SIGSTOP)
        expect_nothing_left(ours, client, tmp_path, children, 40)
        written = read_journal(tmp_path / "run/journal.jsonl").output_length
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate(timeout=60)
    assert told.startswith("Failed")
    assert "had not heard of its driver" in told
    assert "prs-dask resume" in (tmp_path / "run/logs/job_result.txt").read_text()
    state = read_journal(tmp_path / "run/journal.jsonl")
    assert state.end_state == "Failed"
    # No more than what it had in hand when it was stopped.
    assert written <= state.output_length <= written + 3000

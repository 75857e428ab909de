"""Rows that come faster than the disk takes them: what is called completed has all of them."""

from __future__ import annotations

import threading
import time

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep
from prs_dask.engine import scheduler_plugin, step_run
from prs_dask.output.committer import Committer

pytestmark = pytest.mark.timeout(120)

COUNT = 40


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A step run of which all mini-batches have ended, but whose rows are still being written, two at a time."""
    monkeypatch.setattr(step_run, "END_SECONDS", 0.1)
    monkeypatch.setattr(scheduler_plugin, "MOST_REPLY_BYTES", 150)
    commit = Committer.commit
    is_slow = threading.Event()
    is_slow.set()

    def slowly(self, batch, **more):
        if batch and is_slow.is_set():
            time.sleep(0.3)
        return commit(self, batch, **more)

    monkeypatch.setattr(Committer, "commit", slowly)
    items = tmp_path / "items"
    items.mkdir()
    for number in range(COUNT):
        (items / f"{number:04d}").touch()
    script = tmp_path / "script.py"
    script.write_text("import os\ndef run(mini_batch): return [os.path.basename(path) for path in mini_batch]\n")
    config = ParallelRunConfig(
        entry_script=script, output_action="append_row", error_threshold=0, mini_batch_size=1, process_count_per_node=1
    )
    step = ParallelRunStep(
        "slow", config, FileDataset.from_files(items), tmp_path / "out", arguments=["--shutdown_timeout", "0.1"]
    )
    run = step.submit(run_folder=tmp_path / "run", compute_target="local")
    while run.progress().succeeded < COUNT:
        assert run.get_status() == "Running"
        time.sleep(0.005)
    assert run.summary().rows < COUNT
    yield step, run, is_slow
    run.cancel()


def rows(run):
    return sorted(map(int, run.output_file.read_text().split()))


def test_rows_are_written_however_long_it_takes(slow):
    _, run, _ = slow
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert rows(run) == list(range(COUNT))
    assert run.summary().rows == COUNT


def test_a_step_run_that_is_ended_before_its_rows_are_written_is_canceled_and_can_be_gone_on_with(slow):
    step, run, is_slow = slow
    run.kill()
    assert run.wait_for_completion(timeout_seconds=20, raise_on_error=False) == "Canceled"
    assert not run.output_file.exists()
    is_slow.clear()
    again = step.submit(resume=run.run_folder, compute_target="local")
    assert again.wait_for_completion(timeout_seconds=60) == "Completed"
    assert rows(again) == list(range(COUNT))

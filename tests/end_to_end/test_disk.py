"""A disk that is full or gone, folders that cannot be written, no descriptors left: Failed with cause and advice, and
what was committed is gone on with once there is room.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRunFailed
from prs_dask.output.journal import read_journal
from prs_dask.output.journal_lock import holder

pytestmark = pytest.mark.timeout(150)

ROWS = """
import os, time
def run(mini_batch):
    time.sleep(0.005)
    return [os.path.basename(path) + " " + "x" * 4000 for path in mini_batch]
"""

PRINTING = """
import os, time
def run(mini_batch):
    time.sleep(0.005)
    print("y" * 4000, flush=True)
    return [os.path.basename(path) for path in mini_batch]
"""

HUGE = """
import os
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    return [name + " " + "x" * (3_000_000 if name == "0150" else 10)]
"""

COUNT = 300


def enlarge(folder):
    subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)


@pytest.fixture
def made(tmp_path, cluster):
    """``made(script, run_folder, output)``: a step over small files, submitted to the shared cluster."""
    items = tmp_path / "items"
    items.mkdir()
    for number in range(COUNT):
        (items / f"{number:04d}").touch()

    def make(script=ROWS, run_folder=tmp_path / "run", output=tmp_path / "output", **settings):
        (tmp_path / "script.py").write_text(script)
        config = ParallelRunConfig(
            entry_script=tmp_path / "script.py",
            output_action="append_row",
            error_threshold=0,
            mini_batch_size=1,
            process_count_per_node=2,
            append_row_order="input",
            **settings,
        )
        step = ParallelRunStep("disk", config, FileDataset.from_files(items), output)
        return step, step.submit(run_folder=run_folder, compute_target=cluster.address)

    return make


def failed(run):
    with pytest.raises(StepRunFailed) as caught:
        run.wait_for_completion(timeout_seconds=90)
    assert caught.value.state == "Failed"
    return str(caught.value)


def goes_on(step, run, cluster):
    """Resumed with room, it has what an undisturbed one has."""
    resumed = step.submit(resume=run.run_folder, compute_target=cluster.address)
    assert resumed.wait_for_completion(timeout_seconds=90) == "Completed"
    lines = resumed.output_file.read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(COUNT))
    assert resumed.summary().succeeded_mini_batches == COUNT


def committed(run):
    return len(read_journal(Path(run.run_folder) / "journal.jsonl").finished)


@pytest.mark.parametrize("place", ["output", "run_folder", "both"])
def test_a_full_disk_ends_the_step_run_with_advice_and_it_goes_on_once_there_is_room(made, cluster, small_disk, place):
    folders = {
        "output": {"output": small_disk / "output"},
        "run_folder": {"run_folder": small_disk / "run"},
        "both": {"output": small_disk / "output", "run_folder": small_disk / "run"},
    }[place]
    filler = small_disk / "filler"
    if place == "run_folder":  # rows lie elsewhere: leave no room but for a few lines of the journal
        filler.write_bytes(b"z" * (512 - 72 << 10))
    step, run = made(**folders)
    text = failed(run)
    assert "No space left on device" in text
    assert "resume" in text
    kept = committed(run)
    if place != "run_folder":
        assert 0 < kept < COUNT
    partial = run.output_file.with_name(run.output_file.name + ".partial")
    assert partial.stat().st_size == read_journal(Path(run.run_folder) / "journal.jsonl").output_length
    enlarge(small_disk)
    filler.unlink(missing_ok=True)
    goes_on(step, run, cluster)


def test_rows_of_huge_mini_batches_that_do_not_fit_while_they_come_in_end_the_step_run_with_advice(
    made, cluster, small_disk
):
    step, run = made(HUGE, run_folder=small_disk / "run")
    text = failed(run)
    assert "No space left on device" in text
    assert str(small_disk / "run/pieces") in text
    assert "free some room, then resume" in text
    assert "internal error" not in text
    enlarge(small_disk)
    goes_on(step, run, cluster)


def test_logs_that_do_not_fit_fail_nothing(made, small_disk):
    (small_disk / "filler").write_bytes(b"z" * (512 - 160 << 10))
    _, run = made(PRINTING, run_folder=small_disk / "run")
    assert run.wait_for_completion(timeout_seconds=90, raise_on_error=False) in ("Completed", "Failed")
    rows = [path for path in (run.output_file, Path(f"{run.output_file}.partial")) if path.exists()]
    assert rows


def test_what_cannot_be_cleared_away_at_the_end_fails_nothing(submit, monkeypatch):
    def too_deep():
        raise RecursionError("what a script has left")

    monkeypatch.setattr("prs_dask.pipeline.step_run.sweep_abandoned", too_deep)
    run = submit("def run(mini_batch): return mini_batch", 2)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert (run.log_dir / "job_result.txt").read_text().startswith("State: Completed")
    assert "what a script has left" in (run.log_dir / "sys/error/driver.txt").read_text()


def test_what_could_not_be_said_at_the_end_is_said_by_a_resume(made, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no logs")

    step, run = made("def run(mini_batch): return mini_batch")
    with monkeypatch.context() as patch:
        patch.setattr("prs_dask.logs.tree.LogTree.finish", broken)
        run.wait_for_completion(timeout_seconds=60)
    assert run.get_status() == "Completed"
    assert "no logs" in (run.log_dir / "sys/error/driver.txt").read_text()
    assert not holder(run.run_folder)
    assert read_journal(run.run_folder / "journal.jsonl").end_state is None
    rows = run.output_file.read_bytes()
    again = step.submit(resume=run.run_folder)
    assert again.wait_for_completion(timeout_seconds=60) == "Completed"
    told = (run.log_dir / "job_result.txt").read_text()
    assert told.startswith("State: Completed")
    assert f"Items: {COUNT} ({COUNT} succeeded, 0 failed)" in told
    assert (run.output_file.read_bytes(), again.summary().attempts) == (rows, run.summary().attempts)


def test_a_run_folder_that_vanishes_ends_nothing_but_the_logs_and_the_output_is_whole(made, wait):
    _, run = made()
    wait(lambda: run.summary().rows > 20, 30)
    shutil.rmtree(run.run_folder)
    state = run.wait_for_completion(timeout_seconds=90, raise_on_error=False)
    if state == "Completed":
        lines = run.output_file.read_text().splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(COUNT))
    else:
        assert run.error


def test_an_output_folder_that_vanishes_is_told_with_what_was_expected_there(made, wait):
    _, run = made()
    wait(lambda: run.summary().rows > 20, 30)
    shutil.rmtree(run.output_dir)
    text = failed(run)
    assert str(run.output_file) in text
    assert "moved or removed" in text


def test_no_descriptors_left_in_the_driver_is_a_failure_that_can_be_gone_on_with(made, wait, cluster):
    step, run = made()
    wait(lambda: run.summary().rows > 20, 30)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1]))
    try:
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        state = run.wait_for_completion(timeout_seconds=90, raise_on_error=False)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    if state == "Failed":
        goes_on(step, run, cluster)
    else:
        assert state == "Completed"
        assert len(run.output_file.read_text().splitlines()) == COUNT

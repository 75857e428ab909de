"""Whole Dask workers that die: charged is only a mini-batch that certainly was the one, and the job goes on."""

import json

import pytest

KILL_WORKER = """
import os, signal, time
import psutil
def kill_worker():
    reaper, worker, *_ = psutil.Process().parents()
    worker.kill()
    time.sleep(60)
"""


def lines_of(run, name):
    return [json.loads(line) for line in (run.log_dir / name).read_text().splitlines()]


@pytest.mark.parametrize("pause", [0.0, 2.6], ids=["at once", "after a beat"])
def test_a_mini_batch_that_kills_its_worker_each_time_fails_alone_and_is_told_why(submit, no_leaks, pause):
    script = (
        KILL_WORKER
        + f"""
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number == 3:
        time.sleep({pause})
        kill_worker()
    return [number]
"""
    )
    run = submit(script, 40, compute_target="local", run_max_try=2)
    assert run.wait_for_completion(timeout_seconds=80, raise_on_error=False) == "Completed", run.error
    rows = sorted(map(int, run.output_file.read_text().splitlines()))
    assert rows == [number for number in range(40) if number != 3]
    [failed] = run.failed_items()
    assert (failed.id, failed.category) == (3, "worker lost")
    assert "was lost while it ran this mini-batch" in failed.message
    [line] = lines_of(run, "user/failed_items.jsonl")
    assert line["item"].endswith("0003")
    assert line["category"] == "worker lost"
    summary = run.summary()
    assert (summary.failed_mini_batches, summary.attempts) == (1, 41)

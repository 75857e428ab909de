"""Logs are current while a step run goes on, whatever its driver is busy with."""

from __future__ import annotations

import csv
import json
import time
from typing import Any

from prs_dask.logs import places

FAILS_ONCE = """
import os, time

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    if name == "0000":
        print("now", time.time(), flush=True)
        raise ValueError("bad")
    time.sleep(0.2)
    return [name]
"""


def test_a_stage_without_rounds_has_its_lines(submit: Any, monkeypatch: Any) -> None:
    from prs_dask import clusters

    open_cluster = clusters.open_cluster

    def slowly(*args: Any) -> Any:
        time.sleep(3)
        return open_cluster(*args)

    monkeypatch.setattr(clusters, "open_cluster", slowly)
    monkeypatch.setattr("prs_dask.logs.overview._EVERY", 0.5)
    monkeypatch.setattr("prs_dask.logs.progress_table._EVERY", 0.5)
    run = submit(FAILS_ONCE, 3)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    (overview,) = run.log_dir.glob(places.OVERVIEW.format(hour="*"))
    assert overview.read_text().count("Running, starting workers: no mini-batches yet") > 2
    with (run.log_dir / places.PROGRESS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["Scheduled Tasks"] == "0" for row in rows) > 2
    assert (rows[-1]["Completed Tasks"], rows[-1]["Failed Tasks"]) == ("2", "1")
    log = (run.log_dir / places.DRIVER_LOG).read_text()
    assert "running (starting workers took 3." in log
    assert "after running began: 3 mini-batches" in log


def test_errors_and_sums_are_there_within_two_seconds(submit: Any, wait: Any) -> None:
    run = submit(FAILS_ONCE, 100, run_max_try=1)
    seen = []
    for name in (places.ERRORS, places.PROCESS_SUMMARY):
        wait((run.log_dir / name).exists, 60, name)
        seen.append(time.time())
    assert run.get_status() == "Running"
    (group,) = json.loads((run.log_dir / places.ERRORS_JSON).read_bytes())["groups"]
    begun = group["first"]
    assert max(seen) - begun < 2 + 2  # and what a busy machine adds
    run.cancel()

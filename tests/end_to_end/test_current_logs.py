"""Logs are current while a step run goes on, whatever its driver is busy with."""

from __future__ import annotations

import csv
import json
import re
import time
from typing import Any

import pytest

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

    def slowly(*args: Any, **settings: Any) -> Any:
        time.sleep(3)
        return open_cluster(*args, **settings)

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


SPEAKS = """
import os, time
from prs_dask import EntryScript

def run(mini_batch):
    if os.path.basename(mini_batch[0]) == "0000":
        EntryScript().logger.info("logged %f", time.time())
        print("printed", time.time())
    time.sleep(0.2)
    return mini_batch
"""


def test_what_a_script_prints_and_logs_is_there_within_two_seconds(submit: Any, wait: Any) -> None:
    run = submit(SPEAKS, 100)
    for place, word in (("stdout/*/*.stdout.txt", "printed"), ("entry_script_log/*/*.log.txt", "logged")):

        def told(place: str = place, word: str = word) -> list[str]:
            texts = [path.read_text() for path in run.log_dir.glob(f"user/{place}")]
            return [line for text in texts for line in text.splitlines(keepends=True) if word in line and "\n" in line]

        wait(told, 60, place)
        seen = time.time()
        assert run.get_status() == "Running"
        assert seen - float(told()[0].split()[-1]) < 2 + 2  # and what a busy machine adds
    run.cancel()


EVERY_WAY = """
import logging, warnings
from prs_dask import EntryScript

def run(mini_batch):
    warnings.warn("told by warnings")
    logging.warning("told by logging")
    logging.info("too little for the root logger")
    logger = EntryScript().logger
    for level in ("debug", "info", "warning"):
        getattr(logger, level)("told at %s", level)
    return mini_batch
"""


@pytest.mark.parametrize(
    ("level", "expected"),
    [("DEBUG", ["DEBUG", "INFO", "WARNING"]), ("INFO", ["INFO", "WARNING"]), ("WARNING", ["WARNING"])],
)
def test_each_way_to_tell_something_has_its_log_and_its_level(job: Any, level: str, expected: list[str]) -> None:
    done = job(EVERY_WAY, 1, logging_level=level)
    out, err = done.logs("user/stdout/*/*.txt"), done.logs("user/stderr/*/*.txt")
    assert ("told by logging" in out, "told by warnings" in out) == (True, False)
    assert ("told by logging" in err, "UserWarning: told by warnings" in err) == (False, True)
    assert "too little" not in out + err
    lines = done.logs("user/entry_script_log/*/*.log.txt").splitlines()
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\|(\w+)\|\d+\|told at (\w+)"
    found = [re.fullmatch(form, line) for line in lines]
    assert [(one[1], one[2].upper()) for one in found if one] == [(name, name) for name in expected]
    assert all(found)


EMPTIES = """
import subprocess, sys, time

def tell(text):
    for stream in (sys.stdout, sys.stderr):
        print(text, file=stream)

def run(mini_batch):
    for number in range(3):
        tell(f"before {number}")
        time.sleep(2.5)
        for stream in ("stdout", "stderr"):
            subprocess.run(f"echo hello {number} > /dev/{stream}; echo and on | tee /dev/{stream}", shell=True)
        tell(f"after {number}")
    return mini_batch
"""


def test_what_is_printed_after_a_child_has_emptied_the_files_behind_stdout_and_stderr_arrives(job: Any) -> None:
    done = job(EMPTIES, 1)
    for stream in ("stdout", "stderr"):
        lines = done.logs(f"user/{stream}/*/*.txt").splitlines()
        told = [f"{when} {number}" for number in range(3) for when in ("before", "after")]
        assert [line for line in lines if line in told] == told
        assert sum("a program has emptied this file" in line for line in lines) == 1

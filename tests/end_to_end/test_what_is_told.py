"""What a run folder tells while its step run is under way and afterwards: every error with its line of code."""

import json
import time

import pytest
from click.testing import CliRunner

from prs_dask.cli import main
from prs_dask.logs.attempt_reader import iter_attempts
from prs_dask.logs.places import ATTEMPTS
from prs_dask.report.run_reading import read_run

KINDS = """
import ctypes, os, re, sys

def score(number):
    if number == 0:
        raise ValueError("bad <b>item</b> \\x1b[31m")
    if number == 1:
        re.match("(a+)+$", "a" * 60 + "b")
    if number == 2:
        ctypes.string_at(0)
    if number == 3:
        sys.exit(42)
    return number

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    return None if number == 4 else [score(number)]
"""


EXPECTED = {"ValueError": 2, "TimeLimit": 2, "ProcessDied": 2, "SystemExit": 2, "BadResult": 2}


@pytest.mark.timeout(150)
def test_every_kind_of_error_is_told_with_its_line_of_code(job):
    done = job(KINDS, 10, run_max_try=2, error_threshold=-1, run_invocation_timeout=2)
    assert done.state == "Completed", done.run.error
    reading = read_run(done.run.run_folder)
    groups = reading.errors.most_frequent()
    # A stack may be missing where a busy machine gives a process that is to be killed no time to write it.
    assert {kind: sum(group.count for group in groups if group.type == kind) for kind in EXPECTED} == EXPECTED
    told = {group.type: (group.where, group.source, group.mini_batch) for group in reversed(groups) if group.where}
    lines = KINDS.splitlines()

    def at(words):
        number = next(number for number, line in enumerate(lines, 1) if words in line)
        return f"script.py:{number} in score", lines[number - 1].strip()

    assert told == {
        "ValueError": (*at("bad <b>"), "0"),
        "TimeLimit": (*at("re.match"), "1"),
        "ProcessDied": (*at("string_at"), "2"),
        "SystemExit": (*at("sys.exit"), "3"),
    }
    for group in groups:
        assert (done.run.log_dir / group.log).is_file()
    shown = CliRunner().invoke(main, ["errors", str(done.run.run_folder)]).output
    assert "what it printed: " in shown
    assert "\x1b" not in shown


@pytest.mark.timeout(150)
def test_a_run_folder_and_its_step_run_say_the_same(job):
    done = job(KINDS, 10, run_max_try=2, error_threshold=2, run_invocation_timeout=2)
    assert done.state == "Failed"
    reading = read_run(done.run.run_folder)
    assert (reading.state, reading.summary) == ("Failed", done.run.summary())
    assert (reading.cause, reading.resume) == (done.run.error, done.run.resume_hint)
    assert reading.output == done.file
    assert reading.gaps == ()
    rows = iter_attempts(reading.log(ATTEMPTS))
    final = [row.record for row in rows if row.record.final]
    assert rows.torn == 0
    assert sum(record.items for record in final) == reading.summary.items
    assert sum(record.succeeded_items for record in final) == reading.summary.succeeded_items
    status = json.loads(CliRunner().invoke(main, ["status", "--json", str(done.run.run_folder)]).output)
    assert status["summary"]["attempts"] == reading.summary.attempts


def test_one_under_way_is_read_without_holding_it_up(submit, wait):
    run = submit("import os, time\ndef run(mini_batch): time.sleep(0.2); return [os.path.basename(mini_batch[0])]", 40)
    wait(lambda: run.summary().succeeded_mini_batches > 2, 30, "the first rows")
    begun = time.monotonic()
    reading = read_run(run.run_folder)
    assert time.monotonic() - begun < 2
    assert (reading.state, reading.resume) == ("Running", "")
    assert reading.driver.startswith("process ")
    assert 0 < reading.summary.succeeded_mini_batches <= 40
    run.cancel()
    ended = read_run(run.run_folder)
    assert (ended.state, ended.summary) == ("Canceled", run.summary())

"""Thresholds at their edges, and time limits of code that cannot be interrupted."""

import contextlib
import re
import sqlite3
import time

import pytest

from prs_dask import FileDataset, TabularDataset

FAILS = """
import os
def run(mini_batch):
    if any(int(os.path.basename(path)) in {bad} for path in mini_batch): raise ValueError("bad item")
    return [os.path.basename(path) for path in mini_batch]
"""


def fails(*bad):
    return FAILS.format(bad=set(bad) or "()")


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"error_threshold": 3}, "Completed"),
        ({"error_threshold": 2}, "Failed"),
        ({"error_threshold": 0}, "Failed"),
        ({"error_threshold": -1}, "Completed"),
        ({"error_threshold": -1, "allowed_failed_count": 3}, "Completed"),
        ({"error_threshold": -1, "allowed_failed_count": 2}, "Failed"),
        ({"error_threshold": -1, "allowed_failed_count": -1}, "Completed"),
        ({"error_threshold": -1, "allowed_failed_count": 0}, "Failed"),
        ({"error_threshold": -1, "allowed_failed_percent": 15}, "Completed"),
        ({"error_threshold": -1, "allowed_failed_percent": 14.99}, "Failed"),
        ({"error_threshold": -1, "allowed_failed_percent": 0}, "Failed"),
        ({"error_threshold": -1, "allowed_failed_percent": 100}, "Completed"),
        ({"error_threshold": 3, "allowed_failed_count": 2}, "Failed"),
    ],
)
def test_three_failures_of_twenty_at_the_edges_of_every_threshold(job, settings, state):
    done = job(fails(2, 11, 19), 20, run_max_try=1, **settings)
    assert done.state == state, done.run.error
    if state == "Completed":
        assert done.items == [number for number in range(20) if number not in (2, 11, 19)]
        assert done.run.summary().failed_items == 3
    else:
        (name,) = [name for name in settings if name in done.run.error]
        assert f"{name}={settings[name]}" in done.run.error
        assert set(done.items) <= set(range(20))
        assert len(set(done.items)) == len(done.items)


def test_items_of_a_failed_mini_batch_all_count_and_once_whatever_the_attempts(job):
    done = job(fails(2), 20, mini_batch_size=5, run_max_try=3, error_threshold=5)
    summary = done.run.summary()
    assert done.state == "Completed"
    assert (summary.failed_items, summary.succeeded_items, summary.items, summary.attempts) == (5, 15, 20, 6)


def test_missing_results_count_against_the_threshold_of_items_and_not_of_mini_batches(job):
    script = "def run(mini_batch): return ['x'] * (len(mini_batch) - 1)"
    done = job(script, 20, mini_batch_size=5, error_threshold=4, allowed_failed_count=0)
    assert done.state == "Completed"
    assert done.run.summary().failed_items == 4


def test_one_missing_result_more_than_allowed_aborts(job):
    script = "def run(mini_batch): return ['x'] * (len(mini_batch) - 1)"
    done = job(script, 20, mini_batch_size=5, error_threshold=3)
    assert done.state == "Failed"
    assert "4 failed items are more than error_threshold=3 allows" in done.run.error


def test_an_abort_stops_what_runs_and_starts_nothing_more(job):
    script = """
import os, time
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number == 0:
        time.sleep(0.3)
        raise ValueError("the end")
    time.sleep(100 if number == 1 else 0)
    return [number]
"""
    done = job(script, 20, run_max_try=1, error_threshold=0)
    assert done.state == "Failed"
    assert done.run.summary().total_seconds < 10


STUCK = {
    "a regex that backtracks, the GIL held": "re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "a loop that catches everything": "forever()",
    "signals ignored": "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 19)]; time.sleep(1000)",
    "C code asleep with the GIL": "ctypes.PyDLL(None).sleep(1000)",
    "waiting for a subprocess": "subprocess.run(['sleep', '1000'])",
    "a pipe that nobody writes to": "os.read(os.pipe()[0], 1)",
    "threads of its own": "[threading.Thread(target=time.sleep, args=(99,)).start() for _ in range(5)]; time.sleep(99)",
}


@pytest.mark.parametrize("how", STUCK)
def test_run_that_does_not_return_is_dead_and_replaced_within_a_second_after_its_limit(job, how, tmp_path):
    script = f"""
import ctypes, os, re, signal, subprocess, sys, threading, time
def forever():
    while True:
        try:
            while True: pass
        except BaseException:
            continue
def note(what):
    with open({str(tmp_path / "notes")!r}, "a") as file: file.write(f"{{what}} {{time.time()}}\\n")
def init(): note("init")
def the_stuck_function():
    {STUCK[how]}
def run(mini_batch):
    if int(os.path.basename(mini_batch[0])) == 3:
        note("stuck")
        the_stuck_function()
    return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 20, run_max_try=1, run_invocation_timeout=0.7)
    assert done.items == [number for number in range(20) if number != 3]
    (failed,) = [row for row in done.attempts if row["Status"] == "Failed"]
    assert failed["Error Category"] == "time limit"
    assert "run_invocation_timeout=0.7" in failed["Error Message"]
    assert 0.7 <= float(failed["Run Method Seconds"]) < 1.7
    told = done.logs("user/error/*/*.txt")
    assert re.search(r"script\.py\W+line \d+ in (the_stuck_function|forever)", told), told


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(1000)", "S (sleeping)"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "T (stopped)"),
    ],
)
def test_where_no_signal_gets_through_the_limit_holds_and_the_kernels_word_stands_for_the_stack(job, how, state):
    script = f"""
import os, signal, time
def run(mini_batch):
    if os.path.basename(mini_batch[0]) == "0003": {how}
    return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 10, run_max_try=1, run_invocation_timeout=0.7)
    assert done.categories() == {"time limit": 1}
    [failed] = [row for row in done.attempts if row["Status"] == "Failed"]
    assert float(failed["Run Method Seconds"]) < 1.9
    assert f"the kernel says it is {state}" in done.logs("user/error/*/*.txt")


def test_reading_that_hangs_is_killed_at_its_own_limit(job, tmp_path):
    """A database that is locked makes the query wait for 5 s."""
    path = tmp_path / "numbers.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table numbers (number integer)")
        database.execute("insert into numbers values (1)")
        database.commit()
    script = f"""
import sqlite3
def init():
    global lock
    lock = sqlite3.connect({str(path)!r}, isolation_level=None)
    lock.execute("begin exclusive")
def run(mini_batch): return mini_batch["number"].tolist()
"""
    inputs = TabularDataset.from_sql_query(f"sqlite:///{path}", "select number from numbers")
    limits = ["--task_overhead_timeout", "1.5"]
    done = job(script, inputs=inputs, run_max_try=2, process_count_per_node=1, arguments=limits)
    assert [row["Error Category"] for row in done.attempts] == ["time limit"] * 2
    assert all(1.5 <= float(row["Elapsed Seconds"]) < 2.5 for row in done.attempts), done.attempts
    assert "reading the mini-batch took longer than --task_overhead_timeout=1.5 s" in done.attempts[0]["Error Message"]
    assert "in read_query" in done.logs("user/error/*/*.txt")


def test_a_listing_that_finds_nothing_in_time_fails_the_step_run(submit, monkeypatch):
    """The first mini-batch does not exist after --first_task_creation_timeout."""
    listed = FileDataset.mini_batches

    def slowly(self, *arguments, **more):
        time.sleep(3)
        yield from listed(self, *arguments, **more)

    monkeypatch.setattr(FileDataset, "mini_batches", slowly)
    run = submit("def run(mini_batch): return mini_batch", 3, arguments=["--first_task_creation_timeout", "0.5"])
    assert run.wait_for_completion(timeout_seconds=30, raise_on_error=False) == "Failed"
    assert "--first_task_creation_timeout" in run.error
    assert run.summary().total_seconds < 10


def test_a_new_process_is_ready_within_a_second_after_the_limit(job, tmp_path):
    script = f"""
import os, re, time
def note(what):
    with open({str(tmp_path / "notes")!r}, "a") as file: file.write(f"{{what}} {{time.time()}}\\n")
def init(): note("init")
def run(mini_batch):
    if int(os.path.basename(mini_batch[0])) == 0:
        note("stuck")
        re.match(r'(a+)+$', 'a' * 64 + 'b')
    time.sleep(0.1)
    return [os.path.basename(mini_batch[0])]
"""
    limit = 0.5
    done = job(script, 40, run_max_try=1, run_invocation_timeout=limit)
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    stuck = next(float(when) for what, when in notes if what == "stuck")
    again = [float(when) for what, when in notes if what == "init" and float(when) > stuck + limit]
    assert done.run.summary().failed_items == 1
    assert min(again) < stuck + limit + 1


def test_the_neighbours_of_a_stuck_mini_batch_do_not_wait_for_its_limit(job):
    script = """
import os, re, time
def run(mini_batch):
    if int(os.path.basename(mini_batch[0])) == 500: time.sleep(1000)
    return [f"{os.path.basename(mini_batch[0])}"]
"""
    done = job(script, 1000, run_max_try=1, run_invocation_timeout=3)
    assert done.items == [number for number in range(1000) if number != 500]
    ends = sorted(row["Process Start Time"] for row in done.attempts if row["Status"] == "Succeeded")
    assert (int(ends[-1][17:19]) - int(ends[0][17:19])) % 60 <= 2


def test_rows_that_never_end_are_under_the_limit_of_the_engines_own_work(job):
    script = """
import os, time
class Slow:
    def __str__(self): time.sleep(1000)
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    return [Slow() if number == 2 else number]
"""
    done = job(script, 8, run_max_try=1, arguments=["--task_overhead_timeout", "0.6"])
    assert done.items == [0, 1, *range(3, 8)]
    (failed,) = [row for row in done.attempts if row["Status"] == "Failed"]
    assert "task_overhead_timeout" in failed["Error Message"]


def test_a_generator_that_hangs_is_under_the_limit_of_run(job):
    script = """
import os, time
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    yield number
    if number == 2: time.sleep(1000)
"""
    done = job(script, 8, run_max_try=1, run_invocation_timeout=0.5)
    assert done.items == [0, 1, *range(3, 8)]
    assert done.categories() == {"time limit": 1}

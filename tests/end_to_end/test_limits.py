"""Thresholds at their edges, and time limits of code that cannot be interrupted."""

import re

import pytest

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
    "threads of its own": "[threading.Thread(target=time.sleep, args=(99,)).start() for _ in range(5)]; time.sleep(99)",
}


@pytest.mark.parametrize("how", STUCK)
def test_run_that_does_not_return_is_dead_and_replaced_within_a_second_after_its_limit(job, how, tmp_path):
    script = f"""
import ctypes, os, re, signal, sys, threading, time
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

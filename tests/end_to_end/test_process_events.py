"""What is told of worker processes: each has one life, with the true cause of its end; see `Job.check_lives`."""

import csv
import re
from collections import Counter
from dataclasses import replace

DEATHS = """
import os, signal, time

def init():
    time.sleep(0.1)

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    if name == "0001":
        os._exit(3)
    elif name == "0002":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif name == "0003":
        time.sleep(60)
    elif name == "0004":
        raise ValueError("no such <b>thing</b>")
    return [name]
"""


def summary(done, name="process_summary.csv"):
    with (done.run.log_dir / "sys/job_report" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_end_of_a_process_has_its_true_cause(job):
    done = job(DEATHS, 12, run_max_try=2, run_invocation_timeout=1)
    assert done.state == "Completed"
    whys = Counter(row["End Reason"] for row in summary(done))
    over = whys.pop("the step run is over")
    assert whys == {
        "it left with exit code 3 while run() was under way": 2,
        "it was killed by SIGSEGV while run() was under way": 2,
        "run() took longer than run_invocation_timeout=1 s; it was killed": 2,
    }
    assert 1 <= over <= 2
    assert all(0.1 <= float(row["Init Seconds"]) < 30 for row in summary(done))
    [node] = summary(done, "node_summary.csv")
    assert int(node["Processes"]) == 6 + over
    master = done.log("sys/master_role.txt")
    assert master.count("failed and goes on: attempt 1") == 4
    assert master.count("failed for good: attempt 2") == 4
    assert "exception: ValueError: no such <b>thing</b>" in master
    assert "the step run ends: Completed" in master
    assert re.search(
        r"12 of 12 mini-batches created, 12 dispatched, 12 ended \(8 succeeded, 4 failed\), 4 failed", master
    )


def test_what_was_reached_before_a_threshold_is_told_with_it(job):
    done = job(DEATHS, 12, run_max_try=1, error_threshold=0, run_invocation_timeout=1)
    assert done.state == "Failed"
    master = done.log("sys/master_role.txt")
    assert "the step run ends: Failed: " in master
    assert "failed for good: attempt 1" in master


def test_starts_that_failed_are_counted(job, tmp_path):
    script = f"""
import os
FILE = {str(tmp_path / "tries")!r}
def init():
    with open(FILE, "ab", 0) as file:
        file.write(b"x")
        if file.tell() <= 3: raise RuntimeError("not yet")
def run(mini_batch): return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 10)
    assert done.state == "Completed"
    [node] = summary(done, "node_summary.csv")
    assert node["Failed Starts"] == "3"
    failed = [row for row in summary(done) if not row["Ready Time"] and row["Attempts"] == "0"]
    assert sum(row["End Reason"].startswith("RuntimeError: not yet (script.py:") for row in failed) == 3
    assert done.log("sys/master_role.txt").count("could not start: RuntimeError: not yet") == 3


def test_a_resume_goes_on_with_the_processes_of_the_first_part(job, cluster, tmp_path):
    script = f"""
import os
def run(mini_batch):
    if os.path.basename(mini_batch[0]) == "0005" and not os.path.exists({str(tmp_path / "flag")!r}):
        os._exit(1)
    return [os.path.basename(mini_batch[0])]
"""
    first = job(script, 20, run_max_try=1, error_threshold=0)
    assert first.state == "Failed"
    before = first.lives()
    (tmp_path / "flag").touch()
    run = first.run._step.submit(resume=first.run.run_folder, compute_target=cluster.address)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    done = replace(first, run=run, state="Completed")
    done.check_lives()
    lives = done.lives()
    assert {process: lives[process] for process in before} == before
    assert len(lives) > len(before)
    rows = summary(done)
    assert sum(int(row["Succeeded Mini-batches"]) for row in rows) == 20
    assert sum(int(row["Failed Mini-batches"]) for row in rows) == 0
    assert sum(int(row["Failed Attempts Tried Again"]) for row in rows) == 1

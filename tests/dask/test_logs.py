"""Logs of workers that die: what was written is there, once and in order."""

from __future__ import annotations

import csv
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NOTING = """
_run, TRACE = run, {trace!r}

def run(mini_batch):
    name = Path(mini_batch[0]).name
    print(f"begun {{name}}", flush=True)
    with open(TRACE, "a") as file:
        file.write(name + "\\n")
    return _run(mini_batch)
"""


def begun(submitted: Any) -> Counter[str]:
    """The mini-batches that were begun, by what the processes have printed."""
    return Counter(
        line.removeprefix("begun ")
        for path in Path(submitted.run.log_dir, "user/stdout").rglob("*.stdout.txt")
        for line in path.read_text().splitlines()
    )


@pytest.mark.parametrize("workers", [1, 2], ids=["and its node with it, for a while", "and another is on its node"])
def test_what_was_printed_before_a_worker_was_killed_is_in_the_logs_once(fleet, job, tmp_path, workers):
    trace = tmp_path / "trace"
    ours = fleet(**{f"worker{number}": 1 for number in range(workers)})
    with ours.client():
        submitted = job(ours.address, 300, pause=0.03, more=NOTING.format(trace=str(trace)))
        for number in range(2):
            submitted.until(60 * (number + 1))
            ours.workers[f"worker{number}"].send_signal(signal.SIGKILL)
            ours.add(f"worker{number + workers}")
        submitted.wait()
    printed = begun(submitted)
    noted = Counter(trace.read_text().split())
    assert noted.total() > 300, "no worker was killed in the middle of a mini-batch"
    assert not noted - printed, "what was printed is missing"
    assert (printed - noted).total() <= 2, "doubled, but for what was killed between the two"


def test_what_was_printed_before_a_worker_was_taken_away_in_order_is_in_the_logs_once(fleet, job, tmp_path):
    trace = tmp_path / "trace"
    ours = fleet(worker0=1)
    with ours.client() as client:
        submitted = job(ours.address, 100, pause=0.03, more=NOTING.format(trace=str(trace)))
        for number in range(2):
            submitted.until(30 * (number + 1))
            leaving = list(client.scheduler_info()["workers"])
            ours.add(f"worker{number + 1}")
            client.wait_for_workers(2)
            client.retire_workers(leaving)
        submitted.wait()
    printed = begun(submitted)
    noted = Counter(trace.read_text().split())
    assert not noted - printed, "what was printed is missing"
    assert (printed - noted).total() <= 2, "doubled, but for what was killed between the two"


def test_a_worker_that_is_killed_leaves_lines_that_say_so_and_an_end_for_each_of_its_processes(fleet, job):
    ours = fleet(worker0=1)
    with ours.client():
        submitted = job(ours.address, 100, pause=0.05)
        submitted.until(40)  # two seconds: what is told of processes goes to the scheduler once a second
        ours.workers["worker0"].send_signal(signal.SIGKILL)
        ours.add("worker1")
        submitted.wait()
    logs = submitted.run.log_dir
    lives: dict[str, list[dict[str, str]]] = {}
    with (logs / "sys/node/0/processes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            lives.setdefault(row["Process"], []).append(row)
    assert [[event["Event"] for event in life] for life in lives.values()] == [["started", "ready", "ended"]] * 2
    first, second = (life[-1]["Why"] for life in lives.values())
    assert re.fullmatch(r"its worker tcp://\S+ is gone", first)
    assert second == "the step run is over"
    master = (logs / "sys/master_role.txt").read_text()
    assert re.search(r"worker tcp://\S+ is gone; node 0 has no other: what its processes wrote last", master)
    assert re.search(r"process000 of node 0 ended: its worker tcp://\S+ is gone", master)

"""Clusters that adapt (``cluster.adapt``): workers come with the work, and go when there is none for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import LocalCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def adaptive(no_leaks: Any) -> Iterator[Callable[..., LocalCluster]]:
    """``adaptive(minimum=0, maximum=3)``: a cluster that begins without a worker."""
    made = []

    def make(**how: Any) -> LocalCluster:
        cluster = LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False}
        )
        made.append(cluster)
        cluster.adapt(interval="200ms", wait_count=3, **how)
        return cluster

    yield make
    for cluster in made:
        cluster.close()


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, what
        time.sleep(0.02)
    return time.monotonic() - begun


def test_from_no_worker_to_as_many_as_may_be_and_back(adaptive, job):
    cluster = adaptive(minimum=0, maximum=3, target_duration="1s")
    submitted = job(cluster, 600, pause=0.03)
    most = 0
    while submitted.run.get_status() == "Running":
        most = max(most, len(cluster.scheduler_info["workers"]))
        time.sleep(0.02)
    rows = submitted.wait()
    assert most == 3
    assert len({row.process for row in rows}) >= 3
    assert submitted.run.summary().attempts == 600, "what a worker was doing that was taken away is done again"
    until(lambda: not cluster.scheduler_info["workers"], 20, "idle workers are given back")


def test_a_worker_that_works_is_not_taken_and_the_idle_ones_are(adaptive, job, tmp_path):
    script = """
fast = run


def run(mini_batch):
    if Path(mini_batch[0]).name == "00000":
        while not Path(GO).exists():
            time.sleep(0.05)
    return fast(mini_batch)
"""
    cluster = adaptive(minimum=0, maximum=3, target_duration="300ms")
    submitted = job(cluster, 120, pause=0.02, more=script.replace("GO", repr(str(tmp_path / "go"))))
    submitted.until(119)
    until(lambda: len(cluster.scheduler_info["workers"]) == 1, 20, "the idle ones are given back meanwhile")
    time.sleep(1)
    assert submitted.run.get_status() == "Running"
    (tmp_path / "go").touch()
    submitted.wait()
    assert submitted.run.summary().attempts == 120


def test_no_more_workers_are_asked_for_than_a_node_may_have(adaptive, job):
    cluster = adaptive(minimum=0, maximum=4, target_duration="200ms")
    submitted = job(cluster, 3000, pause=0.03, process_count_per_node=2)
    until(lambda: len(cluster.scheduler_info["workers"]) > 2, 40, "nobody knows yet that more can do nothing")
    until(lambda: len(cluster.scheduler_info["workers"]) == 2, 40, "those that can do nothing are given back")
    for _ in range(20):
        time.sleep(0.1)
        assert len(cluster.scheduler_info["workers"]) == 2, "and not asked for again"
    assert submitted.run.get_status() == "Running"
    submitted.run.cancel()


@pytest.mark.parametrize(("nanny", "seconds"), [(True, 0.0), (False, 0.0), (True, 60.0)])
def test_idle_processes_of_a_worker_that_is_taken_away_call_shutdown(fleet, job, tmp_path, nanny, seconds):
    script = f"""
fast, here = run, Path({str(tmp_path)!r})


def run(mini_batch):
    if Path(mini_batch[0]).name == "00000":
        (here / "busy").write_text(os.environ["WHERE"])
        while not (here / "go").exists():
            time.sleep(0.05)
    return fast(mini_batch)


def shutdown():
    (here / f"called on {{os.environ['WHERE']}}").touch()
    time.sleep({seconds} if not (here / "go").exists() else 0)
"""
    ours = fleet()
    for name in ("one", "two"):
        ours.add(name, nanny=nanny)
    with ours.client() as client:
        submitted = job(ours.address, 120, pause=0.02, more=script)
        submitted.until(119)
        [idle] = {"one", "two"} - {(tmp_path / "busy").read_text()}
        client.retire_workers(names=[idle], close_workers=True)
        until(lambda: ours.workers[idle].poll() is not None, 20, "the worker ends")
        assert (tmp_path / f"called on {idle}").exists()
        (tmp_path / "go").touch()
        submitted.wait()
    assert submitted.run.summary().attempts == 120
    logs = submitted.run.run_folder / "logs"
    assert "was taken away" in (logs / "sys/node/0/processes.csv").read_text()
    errors = logs / "user/error.txt"
    too_long = "shutdown() took longer than 2 s (its worker was taken away); the process was killed"
    assert (too_long in errors.read_text()) if seconds else not errors.exists()

"""Workers come and go, stop and die; the scheduler dies: rows come once, and nobody waits for ever."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster

from prs_dask.engine import scheduler_plugin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # Sockets that Dask leaves to the garbage collector when the other end has died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def attempts_by_status(run) -> Counter[str]:
    import csv

    with open(run.log_dir / "sys" / "job_report" / "processed_mini-batches.csv", newline="") as file:
        return Counter(row["Error Category"] or row["Status"] for row in csv.DictReader(file))


def test_a_worker_that_is_added_takes_part_within_two_seconds(fleet, job):
    ours = fleet(first=1)
    with ours.client() as client:
        submitted = job(client, 600, pause=0.02)
        submitted.until(20)
        ours.add("second")
        client.wait_for_workers(2, timeout=30)
        known = time.time()
        rows = submitted.wait()
    begun = min(row.begun for row in rows if row.where == "second")
    assert begun - known < 2


def test_a_worker_that_is_retired_charges_nobody(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        submitted = job(client, 400, pause=0.02)
        submitted.until(50)
        (address,) = (
            address for address, about in client.scheduler_info()["workers"].items() if about["name"] == "second"
        )
        client.retire_workers([address], close_workers=True)
        rows = submitted.wait()
    assert {row.where for row in rows} == {"first", "second"}
    assert attempts_by_status(submitted.run) == {"Succeeded": 400}
    assert submitted.run.summary().attempts == 400


def test_a_worker_without_nanny_that_is_killed_takes_its_processes_with_it(fleet, job):
    ours = fleet(first=1, second=2)
    with ours.client() as client:
        submitted = job(client, 500, pause=0.02)
        submitted.until(50)
        below = psutil.Process(ours.workers["second"].pid).children(recursive=True)
        assert len(below) >= 4
        ours.workers["second"].kill()
        _, alive = psutil.wait_procs(below, timeout=3)
        assert not alive, alive
        submitted.wait()
    lost = attempts_by_status(submitted.run)
    assert lost.pop("worker lost", 0) <= 1
    assert lost == {"Succeeded": 500}


def test_what_a_stopped_worker_had_is_handed_out_again_and_its_late_results_are_ignored(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        submitted = job(client, 700, pause=0.04)
        submitted.until(50)
        ours.workers["second"].send_signal(signal.SIGSTOP)
        stopped = time.time()
        time.sleep(17)
        ours.workers["second"].send_signal(signal.SIGCONT)
        again = time.time()
        rows = submitted.wait(90)
    assert not [row for row in rows if row.where == "second" and stopped + 1 < row.begun < again]
    assert any(row.where == "second" and row.begun > again for row in rows)  # it takes part again
    assert "silent" in (submitted.run.log_dir / "sys" / "master_role.txt").read_text()
    assert attempts_by_status(submitted.run) == {"Succeeded": 700}


def test_a_worker_that_is_stopped_for_ever_does_not_hold_the_end_up(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        submitted = job(client, 100, pause=0.02)
        submitted.until(20)
        ours.workers["second"].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        submitted.wait(60)
        assert time.monotonic() - begun < 50  # 15 s until it counts as silent, 10 s for its plugin
        ours.workers["second"].send_signal(signal.SIGCONT)
        end = time.monotonic() + 20
        while left := ours.left():  # the driver has swept already: nobody does it for one that is killed
            assert time.monotonic() < end, left
            time.sleep(0.1)


def test_a_worker_that_hangs_already_does_not_keep_the_others_from_working(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        ours.workers["second"].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        rows = job(client, 50).wait(90)
        assert time.monotonic() - begun < 60
        ours.workers["second"].send_signal(signal.SIGCONT)
    assert {row.where for row in rows} == {"first"}


def test_a_worker_whose_closing_hangs_ends_its_processes_all_the_same(fleet, job):
    """As one whose nanny closes at the same time: the nanny kills it some seconds later."""
    ours = fleet(first=1, second=1)

    def hang(dask_worker):
        from distributed.core import Status

        dask_worker._status = Status.closing

    with ours.client() as client:
        submitted = job(client, 400, pause=0.04)
        submitted.until(20)
        (second,) = (
            address for address, about in client.scheduler_info()["workers"].items() if about["name"] == "second"
        )
        client.run(hang, workers=[second])
        _, alive = psutil.wait_procs(psutil.Process(ours.workers["second"].pid).children(recursive=True), timeout=3)
        assert not alive
        ours.workers["second"].kill()
        submitted.wait()
    assert attempts_by_status(submitted.run)["Succeeded"] == 400


def test_all_workers_are_restarted_by_the_client(job, no_leaks):
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        submitted = job(client.scheduler.address, 400, pause=0.03)
        submitted.until(50)
        client.restart(timeout=40)
        submitted.wait(90)
    assert attempts_by_status(submitted.run) == {"Succeeded": 400}


def test_the_client_of_the_step_run_itself_restarts_the_workers(job, no_leaks):
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        submitted = job(client, 400, pause=0.03)
        submitted.until(50)
        client.restart(timeout=40)
        submitted.wait(90)
    assert attempts_by_status(submitted.run) == {"Succeeded": 400}


def test_a_killed_scheduler_fails_the_step_run_soon_and_the_output_is_what_the_journal_says(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client():
        submitted = job(ours.address, 2000, pause=0.02)
        submitted.until(100)
        below = ours.processes()
        ours.scheduler.kill()
        begun = time.monotonic()
        assert submitted.run.wait_for_completion(timeout_seconds=100, raise_on_error=False) == "Failed"
        assert time.monotonic() - begun < 45
        assert "scheduler" in submitted.run.error
        _, alive = psutil.wait_procs(below, timeout=20)
        assert not alive
    output = submitted.run.output_file
    assert not output.exists()
    partial = output.with_name(output.name + ".partial")
    rows = [line.split(" ")[0] for line in partial.read_text().splitlines()]
    commits = []
    for line in (submitted.run.run_folder / "journal.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "commit":
            commits.append(entry)
    assert commits[-1]["output"] == partial.stat().st_size
    finished = set()
    for commit in commits:
        for part in filter(None, commit["finished"].split(",")):
            first, _, last = part.partition("-")
            finished |= set(range(int(first), int(last or first) + 1))
    assert sorted(rows) == [f"{number:05d}" for number in sorted(finished)]
    assert len(rows) == submitted.run.summary().rows >= 100


def test_a_driver_that_is_killed_leaves_nothing_on_the_cluster(tmp_path, no_leaks, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "DRIVER_LOST_SECONDS", 3.0)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3000):
        (data / str(number)).touch()
    (tmp_path / "score.py").write_text(
        "import time\ndef run(mini_batch):\n    time.sleep(0.05)\n    return mini_batch\n"
    )
    (tmp_path / "driver.py").write_text(DRIVER)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        driver = subprocess.Popen(
            [sys.executable, "driver.py", cluster.scheduler_address],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            assert driver.stdout.readline() == b"running\n"
            below = [
                p for nanny in cluster.workers.values() for p in psutil.Process(nanny.pid).children(recursive=True)
            ]
            assert len(below) >= 4  # a reaper and a worker process each; and the resource monitor, once it is there
        finally:
            driver.kill()
            driver.wait()
            driver.stdout.close()
        _, alive = psutil.wait_procs(below, timeout=15)
        assert not alive
        end = time.monotonic() + 5
        while any(left_behind(client)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(left_behind(client))
        assert client.submit(len, "four").result(timeout=10) == 4


DRIVER = """
import sys, time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

if __name__ == "__main__":
    config = ParallelRunConfig(
        entry_script="score.py", mini_batch_size=1, error_threshold=0, output_action="append_row"
    )
    step = ParallelRunStep("driver", config, FileDataset.from_files("data"), output="out")
    run = step.submit(run_folder="run", compute_target=sys.argv[1])
    while run.summary().rows < 50:
        time.sleep(0.01)
    print("running", flush=True)
    time.sleep(100)
"""


def left_behind(client: Client) -> list[list[str]]:
    """Plugins of prs_dask on scheduler and workers, and tasks."""

    def ours(plugins: list[str]) -> list[str]:
        return [name for name in plugins if name.startswith("prs")]

    workers = client.run(lambda dask_worker: sorted(dask_worker.plugins))
    return [
        ours(client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.plugins))),
        ours(client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.worker_plugins))),
        [name for plugins in workers.values() for name in ours(plugins)],
        client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.tasks)),
    ]


def test_workers_come_and_go_all_the_time(fleet, job):
    """One is there always, others are added and killed at random moments."""
    ours = fleet(first=1)
    over = threading.Event()

    def churn() -> None:
        number = 0
        while not over.wait(0.5):
            number += 1
            ours.add(f"guest{number}")
            ours.until_it_works(f"guest{number}", over)
            over.wait(1.5)  # it takes part now
            ours.workers[f"guest{number}"].kill()

    thread = threading.Thread(target=churn, name="churn")
    with ours.client() as client:
        thread.start()
        try:
            rows = job(client, 900, pause=0.02).wait(90)
        finally:
            over.set()
            thread.join()
    assert len({row.where for row in rows}) > 1

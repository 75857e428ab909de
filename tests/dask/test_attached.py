"""A cluster that runs already, named in every way there is, is used and left as it was found."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from prs_dask import ClusterError, FileDataset, SettingsError, parallel_run
from prs_dask.clusters import check_target

pytestmark = pytest.mark.timeout(120)

POOLS = ("Dask-Offload", "Dask-Default-Threads", "asyncio_", "TCP-Executor", "Profile", "IO loop")


def look_at_process(server: Any) -> dict[str, Any]:
    """What a step run could change in a process of Dask."""
    process = psutil.Process()
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return {
        "plugins": sorted(server.plugins),
        "handlers": sorted(server.handlers),
        "stream_handlers": sorted(server.stream_handlers),
        "extensions": sorted(server.extensions),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "children": [child.name() for child in process.children(recursive=True)],
        "threads": sorted(t.name for t in threading.enumerate() if not any(pool in t.name for pool in POOLS)),
        "temporary": sorted(map(str, Path(tempfile.gettempdir()).glob("prs-dask*"))),
        "memory files": sorted(link for link in links if "memfd" in link or "prs" in link),
        "descriptors": len(links),
    }


def look_at_scheduler(dask_scheduler: Any) -> dict[str, Any]:
    from prs_dask.engine.scheduler_plugin import _runs

    return look_at_process(dask_scheduler) | {
        "tasks": sorted(map(str, dask_scheduler.tasks)),
        "worker plugins": sorted(dask_scheduler.worker_plugins),
        "replaced": sorted(dask_scheduler.__dict__.keys() & dir(type(dask_scheduler))),
        "functions": sorted(f"{name} {made!r}" for name, made in dask_scheduler.handlers.items() if name != "prs"),
        "step runs": sorted(run for runs in _runs.values() for run in runs),
    }


def look_at_worker(dask_worker: Any) -> dict[str, Any]:
    from prs_dask.engine.worker_plugin import _supervisors

    return look_at_process(dask_worker) | {
        "tasks": sorted(map(str, dask_worker.state.tasks)),
        "data": sorted(map(str, dask_worker.data)),
        "step runs": sorted(run for runs in _supervisors.values() for run in runs),
    }


def look_at_all(client: Client, *, warm_up: bool = False) -> dict[str, Any]:
    """Every process of the cluster; ``warm_up``: after a task on each worker, which is forgotten again."""
    if warm_up:
        workers = list(client.scheduler_info()["workers"])
        client.gather([client.submit(len, "four", pure=False, workers=[worker]) for worker in workers])
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            time.sleep(0.01)
    return {"scheduler": client.run_on_scheduler(look_at_scheduler), **client.run(look_at_worker)}


def expect_unchanged(client: Client, before: dict[str, Any]) -> None:
    """But for the inert op, within some seconds."""
    before = {
        where: seen | {"stream_handlers": sorted({*seen["stream_handlers"], "prs"})} for where, seen in before.items()
    }
    before["scheduler"]["handlers"] = sorted({*before["scheduler"]["handlers"], "prs"})
    end = time.monotonic() + 5
    while True:
        after = look_at_all(client)
        changes = {
            (where, what): (before[where][what], value)
            for where, seen in after.items()
            for what, value in seen.items()
            if what != "descriptors" and before[where][what] != value
        }
        if not changes or time.monotonic() > end:
            break
        time.sleep(0.1)
    assert not changes
    for where, seen in after.items():  # connections are kept in pools, so not exactly
        assert seen["descriptors"] <= before[where]["descriptors"] + 12


@pytest.mark.slow
def test_address_scheduler_file_and_client_name_the_same_cluster_which_is_left_as_it_was(fleet, job):
    ours = fleet(first=1, second=2)
    with ours.client() as client:
        before = look_at_all(client, warm_up=True)
        for target in (ours.address, str(ours.scheduler_file), ours.scheduler_file, client):
            rows = job(target, 120).wait()
            assert {row.where for row in rows} == {"first", "second"}
            assert client.status == "running"
        expect_unchanged(client, before)
        assert client.submit(len, "four", pure=False).result(timeout=10) == 4


@pytest.mark.slow
def test_a_failed_and_a_canceled_step_run_leave_the_cluster_as_it_was_too(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        before = look_at_all(client, warm_up=True)
        canceled = job(client, 500, pause=0.1)
        canceled.until(5)
        canceled.run.cancel()
        assert canceled.run.get_status() == "Canceled"
        expect_unchanged(client, before)
        failed = job(client, 500, pause=0.1, environment_variables={"A": "b"}, run_invocation_timeout=0.05)
        assert failed.run.wait_for_completion(timeout_seconds=30, raise_on_error=False) == "Failed"
        expect_unchanged(client, before)


@pytest.mark.slow
def test_a_cluster_object_and_the_current_client(job, no_leaks):
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False}
    ) as cluster:
        job(cluster, 100).wait()
        with Client(cluster):  # the current one
            job(None, 100).wait()
        assert cluster.status.name == "running"
        job(cluster, 100).wait()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["local", "address"])
def test_who_keeps_a_step_run_that_has_ended_keeps_no_client(fleet, job, target):
    before = {id(found) for found in gc.get_objects() if isinstance(found, Client)}
    submitted = job("local" if target == "local" else fleet(first=1).address, 5, process_count_per_node=1)
    submitted.wait()

    def left() -> list[Client]:
        gc.collect()
        return [found for found in gc.get_objects() if isinstance(found, Client) and id(found) not in before]

    end = time.monotonic() + 20  # the thread that had it has yet to end
    while left() and time.monotonic() < end:
        time.sleep(0.1)
    assert not left()
    assert submitted.run.summary().rows == 5


def test_workers_that_are_threads_of_this_very_process(job, no_leaks):
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        folder, environment = os.getcwd(), dict(os.environ)
        assert len({row.process for row in job(client, 200).wait()}) == 4
        assert (os.getcwd(), dict(os.environ)) == (folder, environment)
        assert len({row.process for row in job(cluster, 200).wait()}) == 4


@pytest.mark.slow
def test_an_asynchronous_client_within_a_running_event_loop(fleet, job):
    ours = fleet(first=1, second=1)

    async def main() -> None:
        async with Client(ours.address, asynchronous=True, set_as_default=False) as client:
            await client.wait_for_workers(2)
            ticks = 0
            submitted = job(client, 200, pause=0.01)
            while submitted.run.get_status() == "Running":
                await asyncio.sleep(0.01)
                ticks += 1
            submitted.wait()
            assert ticks > 50
            assert await client.submit(len, "four") == 4

    asyncio.run(main())


@pytest.mark.slow
def test_waiting_in_the_event_loop_of_an_asynchronous_client_does_not_stop_the_step_run(fleet, job):
    ours = fleet(first=1, second=1)

    async def main() -> None:
        client = Client(ours.address, asynchronous=True, set_as_default=False)
        with pytest.raises(SettingsError, match="not started yet: await it"):
            check_target(client)
        async with client:
            job(client, 200, pause=0.01).wait(seconds=30)  # from the very first moment on
            canceled = job(client, 2000, pause=0.02)
            while canceled.run.summary().succeeded_mini_batches < 20:
                await asyncio.sleep(0.01)
            begun = time.monotonic()
            canceled.run.cancel()
            assert time.monotonic() - begun < 10
            assert canceled.run.get_status() == "Canceled"
            left = await client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.plugins))
            assert not [name for name in left if name.startswith("prs-")]

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [True, False])
def test_who_would_stop_the_scheduler_by_waiting_is_told_how_to_wait(job, no_leaks, tmp_path, processes):
    script = tmp_path / "job0" / "score.py"
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": processes, "dashboard_address": None}

    async def main() -> None:
        cluster = LocalCluster(**options, asynchronous=True)
        with pytest.raises(SettingsError, match="not started yet: await it"):
            check_target(cluster)
        async with cluster, Client(cluster, asynchronous=True, set_as_default=False) as client:
            for target in (cluster, client):
                submitted = job(target, 50)
                for call in ("wait_for_completion", "wait_for_end", "cancel"):
                    with pytest.raises(ClusterError, match=f"await asyncio.to_thread.step_run.{call}"):
                        getattr(submitted.run, call)()
                assert not submitted.run.wait_for_end(0)
                assert await asyncio.to_thread(submitted.run.wait_for_completion, timeout_seconds=60) == "Completed"
                assert submitted.run.wait_for_completion() == "Completed", "nobody waits any more"
                with pytest.raises(ClusterError, match=r"await asyncio.to_thread.prs_dask.parallel_run"):
                    parallel_run(str(script), FileDataset.from_files(script.parent / "data"), compute_target=target)

    asyncio.run(main())


@pytest.mark.slow
def test_a_worker_has_as_many_processes_as_threads_and_a_node_no_more_than_it_may(fleet, job):
    ours = fleet(first=1, second=4)
    with ours.client() as client:
        rows = job(client, 300, pause=0.02).wait()
        assert {row.where: len({r.process for r in rows if r.where == row.where}) for row in rows} == {
            "first": 1,
            "second": 4,
        }
        bounded = job(client, 300, pause=0.02, process_count_per_node=3)
        most = 0
        while bounded.run.get_status() == "Running":
            most = max(most, len(ours.processes()))
            time.sleep(0.02)
        bounded.wait()
        assert most == 3


@pytest.mark.slow
def test_that_not_all_nodes_of_a_cluster_are_used_is_told_on_the_spot(apart, job, capfd):
    ours = apart(2, nodes=2)
    told = "node_count is 1, so that 1 of the cluster's 2 nodes are not used; node_count=2 uses them all"
    with ours.client() as client:
        one = job(client, 60, pause=0.05)
        one.wait()
        assert f"prs_dask: {told}\n" in capfd.readouterr().err
        assert told in (one.run.log_dir / "driver_log.txt").read_text()
        assert "is not used for now: node_count is 1" in (one.run.log_dir / "sys/master_role.txt").read_text()
        job(client, 60, pause=0.05, node_count=2).wait()
        assert "node_count" not in capfd.readouterr().err


@pytest.mark.slow
def test_two_step_runs_share_a_cluster_and_both_complete(fleet, job):
    ours = fleet(first=2, second=2)
    with ours.client() as client:
        one, other = job(client, 300, pause=0.03), job(ours.address, 300, pause=0.03)
        rows, other_rows = one.wait(), other.wait()
    assert not {row.process for row in rows} & {row.process for row in other_rows}
    begun = [[row.begun for row in each] for each in (rows, other_rows)]
    overlap = min(map(max, begun)) - max(map(min, begun))
    assert overlap > 0.5 * (max(map(max, begun)) - min(map(min, begun)))


@pytest.mark.slow
def test_two_step_runs_share_even_one_thread(fleet, job):
    ours = fleet(only=1)
    with ours.client() as client:
        one, other = job(client, 120, pause=0.03), job(client, 120, pause=0.03)
        rows, other_rows = one.wait(), other.wait()
    first, last = min(row.begun for row in rows), max(row.begun for row in rows)
    assert any(first < row.begun < last for row in other_rows)


@pytest.mark.slow
def test_tasks_of_others_get_a_thread_every_second_or_so(fleet, job):
    ours = fleet(only=1)
    with ours.client() as client:
        ours_too = job(client, 300, pause=0.03)
        ours_too.until(20)
        waits = []
        for _ in range(4):
            begun = time.monotonic()
            assert client.submit(len, "four", pure=False).result(timeout=20) == 4
            waits.append(time.monotonic() - begun)
        assert ours_too.run.get_status() == "Running"
        ours_too.wait()
    assert max(waits) < 3, waits


@pytest.mark.slow
def test_tasks_that_wait_in_the_scheduler_get_a_thread_too(fleet, job):
    """Dask does not assign those that could run anywhere to workers that are full: no worker knows of them."""
    ours = fleet(only=1)
    with ours.client() as client:
        ours_too = job(client, 400, pause=0.03)
        ours_too.until(20)
        begun = time.monotonic()
        futures = client.map(len, ["four"] * 20, pure=False)
        assert futures[0].result(timeout=20) == 4
        waited = time.monotonic() - begun
        assert ours_too.run.get_status() == "Running"
        ours_too.wait()
    assert waited < 3, waited

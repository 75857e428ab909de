"""Dask's own chaos plugin, with its own validation of its state: every row once."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.chaos import KillWorker
from distributed.comm import CommClosedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # Sockets that Dask leaves to the garbage collector when the other end has died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

VALIDATION = {
    "distributed.scheduler.validate": True,
    # A worker that dies again just when this time after its last death is over would be given up by Dask.
    "distributed.deploy.lost-worker-timeout": "1 h",
}


@pytest.fixture
def validated():
    """A cluster whose scheduler and workers check their state after every step."""
    with (
        dask.config.set(VALIDATION),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            validate=True,  # or each nanny would tell its worker not to
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert cluster.scheduler.validate
        assert all(client.run(lambda dask_worker: dask_worker.state.validate).values())
        yield cluster


def test_a_job_on_a_cluster_that_validates_itself(job, no_leaks, validated):
    job(validated.scheduler_address, 200).wait(90)


@contextlib.contextmanager
def two_workers_again(cluster: LocalCluster) -> Iterator[None]:
    """Workers whose nannies have ended too are replaced, as whoever runs a cluster would.

    A worker that leaves by `sys.exit` closes in order, and Dask's nanny takes that for the end of the cluster.
    """
    done = threading.Event()

    def keep() -> None:
        while not done.wait(0.5):
            cluster.scale(2)

    keeper = threading.Thread(target=keep)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0.5 s"}):
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_rows_come_once_while_dask_kills_its_own_workers(job, no_leaks, validated, mode):
    replaced = two_workers_again(validated) if mode == "sys.exit" else contextlib.nullcontext()
    with Client(validated, set_as_default=False) as client, replaced:
        submitted = job(validated.scheduler_address, 300, pause=0.04, run_max_try=20)
        submitted.until(20)
        before = {worker.pid for worker in validated.workers.values()}
        client.register_plugin(KillWorker(delay="3 s", mode=mode), name="kill")
        try:
            submitted.until(200, 90)  # 3 s and more have passed by then: two lanes, 40 ms each
        finally:
            # The scheduler forgets the plugin first and tells the workers then: one may be dying just now.
            with contextlib.suppress(CommClosedError):
                client.unregister_worker_plugin("kill")
        submitted.wait(90)
        after = {worker.pid for worker in validated.workers.values()}
    assert before != after, "no worker was killed"

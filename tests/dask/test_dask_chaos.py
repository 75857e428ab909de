"""Dask's own chaos plugin, with its own validation of its state: every row once."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

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


# The last mini-batch waits until it may end: Dask draws the moments at which workers die, and some are late.
HELD = """
run_at_once = run


def run(mini_batch):
    while mini_batch[0].endswith("00299") and not os.path.exists({go!r}):
        time.sleep(0.02)
    return run_at_once(mini_batch)
"""


@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_rows_come_once_while_dask_kills_its_own_workers(job, no_leaks, validated, tmp_path: Path, mode):
    go = tmp_path / "go"
    replaced = two_workers_again(validated) if mode == "sys.exit" else contextlib.nullcontext()
    with Client(validated, set_as_default=False) as client, replaced:
        held = HELD.format(go=str(go))
        submitted = job(validated.scheduler_address, 300, pause=0.04, run_max_try=20, more=held)
        submitted.until(20)

        def processes() -> set[int | None]:
            return {worker.pid for worker in validated.workers.values()}

        before = processes()
        client.register_plugin(KillWorker(delay="3 s", mode=mode), name="kill")
        try:
            submitted.until(200, 90)
            end = time.monotonic() + 50  # each of two workers lives for 3 s on average
            while processes() == before:
                assert time.monotonic() < end, "no worker was killed"
                time.sleep(0.02)
        finally:
            # The scheduler forgets the plugin first and tells the workers then: one may be dying just now, or be new.
            with contextlib.suppress(CommClosedError, KeyError):
                client.unregister_worker_plugin("kill")
            go.touch()
        submitted.wait(90)

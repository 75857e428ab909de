"""The scheduler dies, hangs, is started anew, or the user closes the client or the cluster: nobody waits for ever."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from distributed import Client, LocalCluster

from prs_dask.engine import run_settings, scheduler_calls
from prs_dask.output.journal import read_journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    # Sockets that Dask leaves to the garbage collector when the other end has died.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LOST = scheduler_calls.LOST_SECONDS
BUSY_MACHINE = 12.0
"""What may come on top of a limit where many others use the machine."""


def expect_failed(run, *words, seconds):
    """It ends as Failed within so many seconds, says why, and left what can be resumed."""
    begun = time.monotonic()
    assert run.wait_for_completion(timeout_seconds=100, raise_on_error=False) == "Failed"
    took = time.monotonic() - begun
    assert took < seconds, f"{took:.1f} s"
    for word in words:
        assert word in run.error
    state = read_journal(run.run_folder / "journal.jsonl")
    assert state.end_state == "Failed"
    partial = run.output_file.with_name(run.output_file.name + ".partial")
    assert partial.stat().st_size == state.output_length


def expect_death(processes, seconds=20.0):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive


def small_cluster(**settings):
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
        **settings,
    )


def below(cluster):
    """All processes that the workers of a LocalCluster have started."""
    return [one for nanny in cluster.workers.values() for one in psutil.Process(nanny.pid).children(recursive=True)]


@pytest.mark.parametrize("nanny", [False, True], ids=["without nannies", "with nannies"])
def test_a_killed_scheduler_ends_the_step_run_within_seconds_and_the_children_with_it(fleet, job, nanny):
    ours = fleet()
    for name in ("first", "second"):
        ours.add(name, nanny=nanny)
    with ours.client():
        submitted = job(ours.address, 2000, pause=0.02)
        submitted.until(60)
        children = ours.processes()
        assert len(children) == 2
        ours.scheduler.kill()
        expect_failed(submitted.run, "connection to the scheduler at tcp://127.0.0.1", seconds=LOST + BUSY_MACHINE)
        expect_death(children)


def test_a_scheduler_that_hangs_ends_the_step_run_and_later_the_children(fleet, job, monkeypatch):
    monkeypatch.setattr(scheduler_calls, "SILENT_SECONDS", 6.0)
    monkeypatch.setattr(run_settings, "SILENT_SECONDS", 8.0)
    ours = fleet(first=1, second=1)
    with ours.client() as client:
        submitted = job(ours.address, 2000, pause=0.02)
        submitted.until(60)
        children = ours.processes()
        ours.scheduler.send_signal(signal.SIGSTOP)
        expect_failed(submitted.run, "has not answered for", "stopped, hangs", seconds=6 + BUSY_MACHINE)
        expect_death(children, 8 + BUSY_MACHINE)
        ours.scheduler.send_signal(signal.SIGCONT)
        expect_cleared(client)  # now that it learns that the driver is gone
        assert not ours.processes()


def expect_cleared(client, seconds=40.0):
    """Nothing of the step run is left on scheduler and workers."""
    end = time.monotonic() + seconds
    while any(name.startswith("prs") for name in plugins(client)):
        assert time.monotonic() < end
        time.sleep(0.1)


def plugins(client):
    found = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.plugins, *dask_scheduler.worker_plugins])
    return found + [
        name for names in client.run(lambda dask_worker: list(dask_worker.plugins)).values() for name in names
    ]


def test_a_scheduler_that_hangs_only_for_a_while_costs_nothing(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client():
        submitted = job(ours.address, 300, pause=0.02)
        submitted.until(60)
        ours.scheduler.send_signal(signal.SIGSTOP)
        time.sleep(8)  # longer than one try of a call, and than the gap after which the scheduler excuses others
        ours.scheduler.send_signal(signal.SIGCONT)
        submitted.wait(90)
    table = (submitted.run.log_dir / "sys/job_report/processed_mini-batches.csv").read_text()
    assert table.count("Succeeded") == 300 + 1  # the header


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_cancel_and_kill_return_soon_where_the_scheduler_hangs(fleet, job, how):
    ours = fleet(first=1)
    with ours.client() as client:
        submitted = job(ours.address, 2000, pause=0.02)
        submitted.until(30)
        ours.scheduler.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        getattr(submitted.run, how)()
        assert submitted.run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Canceled"
        assert time.monotonic() - begun < 15 + BUSY_MACHINE
        ours.scheduler.send_signal(signal.SIGCONT)
        expect_cleared(client)


def test_a_scheduler_that_is_started_anew_at_the_same_address_does_not_go_on_with_the_step_run(fleet, job):
    ours = fleet(first=1, second=1)
    submitted = job(ours.address, 2000, pause=0.02)
    submitted.until(60)
    children = ours.processes()
    ours.scheduler.kill()
    ours.scheduler.wait()
    ours.start_scheduler(ours.address.rpartition(":")[2])
    ours.add("third")
    with Client(ours.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=40)
        expect_failed(submitted.run, "scheduler at tcp://127.0.0.1", seconds=LOST + BUSY_MACHINE)
        expect_death(children)
        assert not [name for name in plugins(client) if name.startswith("prs")]
        assert not ours.processes()
        job(ours.address, 20).wait()  # another step run is welcome there


def test_a_client_that_is_closed_in_the_middle_ends_the_step_run_and_leaves_nothing(job, no_leaks):
    with small_cluster() as cluster, Client(cluster, set_as_default=False) as watcher:
        client = Client(cluster.scheduler_address, set_as_default=False)
        submitted = job(client, 2000, pause=0.02)
        submitted.until(60)
        children = below(cluster)
        assert len(children) >= 4  # for each worker a process and what holds it; the monitor
        client.close()
        expect_failed(submitted.run, "the Client of the scheduler at tcp://", "was closed", seconds=BUSY_MACHINE)
        expect_death(children)
        expect_cleared(watcher)


@pytest.mark.parametrize("target", ["address", "client", "cluster"])
def test_a_cluster_that_is_closed_in_the_middle_ends_the_step_run(job, no_leaks, target):
    with small_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        chosen = {"address": cluster.scheduler_address, "client": client, "cluster": cluster}[target]
        submitted = job(chosen, 2000, pause=0.02)
        submitted.until(60)
        children = below(cluster)
        closing = threading.Thread(target=cluster.close)
        closing.start()
        expect_failed(submitted.run, "scheduler at tcp://", seconds=LOST + BUSY_MACHINE)
        closing.join(60)
        assert not closing.is_alive()
        expect_death(children)
    client._loop_runner.stop()


def test_a_connection_that_breaks_and_comes_back_costs_no_row(fleet, job, tmp_path):
    ours = fleet(first=1, second=1)
    with ours.client(), Relay(ours.address) as relay:
        submitted = job(relay.address, 600, pause=0.02)
        submitted.until(60)
        relay.cut()
        submitted.until(200)
        relay.cut()
        submitted.wait(90)


def test_a_connection_that_stays_away_ends_the_step_run_and_the_workers_part_of_it(fleet, job):
    ours = fleet(first=1, second=1)
    with ours.client() as client, Relay(ours.address) as relay:
        submitted = job(relay.address, 2000, pause=0.02)
        submitted.until(60)
        children = ours.processes()
        relay.close()
        expect_failed(submitted.run, "connection to the scheduler", seconds=LOST + BUSY_MACHINE)
        expect_death(children, 30)
        expect_cleared(client)


class Relay:
    """The network between a driver and a scheduler: a process, for it can be killed."""

    PROGRAM = """
import socket, sys, threading
def pump(one, other):
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
    except OSError:
        pass
    for end in (one, other):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(listener.getsockname()[1], flush=True)
while True:
    theirs, _ = listener.accept()
    ours = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for pair in ((theirs, ours), (ours, theirs)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""

    def __init__(self, address: str) -> None:
        self._target = address.rpartition(":")[2]
        self._port = "0"
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, self._target, self._port], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = self._process.stdout.readline().strip()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def cut(self) -> None:
        """All connections break; new ones can be made at once."""
        self.close()
        self._start()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

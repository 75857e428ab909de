from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import psutil
import pytest

from prs_dask.clusters import OpenCluster, fork_server, open_cluster

CLOSE_SECONDS = 3.0  # 0.05 s, and 0.75 s with workers that hang; Dask by itself takes more than 4 s for those


@pytest.fixture(autouse=True, scope="module")
def _warm() -> Iterator[None]:
    with fork_server.forking():
        yield


def seconds_to_close(opened: OpenCluster) -> float:
    started = time.monotonic()
    opened.close()
    return time.monotonic() - started


def is_alive(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listening() -> set[Any]:
    """Where this process and its children listen."""
    me = psutil.Process()
    found = set()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = process.net_connections(kind="inet")
            found |= {connection.laddr for connection in connections if connection.status == psutil.CONN_LISTEN}
    return found


def test_it_has_the_workers_asked_for_and_leaves_nothing_behind() -> None:
    environment = {**os.environ, "__DASK_PARENT_PID": str(os.getpid())}  # Dask's, for the title of processes
    opened = open_cluster("local", 3)
    workers = opened.client.scheduler_info(n_workers=-1)["workers"]
    assert opened.owned
    assert opened.notes == ()
    assert [worker["nthreads"] for worker in workers.values()] == [1, 1, 1]
    assert opened.client.submit(sum, [1, 2]).result(timeout=5) == 3
    assert seconds_to_close(opened) < CLOSE_SECONDS
    opened.close()
    assert dict(os.environ) == environment


def test_it_listens_on_the_loopback_interface_only_and_leaves_the_dashboards_port_free() -> None:
    before = listening()
    with open_cluster("local", 1):
        opened = listening() - before
    assert {address.ip for address in opened} == {"127.0.0.1"}
    assert 8787 not in {address.port for address in opened}


def test_the_current_client_of_the_user_stays_current(running: distributed.LocalCluster) -> None:
    with distributed.Client(running) as users, open_cluster("local", 1) as opened:
        assert distributed.default_client() is users
        assert opened.client is not users


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_workers_that_hang_or_are_dead_do_not_delay_its_end(number: signal.Signals) -> None:
    opened = open_cluster("local", 2)
    for process_id in opened.client.run(os.getpid).values():
        os.kill(process_id, number)
    assert seconds_to_close(opened) < CLOSE_SECONDS


def test_a_worker_that_holds_its_gil_does_not_delay_its_end() -> None:
    opened = open_cluster("local", 1)
    future = opened.client.submit(re.match, "(a+)+$", "a" * 40 + "b")
    time.sleep(0.2)
    assert seconds_to_close(opened) < CLOSE_SECONDS
    del future


@pytest.mark.parametrize("patience", ["15 s", "1 ms"])
def test_a_worker_that_dies_is_replaced_also_where_dask_would_give_it_up(patience: str) -> None:
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": patience}),
        open_cluster("local", 1) as opened,
    ):
        (first,) = opened.client.run(os.getpid).values()
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            found = list(opened.client.run(os.getpid, on_error="ignore").values())
            if found and found != [first]:
                return
            time.sleep(0.05)
        pytest.fail("no new worker came")


def test_workers_let_a_ctrl_c_pass() -> None:
    with open_cluster("local", 1) as opened:
        (process_id,) = opened.client.run(os.getpid).values()
        os.kill(process_id, signal.SIGINT)
        time.sleep(0.2)
        assert list(opened.client.run(os.getpid).values()) == [process_id]


def test_it_has_one_node_and_says_so() -> None:
    with open_cluster("local", 1, node_count=3) as opened:
        (note,) = opened.notes
    assert "node_count is 3" in note


def test_two_can_be_open_at_once() -> None:
    with open_cluster("local", 1) as first, open_cluster("local", 1) as second:
        first.close()
        assert second.client.submit(sum, [1]).result(timeout=5) == 1


def test_a_script_without_a_main_guard_is_told_what_to_write(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text("from prs_dask.clusters import open_cluster\nopen_cluster('local', 1)\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert 'below the line  if __name__ == "__main__":' in ended.stderr.splitlines()[-1]


def test_a_driver_that_is_killed_takes_everything_with_it(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, psutil
            from prs_dask.clusters import open_cluster
            if __name__ == "__main__":
                opened = open_cluster("local", 1)
                print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    # Not through a pipe: what outlives the driver would hold it open.
    with (tmp_path / "pids").open("w") as out:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        subprocess.run([sys.executable, script], stdout=out, stderr=out, timeout=60, check=False, env=environment)
    children = [int(word) for word in (tmp_path / "pids").read_text().splitlines()[0].split()]
    end = time.monotonic() + 20  # who sweeps its temporary folders is the last
    while time.monotonic() < end and any(is_alive(child) for child in children):
        time.sleep(0.05)
    assert not [child for child in children if is_alive(child)]

"""What is told of hosts that cannot be used; what is done on hosts that can be, tests/multi_node tests."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from distributed import Security
from ssh_server import SSHServer

from prs_dask import ClusterError, SSHTarget
from prs_dask.clusters import open_cluster, reachable, ssh

PATIENCE = 40.0


def test_without_asyncssh_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    for module in ("ssh", "ssh_host"):
        monkeypatch.delitem(sys.modules, f"prs_dask.clusters.{module}", raising=False)
    with pytest.raises(ClusterError, match=r'need asyncssh, .*; try: pip install "prs-dask\[ssh\]"'):
        open_cluster(SSHTarget(["node1"]))


def test_no_server_a_key_that_is_none_and_a_host_that_is_none_are_told_at_once(no_leaks: None, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        target = SSHTarget([f"127.0.0.1:{port}", f"localhost:{port}"], known_hosts=tmp_path / "known_hosts")
        with pytest.raises(ClusterError) as told:
            open_cluster(target, node_count=2)
        with pytest.raises(ClusterError, match=r"  - 127.0.0.1:\d+: a private key cannot be used"):
            open_cluster(SSHTarget([f"127.0.0.1:{port}"], keys=tmp_path / "key"))
    assert "2 of 2 hosts cannot be used:" in str(told.value)
    for host in ("127.0.0.1", "localhost"):
        assert f"  - {host}:{port}: no SSH server listens there on port {port}: start sshd, or set port" in str(
            told.value
        )


def test_what_becomes_of_a_host_and_where_the_dashboard_is_are_told(no_leaks: None, home: Path) -> None:
    told: list[str] = []

    def use(target: SSHTarget) -> None:
        with open_cluster(target, 1, tell=told.append) as opened:
            assert opened.client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3
            scheduler = opened.client.run_on_scheduler(os.getpid)
            below = psutil.Process().children(recursive=True)
            programs = {one.pid for one in below if "prs_dask.clusters.remote" in one.cmdline()}
            (nanny,) = programs - {scheduler}
            os.kill(nanny, signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while "is back" not in told[-1]:
                assert time.monotonic() < end, told
                time.sleep(0.05)

    async def main() -> None:
        async with SSHServer(home) as server:
            server.knows(server.key, "*")
            server.calls("gpu")
            await asyncio.to_thread(use, server.target("gpu", dashboard=True))

    asyncio.run(main())
    port = told[0].split("127.0.0.1:")[1].split()[0]
    assert told[0].endswith(f"of host gpu; here with ssh -L {port}:127.0.0.1:{port} gpu")
    assert told[1].startswith("host gpu has lost its worker and is started again; it said: ")
    assert told[2:] == ["host gpu is back"]


def test_a_scheduler_that_cannot_be_reached_is_told_with_the_settings_that_help(
    no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable:
        def __init__(self, *given: object) -> None:
            self.address, self.security = "tls://127.0.0.1:9", Security.temporary()

        def close(self) -> None:
            """Nothing was started."""

    monkeypatch.setattr(ssh, "SSHWorkers", Unreachable)
    monkeypatch.setattr(reachable, "CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tls://127.0.0.1:9 .*scheduler_host"):
        open_cluster(SSHTarget("node1"))

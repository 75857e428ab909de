"""What is told of hosts that cannot be used; what is done on hosts that can be, tests/multi_node tests."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from prs_dask import ClusterError, SSHTarget
from prs_dask.clusters import open_cluster


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

"""Who gets in and what is seen there: logins, certificates, and hosts that hang, on hosts for real."""

from __future__ import annotations

import base64
import pickle
import re
import shutil
import subprocess
import sys
import time
import zlib

import dask.config
import pytest
from distributed import Security

from tests.multi_node.hosts import ANN
from tests.multi_node.intruder import intrude
from tests.multi_node.leaks import leaks_on
from tests.multi_node.leftovers import until_nothing_is_left

pytestmark = [pytest.mark.multi_node, pytest.mark.timeout(180)]

PATIENCE = 60.0
BUSY_MACHINE = 12.0
"""What may come on top of a limit where many others use the machine."""
OF_TLS = (
    "tls_ca_file",
    *(f"tls_{role}_{kind}" for role in ("client", "scheduler", "worker") for kind in ("cert", "key")),
)

HANGS = f"""#!/bin/sh
[ "$1" = - ] && [ "$(hostname)" != {{asked}} ] && exec {sys.executable} "$@"
exec sleep 600
"""


def test_a_secret_that_is_written_as_dask_would_write_it_is_found(hosts):
    secret, node1 = "canary-3c0f", hosts["node1"]
    configuration = dask.config.serialize({"distributed": {"comm": {"password": secret}}})
    command = f"env DASK_INTERNAL_INHERIT_CONFIG={configuration} sh -c 'sleep 60; :' --spec={configuration}"
    kept = pickle.dumps({"key": Security.temporary().tls_client_key})
    node1.path("/tmp/kept").write_text(f"prefix{base64.encodebytes(zlib.compress(kept)).decode()}")
    login = hosts.on_driver("ssh", "node1", command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not node1.processes("sleep 60"):
            assert time.monotonic() < end
            time.sleep(0.05)
        found = {(place.split()[0], what) for place, what in leaks_on(node1, [secret])}
    finally:
        for process in node1.processes("sleep 60"):
            process.kill()
        login.wait(PATIENCE)
        node1.path("/tmp/kept").unlink()
    assert found == {
        ("command", secret),
        ("environment", secret),
        ("environment", "DASK_INTERNAL_INHERIT_CONFIG"),
        ("file", "PRIVATE KEY"),
    }


def test_what_a_target_is_told_alone_lets_its_user_in_with_certificates_of_their_own(job, hosts, files, tmp_path):
    names, folder = files(12)
    home, own = tmp_path / "home", tmp_path / "own certificates"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text("Host first\n  HostName node1\n")  # and nothing else
    own.mkdir()
    made = Security.temporary()
    for name in OF_TLS:
        (own / f"{name}.pem").write_text(getattr(made, name))
    shutil.copy(hosts.folder / "keys/user", own / "login")
    keys = [(name, (hosts.folder / f"keys/{name}.pub").read_text()) for name in hosts.names]
    (own / "known hosts").write_text("".join(f"[{name}]:2022 {key}" for name, key in keys))
    ours = job(
        {
            "ssh": {
                "hosts": ["first", "node2"],
                "user": "ann",
                "port": 2022,
                "keys": [str(own / "login")],
                "known_hosts": str(own / "known hosts"),
            }
        },
        names,
        folder,
        held=names[-1],
        node_count=2,
        environment_of_driver={"HOME": str(home)},
        security={name: str(own / f"{name}.pem") for name in OF_TLS} | {"require_encryption": True},
    )
    ours.until_rows(11)
    used = [hosts["node1"], hosts["node2"]]
    for host in used:
        assert {process.uids().real for process in host.processes("prs_dask")} == {ANN}
        ports = {
            line.split()[2] for line in host.run("ss", "-tnH", "state", "established", "sport < 3000").splitlines()
        }
        assert ports == {f"{host.address}:2022"}
        assert leaks_on(host, []) == []
    scheduler = re.search(r"scheduler tls://(\S+);", ours.log_of("driver_log.txt"))[1]
    assert [line.split()[0] for line in intrude(hosts, scheduler)] == ["refused"] * 4
    assert "let in" in intrude(hosts, scheduler, "--with", str(own))[0], "they are those certificates"
    for host in used:
        host.path("/tmp/release").touch()
    assert set(ours.end()) == {"node1", "node2"}
    until_nothing_is_left(hosts)


@pytest.mark.parametrize(
    ("name", "asked", "seconds", "why"),
    [
        ("node2", "node2", 3, "/tmp/python there has not told its version within 3 s"),
        ("node1", "none", 3 + 2, "its scheduler was not up within 3 s"),
    ],
    ids=["when it is asked", "when it starts"],
)
def test_a_host_that_lets_in_and_then_hangs_is_named_in_seconds_and_keeps_nothing(
    job, hosts, files, name, asked, seconds, why
):
    for host in hosts:
        host.path("/tmp/python").write_text(HANGS.format(asked=asked))
        host.path("/tmp/python").chmod(0o755)
    target = {"ssh": {"hosts": ["node1", "node2"], "python": "/tmp/python", "start_timeout": 3}}
    ours = job(target, *files(2), node_count=2)
    ours.until(lambda: hosts[name].processes("sleep 600"))
    begun = time.monotonic()
    assert f"{name}: {why}" in ours.expect("Failed")
    took = time.monotonic() - begun
    assert took < seconds + BUSY_MACHINE, f"{took:.1f} s"
    until_nothing_is_left(hosts, 5)

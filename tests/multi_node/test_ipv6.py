"""SSHTarget on hosts that it reaches by IPv6 alone."""

from __future__ import annotations

import os
import re

import pytest

from tests.multi_node.intruder import intrude
from tests.multi_node.leftovers import until_nothing_is_left

pytestmark = [pytest.mark.multi_node, pytest.mark.timeout(180)]

NETWORK = "fd53:d5c:7"


@pytest.fixture
def addresses(hosts, leave_out):
    """Each host's; they have no other in this network."""
    if not os.path.exists("/proc/net/if_inet6"):
        leave_out("this machine's kernel has no IPv6")
    given = {host.name: f"{NETWORK}::{number}" for number, host in enumerate(hosts, 1)}
    at_once = ["dev", "eth0", "nodad"]  # before anybody knows that no other has it
    assert hosts.on_driver("ip", "addr", "add", f"{NETWORK}::250/64", *at_once).wait(20) == 0
    for host in hosts:
        host.run("ip", "addr", "add", f"{given[host.name]}/64", *at_once)
    return given


def test_hosts_that_are_reached_by_ipv6_speak_and_listen_by_it_alone(job, hosts, files, addresses, tmp_path):
    names, folder = files(30)
    first, second, third = addresses.values()
    keys = {name: (hosts.folder / f"keys/{name}.pub").read_text() for name in addresses}
    known = "".join(f"{address},[{address}]:2022 {keys[name]}" for name, address in addresses.items())
    (tmp_path / "known").write_text(known)
    target = {"hosts": [first, f"root@[{second}]", f"[{third}]:2022"], "known_hosts": str(tmp_path / "known")}
    ours = job({"ssh": target}, names, folder, held=names[-1])
    ours.until_rows(29)
    scheduler = re.search(r"scheduler tls://(\S+);", ours.log_of("driver_log.txt"))[1]
    assert scheduler.startswith(f"[{first}]:")
    for host, servers in zip(hosts, (3, 2, 2), strict=True):
        listening = [line.split()[3] for line in host.run("ss", "-ltnH").splitlines()]
        assert len([one for one in listening if one.startswith(f"[{addresses[host.name]}]:")]) == servers, listening
        assert len(listening) == servers + 4, "and the SSH server, on two ports by each protocol"
    assert [line.split()[0] for line in intrude(hosts, scheduler)] == ["refused"] * 4
    for host in hosts:
        host.path("/tmp/release").touch()
    assert set(ours.end()) <= set(hosts.names)
    until_nothing_is_left(hosts)

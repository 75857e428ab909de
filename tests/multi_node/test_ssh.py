"""SSHTarget on hosts for real: three of them on this machine, which share nothing but what is installed."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.multi_node.intruder import intrude
from tests.multi_node.leaks import leaks_on
from tests.multi_node.leftovers import left_on, until_nothing_is_left

pytestmark = [pytest.mark.multi_node, pytest.mark.timeout(180)]

ALL = {"ssh": {"hosts": ["node1", "node2", "node3"]}}
REMOTE = "prs_dask.clusters.remote"
PATIENCE = 60.0
SECRETS = {"variable": "canary-5aa1", "option": "canary-77be", "dask": "canary-90cd"}


def test_files_of_a_store_become_one_file_and_no_secret_stands_on_a_host(job, hosts, tmp_path):
    names = [f"{number:03d}" for number in range(30)]
    served = tmp_path / "served"
    served.mkdir()
    for name in names:
        (served / name).write_text(name)
    store = hosts.on_driver(
        *(sys.executable, "-u", "-m", "http.server", "8000", "--directory", str(served)),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    store.stdout.readline()
    try:
        ours = job(
            ALL,
            names,
            [f"http://driver:8000/{name}" for name in names],
            held=names[-1],
            storage_options={"headers": {"Authorization": f"Bearer {SECRETS['option']}"}},
            environment_variables={"CANARY": SECRETS["variable"]},
            dask_config={"canary": SECRETS["dask"], "distributed.canary": SECRETS["dask"]},
        )
        ours.until_rows(29)
        for_processes = [SECRETS["variable"]]
        assert [found for host in hosts for found in leaks_on(host, SECRETS.values(), for_processes)] == []

        log = ours.log_of("driver_log.txt")
        assert re.search(r"scheduler tls://(\S+):", log)[1] == hosts["node1"].address
        addresses = []
        for host, servers in zip(hosts, (3, 2, 2), strict=True):  # a scheduler, a nanny, a worker
            assert host.run("ss", "-lunH") == ""
            listening = [line.split()[3] for line in host.run("ss", "-ltnH").splitlines()]
            own = [one for one in listening if one.startswith(f"{host.address}:")]
            assert len(own) == servers, listening
            assert {one.rpartition(":")[0] for one in set(listening) - set(own)} <= {"0.0.0.0", "[::]"}, "sshd's"
            assert {one.rpartition(":")[2] for one in set(listening) - set(own)} == {"22", "2022"}
            addresses += own
        told = intrude(hosts, *addresses)
        assert [line for line in told if not line.startswith("refused")] == []
        assert len(told) == 4 * len(addresses)
        for host in hosts:
            host.path("/tmp/release").touch()
        by_host = ours.end()
    finally:
        for process in [*psutil.Process(store.pid).children(), psutil.Process(store.pid)]:
            process.terminate()
        store.communicate()
    assert set(by_host) == set(hosts.names)
    logs, by_node = ours.folder / "run/logs", []
    for node in "012":
        seen = "".join(path.read_text() for path in (logs / f"user/stdout/{node}").glob("*.txt"))
        attempts = [row for path in (logs / f"sys/node/{node}").glob("process0*.txt") for row in
                    csv.DictReader(io.StringIO(path.read_text()))]  # fmt: skip
        assert len(re.findall(r"seen \d+", seen)) == len(attempts)
        by_node.append(len(attempts))
    assert sorted(by_node) == sorted(by_host.values())
    until_nothing_is_left(hosts)


def test_killed_workers_nannies_and_hosts_come_back_and_a_table_has_every_row_once(job, hosts, tmp_path):
    names = [f"{number:03d}" for number in range(90)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "table.csv").write_text("item,filling\n" + "".join(f"{name},{'x' * 40}\n" for name in names))
    for host in hosts:
        host.give(data)
    ours = job(ALL, [str(int(name)) for name in names], str(data / "table.csv"), table=True, held="89", pause=0.1)
    ours.until_rows(5)
    node1, node2, node3 = hosts

    def programs(host):
        return {process.pid for process in host.processes(REMOTE)}

    def workers(host):
        return {process.pid for process in host.processes("multiprocessing", "spawn_main")}

    before1, before2 = workers(node1), programs(node2)
    for worker in before1:
        os.kill(worker, signal.SIGKILL)
    for nanny in before2:
        os.kill(nanny, signal.SIGKILL)
    node3.kill()
    hosts.start(node3)
    node3.give(data)
    ours.until(lambda: workers(node1) - before1 and programs(node2) - before2 and programs(node3))
    ours.until_rows(89)
    for host in hosts:
        host.path("/tmp/release").touch()
    by_host = ours.end()
    assert {"node1", "node2"} <= set(by_host)
    until_nothing_is_left(hosts)


def test_a_driver_that_is_killed_leaves_nothing_on_the_hosts(job, hosts, files):
    names, folder = files(30)
    ours = job(ALL, names, folder, held=names[-1], node_count=2)
    ours.until_rows(5)
    note = "node_count is 2, so that these hosts are not used: node3; node_count=3 uses them all"
    assert note in ours.log_of("driver_log.txt")
    assert left_on(hosts["node1"])
    assert left_on(hosts["node2"])
    ours.kill()
    until_nothing_is_left(hosts)


def test_everything_that_is_wrong_with_hosts_is_told_at_once_before_anything_starts(hosts, tmp_path):
    stub = "#!/bin/sh\necho 'a message of the day'\n"
    older = '{"prs-dask": {"Python": "3.9.2", "platform": "Linux", "dask": "2025.1.0", "distributed": null}}'
    hosts["node1"].path("/tmp/python").write_text(f"{stub}echo '{older}'\n")
    hosts["node2"].path("/tmp/python").write_text('#!/bin/sh\necho "cannot" >&2\nexit 3\n')
    for name in ("node1", "node2"):
        hosts[name].path("/tmp/python").chmod(0o755)
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    (tmp_path / "item").touch()
    names = "node1,node2,node3,node3-unknown,stranger@node1:22,node2:2222"
    command = [sys.executable, "-m", "prs_dask", "run", "--entry-script", str(tmp_path / "score.py"), "--input",
               str(tmp_path / "item"), "--output-action", "append_row", "--node-count", "6", "--run-folder",
               str(tmp_path / "run"), "--compute-target", f"ssh://{names}/tmp/python"]  # fmt: skip
    driver = hosts.on_driver(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    told = driver.communicate(timeout=PATIENCE)[1]
    assert driver.returncode == 1
    for expected in (
        r"5 of 6 hosts cannot be used",
        r"- node2: /tmp/python there did not run \(it ended with 3 and said: cannot\)",
        r"- node3: it has no Python at /tmp/python: .*python=",
        r"- node3-unknown: its key is not in ~/.ssh/known_hosts.*ssh-keyscan node3-unknown >> ~/.ssh/known_hosts",
        r"- stranger@node1:22: it lets stranger not in.*ssh-copy-id stranger@node1",
        r"- node2:2222: no SSH server listens there on port 2222",
        r"host +package +found +wanted",
        rf"node1 +Python +3.9.2 +3.{sys.version_info.minor}",
        r"node1 +dask +2025.1.0 +\d+",
        r"node1 +distributed +not installed +\d+",
    ):
        assert re.search(expected, told), (expected, told)
    assert not any(host.processes(REMOTE) for host in hosts)


def test_a_cluster_of_dask_ssh_is_used_by_its_address(job, hosts, files, tmp_path):
    names, folder = files(30)
    command = [sys.executable, "-m", "distributed.cli.dask_ssh", "--scheduler", "node1", "--nthreads", "2",
               "--remote-python", sys.executable, "node1", "node2"]  # fmt: skip
    with (tmp_path / "dask-ssh.log").open("wb") as log:
        dask_ssh = hosts.on_driver(*command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while (tmp_path / "dask-ssh.log").read_text().count("Starting established connection") < 2:
            assert time.monotonic() < end, (tmp_path / "dask-ssh.log").read_text()
            time.sleep(0.1)
        by_host = job("tcp://node1:8786", names, folder).end()
        assert set(by_host) == {"node1", "node2"}
        told = intrude(hosts, f"{hosts['node1'].address}:8786", f"{hosts['node1'].address}:8787")
        assert "let in" in told[0], "it has no TLS, and would be seen to let in"
        assert "let in" in told[6], "and a dashboard"
        assert hosts["node1"].processes("dask_scheduler"), "it is left as it was found"
    finally:
        for process in psutil.Process(dask_ssh.pid).children(recursive=True):
            process.kill()
        dask_ssh.wait(PATIENCE)
        for host in hosts:
            for process in host.processes("distributed"):
                process.kill()

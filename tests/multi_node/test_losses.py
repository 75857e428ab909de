"""Hosts that are lost in the middle: one that has results it cannot tell, and the first one, with the scheduler."""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
import sys
import time

import pytest

from tests.multi_node.leftovers import until_nothing_is_left

pytestmark = [pytest.mark.multi_node, pytest.mark.timeout(180)]

ALL = {"ssh": {"hosts": ["node1", "node2", "node3"]}}
REMOTE = "prs_dask.clusters.remote"
PATIENCE = 60.0
BUSY_MACHINE = 20.0
"""What may come on top of a limit where many others use the machine."""

TRACES = """
import os, socket, time
from pathlib import Path

def trace(item, what):
    with open("/tmp/trace", "a") as file:
        file.write(f"{time.time()} {item} {what}\\n")

def run(mini_batch):
    [item] = [Path(path).name for path in mini_batch]
    time.sleep({pause})
    while Path("/tmp/hold").exists() or item == "{held}" and not Path("/tmp/release").exists():
        trace(item, "waits")
        time.sleep(0.02)
    trace(item, "ended")
    return [f"{item} {socket.gethostname()} {os.getpid()}"]
"""


def traces_of(host):
    """What the script has written on a host's own disk: (time, item, what)."""
    path = host.path("/tmp/trace")
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(float(when), item, what) for when, item, what in lines]


def waiting_on(host):
    """Items whose ``run()`` is made to wait on a host."""
    traces = traces_of(host)
    return {item for _, item, what in traces if what == "waits"} - {item for _, item, what in traces if what == "ended"}


def test_what_a_host_had_that_is_cut_off_is_done_by_the_others_in_30_seconds_and_its_own_results_do_not_count(
    job, hosts, files
):
    names, folder = files(60)
    ours = job(ALL, names, folder, script=TRACES, held=names[-1], pause=0.1, process_count_per_node=2)
    ours.until_rows(6)
    lost = hosts["node2"]
    lost.path("/tmp/hold").touch()
    ours.until(lambda: len(waiting_on(lost)) == 2)
    had, before = waiting_on(lost), {process.pid for process in lost.processes(REMOTE)}
    lost.cut()
    cut = time.time()
    try:
        lost.path("/tmp/hold").unlink()
        ours.until(lambda: not had & waiting_on(lost))
        ended = {item: when for when, item, what in traces_of(lost) if what == "ended"}
        assert min(ended[item] for item in had) > cut, "it has results that it cannot tell"
        assert not had & {row[0] for row in ours.rows()}
        seconds = ours.until_rows(59, 40)
        others = {item for host in hosts if host is not lost for _, item, what in traces_of(host) if what == "ended"}
        assert had <= others, "they were run again elsewhere"
    finally:
        lost.mend()
    assert seconds < 30, f"{seconds:.1f} s"
    came = rf"worker tls://{lost.address}:\d+ of node (\d+) \(node2/\w+\) has come"
    ours.until(lambda: len(re.findall(came, ours.log_of("sys/master_role.txt"))) == 2)
    assert not before & {process.pid for process in lost.processes(REMOTE)}
    for host in hosts:
        host.path("/tmp/release").touch()
    by_host = ours.end()
    assert by_host["node1"]
    assert by_host["node3"]
    assert not [row for row in ours.rows() if row[0] in had and row[1] == "node2"]
    node, again = re.findall(came, ours.log_of("sys/master_role.txt"))
    assert again == node, "it is the node that it was"
    attempts = csv.DictReader(io.StringIO(ours.log_of("sys/job_report/processed_mini-batches.csv")))
    succeeded = [row for row in attempts if row["Status"] == "Succeeded"]
    assert sorted(int(row["Mini-batch Id"]) for row in succeeded) == [int(name) for name in names]
    where = {row["Mini-batch Id"]: row["Process"].partition("/")[0] for row in succeeded}
    assert node not in {where[str(int(item))] for item in had}
    until_nothing_is_left(hosts)


def test_without_the_first_host_the_step_run_ends_and_is_resumed_on_the_others(job, hosts, files):
    names, folder = files(60)
    ours = job(ALL, names, folder, held=names[-1], pause=0.1)
    ours.until_rows(10)
    lost, others = hosts["node1"], [hosts["node2"], hosts["node3"]]
    lost.cut()
    try:
        begun = time.monotonic()
        assert "the scheduler at tls://" in ours.expect("Failed", 100)
        took = time.monotonic() - begun
        assert took < 45 + BUSY_MACHINE, f"{took:.1f} s"
        done = len(ours.rows())
        assert 10 <= done < len(names)
        until_nothing_is_left(others)
        told = re.search("^Resume: prs-dask (.+)$", ours.log_of("job_result.txt"), re.MULTILINE)[1]
        for host in others:
            host.path("/tmp/release").touch()
        more = ["--compute-target", "ssh://node2,node3", "--node-count", "2"]
        command = [sys.executable, "-m", "prs_dask", *shlex.split(told), *more]
        resumed = hosts.on_driver(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = resumed.communicate(timeout=PATIENCE)[1]
    finally:
        lost.kill()  # and it is switched on again
        hosts.start(lost)
    assert resumed.returncode == 0, said
    by_host = ours.rows_of_hosts()
    assert set(by_host) == set(hosts.names)
    until_nothing_is_left(hosts)

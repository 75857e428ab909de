"""One sample: of a made-up machine, and of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace as Space

import psutil
import pytest

from prs_dask.worker_process import resource_usage
from prs_dask.worker_process.resource_usage import MOST_LETTERS, Sampler, Samples, count_sockets, list_processes

MB = 1 << 20


class Machine:
    """What a sampler asks psutil for."""

    disks = Space(read_count=7, write_count=8, read_bytes=9 * MB, write_bytes=10 * MB)
    net = Space(bytes_sent=11 * MB, bytes_recv=12.5 * MB)

    def __init__(self):
        self.spans = []

    def cpu_percent(self, interval):
        self.spans.append(interval)
        return 42.0

    def virtual_memory(self):
        return Space(total=1000 * MB, available=600 * MB, used=400 * MB, percent=40.0)

    def disk_io_counters(self):
        return self.disks

    def net_io_counters(self):
        return self.net

    def disk_partitions(self, all):
        root = Space(mountpoint="/", device="/dev/root", fstype="ext4")
        bound = Space(mountpoint="/dev/null", device="/dev/root", fstype="ext4")
        far = Space(mountpoint="/proc", device="server:/", fstype="nfs")
        return [bound, root, far] if all else [bound, root]

    def disk_usage(self, path):
        assert path != "/proc", "a server that does not answer would hold up all"
        return Space(total=100 * MB, used=25 * MB, free=70 * MB, percent=25.0)


def sampler(system=None, gpus=(), families=()):
    parts = Space(measure=lambda: [list(gpu) for gpu in gpus]), Space(measure=lambda now: list(families))
    return Sampler(system or Machine(), *parts, "/")


def test_a_node_is_told_in_the_order_of_the_columns(monkeypatch):
    monkeypatch.setattr(resource_usage, "count_sockets", lambda: (3, 4))
    sample = sampler(gpus=[(50, 1.0, 2.0, 50.0)], families=[["process000", 1]]).sample(1000.0)
    assert sample["time"] == 1000.0
    assert sample["node"] == [42.0, 1000, 600, 400, 40.0, 7, 8, 9, 10, 11, 12.5, 3, 4]
    assert (sample["gpus"], sample["processes"]) == ([[50, 1.0, 2.0, 50.0]], [["process000", 1]])


def test_what_a_machine_does_not_have_is_left_empty(monkeypatch):
    monkeypatch.setattr(resource_usage, "count_sockets", lambda: (None, None))
    machine = Machine()
    machine.disks = machine.net = None
    sample = sampler(machine)
    assert sample.sample(0.0)["node"][5:] == [None] * 8
    assert sample.troubles() == []


def test_the_first_share_of_the_processor_is_measured_over_a_moment():
    machine = Machine()
    measured = sampler(machine)
    for now in range(3):
        measured.sample(now)
    assert machine.spans == [0.1, None, None]


def test_each_local_disk_is_told_once_and_no_server_is_asked():
    rows = sampler().sample(0.0)["disks"]
    assert ["/", "/dev/root", "ext4", 100, 25, 70, 25.0] in rows
    assert len(rows) == 2  # a file on /dev is another device


def test_processes_are_listed_once_a_minute_and_at_the_end(monkeypatch):
    monkeypatch.setattr(resource_usage, "list_processes", lambda system: "all of them")
    measured = sampler()
    listed = [bool(measured.sample(now)["ps"]) for now in (0, 30, 59.9, 60, 61)]
    assert listed == [True, False, False, True, False]
    assert measured.sample(62, last=True)["ps"]


def test_what_cannot_be_measured_is_told_once_and_keeps_nothing_else_from_being_measured():
    machine = Machine()
    machine.virtual_memory = lambda: 1 / 0
    measured = sampler(machine)
    assert measured.sample(0.0)["node"] == []
    assert measured.sample(1.0)["disks"]
    [trouble] = measured.troubles()
    assert trouble.startswith("node: Traceback")
    assert "ZeroDivisionError" in trouble
    measured.sample(2.0)
    assert measured.troubles() == []


def test_sockets_in_use_are_those_of_both_families(tmp_path):
    (tmp_path / "sockstat").write_text("sockets: used 1\nTCP: inuse 5 orphan 0 tw 9\nUDP: inuse 2\nRAW: inuse 0\n")
    (tmp_path / "sockstat6").write_text("TCP6: inuse 3\nUDP6: inuse 1\n")
    assert count_sockets(str(tmp_path)) == (8, 3)
    assert count_sockets(str(tmp_path / "none")) == (None, None)


def test_processes_are_listed_as_ps_does_but_without_command_lines():
    secret = "c4n4ry-in-a-command-line"
    process = subprocess.Popen([sys.executable, "-c", "input()", secret], stdin=subprocess.PIPE)
    try:
        text = list_processes(psutil)
    finally:
        process.communicate(b"\n")
    assert text.split()[:2] == ["PID", "PPID"]
    assert str(process.pid) in text.split()
    assert secret not in text


def test_where_there_is_no_ps_they_are_listed_all_the_same(monkeypatch):
    monkeypatch.setattr(resource_usage.shutil, "which", lambda name: None)
    lines = list_processes(psutil).splitlines()
    assert lines[0].split() == ["PID", "PPID", "USER", "STAT", "RSS", "COMMAND"]
    [own] = [line.split() for line in lines[1:] if line.split()[0] == str(os.getpid())]
    assert own[1] == str(os.getppid())
    assert int(own[4]) > 1000


def test_a_list_of_very_many_processes_is_cut_at_a_line(monkeypatch):
    monkeypatch.setattr(resource_usage.shutil, "which", lambda name: None)
    monkeypatch.setattr(resource_usage, "_own_list", lambda system: "a process of many\n" * 100_000)
    *lines, told = list_processes(None).splitlines()
    assert set(lines) == {"a process of many"}
    assert len("\n".join(lines)) <= MOST_LETTERS
    assert told == f"[prs_dask: {18 * (100_000 - len(lines))} letters left out here]"


@pytest.mark.timeout(20)
def test_samples_are_whole_lines_also_behind_one_that_a_full_disk_has_torn(small_disk):
    path = small_disk / "samples.jsonl"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (500 << 10))
    samples = Samples(str(path))
    samples.add({"ps": "y" * 100_000})  # more than fits
    assert path.stat().st_size < 100_000
    filler.unlink()
    samples.add({"time": 1.0})
    torn, line = path.read_bytes().splitlines()
    assert not torn.endswith(b"}")
    assert json.loads(line) == {"time": 1.0}

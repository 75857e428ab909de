"""Whose processes are, and what they use: a made-up machine, and this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from types import SimpleNamespace as Space

import psutil
import pytest

from prs_dask.worker_process.families import Families
from prs_dask.worker_process.launch import NAME_VARIABLE

MB = 1 << 20


class Process:
    """As psutil has them: one with the same pid that was started at another time is another one."""

    def __init__(self, pid, parent, name="", born=None, cpu=0.0, memory=MB, children=0.0):
        self.pid, self.parent, self.name, self.born = pid, parent, name, pid if born is None else born
        self.cpu, self.memory, self.children = cpu, memory, children
        self.gone = self.closed = False

    def __eq__(self, other):
        return (self.pid, self.born) == (other.pid, other.born)

    def __hash__(self):
        return hash((self.pid, self.born))

    def _look(self):
        if self.gone:
            raise psutil.NoSuchProcess(self.pid)

    def is_running(self):
        return not self.gone

    def create_time(self):
        return self.born

    def ppid(self):
        self._look()
        return self.parent

    def environ(self):
        self._look()
        if self.closed:
            raise psutil.AccessDenied(self.pid)
        return {NAME_VARIABLE: self.name} if self.name else {}

    def oneshot(self):
        return contextlib.nullcontext()

    def cpu_times(self):
        self._look()
        return Space(user=self.cpu, system=0.0, children_user=self.children, children_system=0.0)

    def memory_info(self):
        return Space(rss=self.memory)

    def num_threads(self):
        return 2

    def io_counters(self):
        if self.closed:
            raise psutil.AccessDenied(self.pid)
        return Space(read_bytes=MB, write_bytes=2 * MB)


class Machine:
    NoSuchProcess, AccessDenied, Error = psutil.NoSuchProcess, psutil.AccessDenied, psutil.Error

    def __init__(self, *processes):
        self.processes = list(processes)

    def process_iter(self):
        return iter(self.processes)


@pytest.fixture
def node(tmp_path):
    (tmp_path / "worker-100-abc").mkdir()
    (tmp_path / "source-abc").mkdir()
    return tmp_path


def worker_and(*others):
    return Machine(Process(1, 0), Process(100, 1, cpu=5.0, children=70.0), Process(101, 100), *others)


def by_name(rows):
    return {row[0]: row for row in rows}


def test_a_worker_process_and_what_it_has_started_are_one_row(node):
    own = [Process(102, 101, "process007", cpu=2.0), Process(103, 102, "process007", cpu=1.0, memory=9 * MB)]
    rows = by_name(Families(node, worker_and(*own, Process(200, 1, "process007"))).measure(1000.0))
    assert rows["process007"] == ["process007", 102, 2, pytest.approx(0.3, abs=0.05), 3.0, 10.0, 4, 2.0, 4.0]
    assert rows["worker"][1:3] == [100, 2]
    assert rows["worker"][4] == 5.0  # what its children used that have ended is in rows of their own


def test_the_share_is_that_of_the_time_since_the_last_sample(node):
    process = Process(102, 101, "process000", born=110.0, cpu=1.0)
    families = Families(node, worker_and(process))
    assert by_name(families.measure(120.0))["process000"][3] == 10.0
    process.cpu = 4.0
    assert by_name(families.measure(122.0))["process000"][3] == 150.0
    assert by_name(families.measure(123.0))["process000"][3] == 0.0


def test_what_children_used_that_have_ended_counts(node):
    process = Process(102, 101, "process000", cpu=1.0, children=6.0)
    assert by_name(Families(node, worker_and(process)).measure(1000.0))["process000"][4] == 7.0


def test_one_that_has_left_its_parent_stays_in_its_family(node):
    left = Process(104, 103, "process000")
    machine = worker_and(Process(102, 101, "process000"), Process(103, 102, "process000"), left)
    families = Families(node, machine)
    assert by_name(families.measure(1000.0))["process000"][2] == 3
    del machine.processes[-2]
    left.parent = 1
    assert by_name(families.measure(1001.0))["process000"][2] == 2


def test_one_that_hides_its_environment_is_its_parents(node):
    hidden = Process(103, 102, "process000")
    hidden.closed = True
    row = by_name(Families(node, worker_and(Process(102, 101, "process000"), hidden)).measure(1000.0))["process000"]
    assert row[2] == 2
    assert row[7:] == [1.0, 2.0]  # what it reads and writes is not told


def test_a_child_whose_pid_is_lower_than_its_parents_is_found(node):
    machine = worker_and(Process(102, 101, "process000", born=102), Process(50, 102, "", born=103))
    machine.processes.sort(key=lambda process: process.pid)
    assert by_name(Families(node, machine).measure(1000.0))["process000"][2] == 2


def test_a_pid_that_is_used_again_is_another_process(node):
    machine = worker_and(Process(102, 101, "process000"))
    families = Families(node, machine)
    families.measure(1000.0)
    machine.processes[-1] = Process(102, 1, "", born=999.0)
    assert "process000" not in by_name(families.measure(1001.0))


def test_a_worker_process_that_was_seen_before_it_had_its_name_has_its_row_when_it_has(node):
    young, child = Process(102, 101), Process(103, 102)
    families = Families(node, worker_and(young, child))
    assert "process000" not in by_name(families.measure(1000.0))
    young.name = "process000"
    rows = by_name(families.measure(1001.0))
    assert (rows["process000"][2], rows["worker"][2]) == (2, 2)


def test_one_whose_pid_another_process_has_by_now_is_left_out_until_psutil_lists_that_one(node):
    ended = Process(102, 101, "process000")
    machine = worker_and(ended)
    families = Families(node, machine)
    assert "process000" in by_name(families.measure(1000.0))
    ended.gone = True  # psutil has it in its list still
    assert "process000" not in by_name(families.measure(1001.0))
    machine.processes[-1] = Process(102, 101, "process001", born=1000.0)
    assert "process001" in by_name(families.measure(1002.0))


def test_one_that_ends_meanwhile_is_left_out(node):
    gone = Process(103, 102, "process000")
    machine = worker_and(Process(102, 101, "process000"), gone)
    families = Families(node, machine)
    families.measure(1000.0)
    gone.gone = True
    assert by_name(families.measure(1001.0))["process000"][2] == 1


def test_one_that_has_ended_and_was_not_asked_how_is_left_out(node):
    zombie = Process(103, 102, "process000", memory=0)
    rows = by_name(Families(node, worker_and(Process(102, 101, "process000"), zombie)).measure(1000.0))
    assert rows["process000"][2] == 1


def test_a_worker_that_joins_later_is_known_from_then_on(node):
    machine = worker_and(Process(300, 1))
    families = Families(node, machine)
    assert [row[1] for row in families.measure(1000.0)] == [100]
    (node / "worker-300-x").mkdir()
    machine.processes.append(Process(301, 300, "process009"))
    assert by_name(families.measure(1001.0))["process009"][1] == 301


def test_real_processes_are_found(tmp_path, no_leaks):
    (tmp_path / f"worker-{os.getpid()}-x").mkdir()
    environment = {**os.environ, NAME_VARIABLE: "process003"}
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    try:
        families = Families(tmp_path, psutil)
        rows = by_name(families.measure(time.time()))
    finally:
        process.communicate(b"\n")
    assert rows["process003"][1:3] == [process.pid, 1]
    assert rows["process003"][5] > 1
    assert rows["worker"][1] == os.getpid()

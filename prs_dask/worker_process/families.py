"""The step run's processes on a node, by whose they are, and what they use.

A process is its parent's, and stays so whatever becomes of its parent. The supervisors' folders tell their pids; worker
processes, and what else a supervisor starts, carry their names in the variable `NAME_VARIABLE` of the environment.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from prs_dask.worker_process.launch import NAME_VARIABLE

__all__ = ["WORKER", "Families"]

WORKER = "worker"
"""A Dask worker with the parents of its worker processes."""

_MB = 1 << 20


class _Family(NamedTuple):
    """Its name (``process007``), and the pid of the Dask worker that it belongs to."""

    name: str
    worker: int


class _Used(NamedTuple):
    cpu: float
    memory: int
    threads: int
    read: int
    written: int


class Families:
    """See the module's docstring.

    Parameters
    ----------
    node_folder
        Holds a folder ``worker-<pid>-<x>`` of each supervisor.
    system
        psutil.
    """

    def __init__(self, node_folder: Path, system: Any) -> None:
        self._node_folder = node_folder
        self._system = system
        self._families: dict[Any, _Family | None] = {}
        self._before: dict[_Family, tuple[float, float]] = {}

    def measure(self, now: float) -> list[list[Any]]:
        """A row for each family.

        Parameters
        ----------
        now
            Seconds since the epoch.

        Returns
        -------
        list of list
            Name, pid of its first process, number of processes, percent of a processor since the last time (100: all
            of one), processor seconds, resident memory (MB), threads, MB read from and written to disks.
        """
        self._look()
        members: dict[_Family, list[Any]] = {}
        for process, family in self._families.items():
            if family is not None:
                members.setdefault(family, []).append(process)
        rows = []
        before, self._before = self._before, {}
        for family, processes in sorted(members.items()):
            used = [one for process in processes if (one := self._used(process, family)) is not None]
            if not used:
                continue
            first = min(processes, key=_age)
            cpu = sum(one.cpu for one in used)
            then, cpu_then = before.get(family, (first.create_time(), 0.0))
            percent = 100 * (cpu - cpu_then) / (now - then) if now > then else 0.0
            self._before[family] = (now, cpu)
            memory, read, written = (sum(one[index] for one in used) / _MB for index in (1, 3, 4))
            threads = sum(one.threads for one in used)
            numbers = [round(max(0.0, percent), 1), round(cpu, 2), round(memory, 2), threads]
            rows.append([family.name, first.pid, len(used), *numbers, round(read, 2), round(written, 2)])
        return rows

    def _look(self) -> None:
        """Whose are the processes that have come up since the last time?"""
        workers = _supervisors(self._node_folder)
        families: dict[Any, _Family | None] = {}
        by_pid: dict[int, _Family] = {}
        new = []
        for process in self._system.process_iter():
            if not process.is_running():  # another has its pid by now, and is there the next time
                continue
            family = self._families.get(process)
            if process.pid in workers:
                family = _Family(WORKER, process.pid)
            elif family is not None and family.name == WORKER:  # it may have been seen before it had its name
                new.append(process)
                continue
            if family is not None:
                families[process] = by_pid[process.pid] = family
            elif process in self._families:
                families[process] = None
            else:
                new.append(process)
        for process in sorted(new, key=_age):  # parents come before their children
            family = families[process] = self._family_of(process, by_pid)
            if family is not None:
                by_pid[process.pid] = family
        self._families = families

    def _family_of(self, process: Any, by_pid: dict[int, _Family]) -> _Family | None:
        parent = None
        try:
            parent = by_pid.get(process.ppid())
            if parent is None:
                return None
            name = process.environ().get(NAME_VARIABLE)
        except self._system.NoSuchProcess:
            return None
        except self._system.Error:  # its environment is not ours to read
            return parent
        return _Family(name, parent.worker) if name else parent

    def _used(self, process: Any, family: _Family) -> _Used | None:
        try:
            with process.oneshot():
                cpu = process.cpu_times()
                seconds = cpu.user + cpu.system
                if family.name != WORKER:  # the children of a worker have rows of their own
                    seconds += cpu.children_user + cpu.children_system
                memory, threads = process.memory_info().rss, process.num_threads()
                if not memory:  # it has ended, and nobody has asked how
                    return None
                read = written = 0
                with contextlib.suppress(self._system.AccessDenied, NotImplementedError, AttributeError):
                    counters = process.io_counters()
                    read, written = counters.read_bytes, counters.write_bytes
                return _Used(seconds, memory, threads, read, written)
        except self._system.Error:  # it is gone, or nobody's to look at
            return None


def _supervisors(node_folder: Path) -> set[int]:
    """Pids of the Dask workers that work on the step run here."""
    names = [name.split("-") for name in os.listdir(node_folder) if name.startswith("worker-")]
    return {int(parts[1]) for parts in names if parts[1].isdecimal()}


def _age(process: Any) -> tuple[float, int]:
    return process.create_time(), process.pid

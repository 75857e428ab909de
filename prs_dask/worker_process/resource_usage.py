"""The node's resource monitor: what the node, its GPUs and disks and the step run's processes use.

One process a node and step run (where workers of a node have different folders for temporary files, one for each), at
an interval, at the start and at the end: psutil would hold a Dask worker's GIL.
It appends each sample to a file, as a line of JSON that its supervisor ships as it ships what worker processes
print; the driver makes tables of them (`prs_dask.logs.usage_tables`, which knows the columns)::

    {"time": seconds since the epoch, "next": when there will be another, "source": text,
     "node": [...], "gpus": [[...], ...], "disks": [[...], ...], "processes": [[...], ...], "ps": text}
    {"trouble": text}       what could not be measured; told once

``source`` names the folder whose supervisors it measures: those of a node with others have monitors of their own.

It ends when its supervisor says so or is gone, and takes a last sample before: the only one where that comes before the
first, so that a very short step run does not wait for two. It is killed with its supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from pickle import loads
from typing import Any, NoReturn

from prs_dask.worker_process.frames import FrameKind, MonitorSetup, read_frame

__all__ = ["Sampler", "Samples", "count_sockets", "list_processes", "main"]

MOST_LETTERS = 200_000
"""Of a list of processes: a sample travels as one piece."""

MOST_DISKS = 200
NICENESS = 10
"""Who measures goes behind those that are measured."""

PS_SECONDS = 10.0
_PS = ("-A", "-o", "pid,ppid,user,stat,pcpu,pmem,vsz,rss,etime,time,comm")
"""Without command lines: they may hold secrets."""

_MB = 1 << 20


def main(descriptor: int) -> NoReturn:
    """Measure until the other end of this socket says so or is gone; never returns."""
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        supervisor = socket.socket(fileno=descriptor)
        kind, _, payload = read_frame(supervisor)
        if kind != FrameKind.SETUP:
            raise ValueError(f"found a frame of kind {kind}; allowed here: SETUP")
        setup: MonitorSetup = loads(payload)  # noqa: S301 - from our own supervisor
        samples = Samples(setup.file)
        try:
            _measure(supervisor, setup, samples)
            code = 0
        except BaseException:
            samples.add({"trouble": traceback.format_exc()})
    finally:
        os._exit(code)


def _measure(supervisor: socket.socket, setup: MonitorSetup, samples: Samples) -> None:
    sys.path.extend(path for path in setup.import_paths if path not in sys.path)
    import psutil

    from prs_dask.worker_process.families import Families
    from prs_dask.worker_process.gpus import Gpus

    folder = os.stat(setup.node_folder)
    source = f"{folder.st_dev:x}-{folder.st_ino:x}"  # its path may be that of another one for other workers of the node
    sampler = Sampler(psutil, Gpus(), Families(Path(setup.node_folder), psutil), setup.node_folder)
    due = time.monotonic()
    over = _is_over(supervisor, 0.0)  # then start and end are one moment, and one sample
    while True:
        now = time.time()
        samples.add({"source": source, "next": now + setup.interval, **sampler.sample(now, last=over)})
        for trouble in sampler.troubles():
            samples.add({"trouble": trouble})
        if over:
            return
        due = max(due + setup.interval, time.monotonic())
        over = _is_over(supervisor, max(0.0, due - time.monotonic()))


def _is_over(supervisor: socket.socket, seconds: float) -> bool:
    """Whatever there is to read within so many seconds, it means the end: there is nothing else that could be said."""
    return bool(select.select([supervisor], [], [], seconds)[0])


class Samples:
    """The file of samples. What cannot be written, as where the disk is full, is left out."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._torn = False

    def add(self, value: dict[str, Any]) -> None:
        """A line."""
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
        data = b"\n" * self._torn + line + b"\n"
        with contextlib.suppress(OSError):
            self._torn = os.write(self._descriptor, data) < len(data)


class Sampler:
    """Measures all there is.

    Parameters
    ----------
    system
        psutil.
    gpus, families
        See `prs_dask.worker_process.gpus` and `prs_dask.worker_process.families`.
    folder
        A folder on a disk that matters, wherever it lies.
    """

    def __init__(self, system: Any, gpus: Any, families: Any, folder: str = "/") -> None:
        self._folder = folder
        self._system = system
        self._gpus = gpus
        self._families = families
        self._listed = ""
        self._told: set[str] = set()
        self._troubles: list[str] = []
        self._first = True

    def sample(self, now: float, *, last: bool = False) -> dict[str, Any]:
        """What is used now; a list of all processes once a minute, and in the last sample."""
        minute = time.strftime("%Y%m%d%H%M", time.gmtime(now))
        lists = last or minute != self._listed
        self._listed = minute
        sample = {
            "time": now,
            "node": self._or("node", self._node, []),
            "gpus": self._or("gpus", self._gpus.measure, []),
            "disks": self._or("disks", self._disks, []),
            "processes": self._or("processes", lambda: self._families.measure(now), []),
            "ps": self._or("ps", lambda: list_processes(self._system), "") if lists else "",
        }
        self._first = False
        return sample

    def troubles(self) -> list[str]:
        """What could not be measured since this was asked last; each kind is told once."""
        told, self._troubles = self._troubles, []
        return told

    def _or(self, what: str, measure: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return measure()
        except Exception:
            if what not in self._told:
                self._told.add(what)
                self._troubles.append(f"{what}: {traceback.format_exc()}")
            return otherwise

    def _node(self) -> list[float | None]:
        system = self._system
        memory = system.virtual_memory()
        disk, net = system.disk_io_counters(), system.net_io_counters()  # None where there are no disks, or no network
        tcp, udp = count_sockets()
        return [
            # Of a first one the share is that since the machine was started: it is measured over a moment instead.
            system.cpu_percent(0.1 if self._first else None),
            _mb(memory.total),
            _mb(memory.available),
            _mb(memory.used),
            memory.percent,
            *((disk.read_count, disk.write_count, _mb(disk.read_bytes), _mb(disk.write_bytes)) if disk else [None] * 4),
            *((_mb(net.bytes_sent), _mb(net.bytes_recv)) if net else [None] * 2),
            tcp,
            udp,
        ]

    def _disks(self) -> list[list[Any]]:
        """The disks of the machine, and what the root and the step run's folder lie on; each once."""
        kinds = {part.mountpoint: (part.device, part.fstype) for part in self._system.disk_partitions(all=True)}
        # Nothing else of the network: a server that does not answer would hold up all.
        local = {part.mountpoint for part in self._system.disk_partitions(all=False)} | {"/", _mount_of(self._folder)}
        rows: dict[Any, list[Any]] = {}
        for mount in sorted(local, key=lambda mount: (len(mount), mount))[:MOST_DISKS]:
            with contextlib.suppress(OSError):  # it may be nobody's to look at, or be gone
                device = os.stat(mount).st_dev
                if device not in rows:
                    usage = self._system.disk_usage(mount)
                    sizes = [_mb(size) for size in (usage.total, usage.used, usage.free)]
                    rows[device] = [mount, *kinds.get(mount, ("", "")), *sizes, usage.percent]
        return sorted(rows.values())


def count_sockets(folder: str = "/proc/net") -> tuple[int | None, int | None]:
    """TCP and UDP sockets in use, of IPv4 and IPv6; None where the kernel does not tell.

    psutil would look at every descriptor of every process for that.
    """
    counts: dict[str, int] = {}
    for name in ("sockstat", "sockstat6"):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"{folder}/{name}") as file:
            for line in file:
                kind, _, rest = line.partition(": inuse ")
                if rest:
                    kind = kind.removesuffix("6")
                    counts[kind] = counts.get(kind, 0) + int(rest.split()[0])
    return counts.get("TCP"), counts.get("UDP")


def _mount_of(folder: str) -> str:
    folder = os.path.realpath(folder)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder


def list_processes(system: Any) -> str:
    """All processes of the machine as ``ps`` shows them; a few columns of psutil's where there is no ``ps``."""
    program = shutil.which("ps")
    if program is None:
        text = _own_list(system)
    else:
        result = subprocess.run(
            [program, *_PS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PS_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=True,
        )
        text = result.stdout.decode("utf-8", "backslashreplace")
    if len(text) > MOST_LETTERS:
        head = text[: text.rindex("\n", 0, MOST_LETTERS) + 1]
        text = f"{head}[prs_dask: {len(text) - len(head)} letters left out here]\n"
    return text


def _own_list(system: Any) -> str:
    lines = [f"{'PID':>7} {'PPID':>7} {'USER':<12} {'STAT':<10} {'RSS':>9} COMMAND\n"]
    for process in system.process_iter(["pid", "ppid", "username", "status", "memory_info", "name"]):
        info = process.info
        resident = info["memory_info"].rss >> 10 if info["memory_info"] else 0
        texts = [info[name] or "?" for name in ("username", "status", "name")]
        lines.append(f"{info['pid']:>7} {info['ppid']:>7} {texts[0]:<12} {texts[1]:<10} {resident:>9} {texts[2]}\n")
    return "".join(lines)


def _mb(size: float) -> float:
    """MB of 1024 x 1024 bytes."""
    return round(size / _MB, 2)

"""What a run has left on the machine when it was over: nothing, or the oracle says so.

Looked at three times: when the step run has ended (its worker processes and whatever they started have to
be gone, though a cluster that ran before goes on), in that cluster, and when everything was closed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.scene import Process, Scene

__all__ = ["descriptors_of", "left_in_cluster", "left_of_all", "left_of_run"]


def _until_none(look: Callable[[], list[str]], seconds: float) -> list[str]:
    """What is still there after so many seconds."""
    end = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _told(process: Process) -> str:
    return f"process {process.pid}: {process.command[:160]}"


def left_of_run(scene: Scene, seconds: float) -> list[str]:
    """Worker processes, their reapers and what they have started that live on after the step run."""

    def look() -> list[str]:
        return [_told(one) for one in scene.processes() if one.run or one.is_child or one.is_reaper]

    return _until_none(look, seconds)


DASKS_OWN = ("socket:", "pipe:", "anon_inode:[eventpoll]", "/dev/null")
"""Descriptors of a Dask worker or scheduler that has nothing to do, by what they begin with. Dask keeps connections
for a while, so sockets say nothing, but for those that listen."""

MOST_LISTENING = 3
"""A worker listens on one port for others, and over IPv4 and IPv6 on one for HTTP; a scheduler on two."""


def left_in_cluster(scene: Scene, seconds: float) -> list[str]:
    """Folders in an attached cluster that goes on, and descriptors and ports of its scheduler and workers."""
    if scene.scheduler is None:
        return []
    scheduler = scene.scheduler.pid

    def look() -> list[str]:
        pids = [scheduler, *scene.dask_workers()]
        held = {one.pid: descriptors_of(one.pid) for one in scene.processes()}
        holders = Counter(target for targets in held.values() for target in set(targets))
        found = [f"temporary folder {path}" for path in _temporary_folders(scene)]
        for pid in pids:
            mine = [one for one in held.get(pid, ()) if not _is_dasks_own(one, scene)]
            mine += [one for one in held.get(pid, ()) if one.startswith("pipe:") and holders[one] == 1]
            found += [f"descriptor of process {pid}: {one}" for one in mine]
            ports = _listening(pid)
            if len(ports) > MOST_LISTENING - (pid == scheduler):
                found.append(f"ports of process {pid}: {ports}")
        return found

    return _until_none(look, seconds)


def _is_dasks_own(target: str, scene: Scene) -> bool:
    its_log = Path(target).parent == scene.folder and target.endswith(".txt")
    return target.startswith(DASKS_OWN) or target.endswith(".dirlock") or its_log


def _temporary_folders(scene: Scene) -> Iterator[Path]:
    """Those of prs_dask, in the temporary folder and in those of Dask's workers."""
    yield from (scene.folder / "tmp").glob("prs*")
    yield from (scene.folder / "dask").rglob("prs*")


def left_of_all(scene: Scene, seconds: float = 10.0) -> list[str]:
    """Processes, temporary folders, shared memory and sockets that listen, after everything was closed."""
    temporary = scene.folder / "tmp"

    def look() -> list[str]:
        found = scene.processes()
        listening = [f"port of process {one.pid}: {port}" for one in found for port in _listening(one.pid)]
        folders = [f"temporary folder {path}" for path in temporary.iterdir() if path.name.startswith("prs")]
        memory = [f"shared memory {path.name}" for path in (scene.folder / "shm").iterdir()]
        return [*map(_told, found), *listening, *folders, *memory]

    return _until_none(look, seconds)


def _listening(pid: int) -> list[str]:
    inodes = set()
    for target in descriptors_of(pid):
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(f"{table} {fields[1]}")
    return found


def descriptors_of(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
    except OSError:
        pass
    return found

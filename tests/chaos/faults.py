"""The faults, one function each: what they do to the scene, and whom they hit.

A fault that finds nothing to hit (a worker process while none runs) does nothing and says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import psutil

from tests.chaos.disk import Disk
from tests.chaos.plans import Fault
from tests.chaos.scene import Scene

__all__ = ["DO", "free_disk"]

VICTIM_SECONDS = 2.0
"""So long a fault waits for something to hit: processes are replaced all the time."""

KNOWN_SECONDS = 1.0
"""So long a nanny may take to know that its worker is up; one that is killed before takes it with it, for good."""

Deed = Callable[[Scene, Fault], list[int]]
"""Does a fault; gives back the processes it has hit, none where there was nothing to hit."""


def _hit(victims: Callable[[], Sequence[int]], fault: Fault, number: int) -> list[int]:
    """One of these gets a signal, when there is one; and goes on after ``hold`` seconds where it was stopped."""
    end = time.monotonic() + VICTIM_SECONDS
    while not (pids := victims()):
        if time.monotonic() > end:
            return []
        time.sleep(0.05)
    pid = sorted(pids)[fault.choice % len(pids)]
    try:
        stopped_before = psutil.Process(pid).status() == psutil.STATUS_STOPPED
        os.kill(pid, number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return []
    if number == signal.SIGSTOP:
        time.sleep(fault.hold)
        if not stopped_before:  # an item that stops its process must not be woken
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return [pid]


def _popen(process: subprocess.Popen[bytes] | None) -> list[int]:
    return [process.pid] if process is not None and process.poll() is None else []


def kill_child(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.children, fault, signal.SIGKILL)


def term_child(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.children, fault, signal.SIGTERM)


def stop_child(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.children, fault, signal.SIGSTOP)


def kill_worker(scene: Scene, fault: Fault) -> list[int]:
    return _hit(partial(scene.dask_workers, KNOWN_SECONDS), fault, signal.SIGKILL)


def term_worker(scene: Scene, fault: Fault) -> list[int]:
    return _hit(partial(scene.dask_workers, KNOWN_SECONDS), fault, signal.SIGTERM)


def stop_worker(scene: Scene, fault: Fault) -> list[int]:
    return _hit(partial(scene.dask_workers, KNOWN_SECONDS), fault, signal.SIGSTOP)


def kill_nanny(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.nannies, fault, signal.SIGKILL)


def term_nanny(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.nannies, fault, signal.SIGTERM)


def stop_nanny(scene: Scene, fault: Fault) -> list[int]:
    return _hit(scene.nannies, fault, signal.SIGSTOP)


def kill_scheduler(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.scheduler), fault, signal.SIGKILL)


def term_scheduler(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.scheduler), fault, signal.SIGTERM)


def stop_scheduler(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.scheduler), fault, signal.SIGSTOP)


def kill_driver(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.driver), fault, signal.SIGKILL)


def term_driver(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.driver), fault, signal.SIGTERM)


def stop_driver(scene: Scene, fault: Fault) -> list[int]:
    return _hit(lambda: _popen(scene.driver), fault, signal.SIGSTOP)


def join_worker(scene: Scene, fault: Fault) -> list[int]:
    scene.add_worker()
    return [scene.workers[-1].pid]


def retire_worker(scene: Scene, fault: Fault) -> list[int]:
    scene.call_dask("retire", str(fault.choice))
    return _popen(scene.scheduler)


def workers_gone(scene: Scene, fault: Fault) -> list[int]:
    """All of them at once; as many new ones come after ``hold`` seconds."""
    gone = [*scene.nannies(), *scene.dask_workers()]
    for pid in gone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(fault.hold)
    for _ in range(scene.plan.lanes):
        scene.add_worker()
    return sorted(set(gone))


def full_disk(scene: Scene, fault: Fault) -> list[int]:
    """Not one byte is left under the run folder, until `free_disk`."""
    with open(scene.folder / "disk" / "filler", "ab", buffering=0) as file:
        block = b"\0" * (1 << 16)
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
    return _popen(scene.driver)


def free_disk(scene: Scene) -> None:
    """There is room again."""
    (scene.folder / "disk" / "filler").unlink(missing_ok=True)


def read_only(scene: Scene, fault: Fault) -> list[int]:
    """The folder above the run folder; `jobs` does it before the first driver starts, and takes it back."""
    Disk(scene.folder / "disk").remount("ro")
    return [os.getpid()]


DO: Mapping[str, Deed] = MappingProxyType(
    {
        deed.__name__: deed
        for deed in (
            kill_child, term_child, stop_child, kill_worker, term_worker, stop_worker, kill_nanny, term_nanny,
            stop_nanny, kill_scheduler, term_scheduler, stop_scheduler, kill_driver, term_driver, stop_driver,
            join_worker, retire_worker, workers_gone, full_disk, read_only,
        )
    }
)  # fmt: skip

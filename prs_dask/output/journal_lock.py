"""One driver at a time on a run folder: ``journal.lock``, locked as long as the driver lives.

The lock is the kernel's (``flock``), which lets go of it when its owner dies, however it does. What stands in
the file is for people only: host and process of the owner.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Final

from prs_dask.errors import Fault, OutputError

__all__ = ["JournalLock", "holder"]

NAME: Final = "journal.lock"

PATIENCE_SECONDS = 0.5
"""Whoever only looks whether it is held (`holder`) holds it for a moment."""

_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: weakref.WeakSet[JournalLock] = weakref.WeakSet()


class JournalLock:
    """Held from `take` until `release`.

    Attributes
    ----------
    works
        False where the file system knows no locks: then nobody is kept out.
    """

    def __init__(self, path: Path, descriptor: int, works: bool) -> None:
        self.path = path
        self.works = works
        self._descriptor = descriptor
        _held.add(self)

    @classmethod
    def take(cls, folder: Path) -> JournalLock:
        """Lock a run folder; the file keeps its content until `sign`.

        Raises
        ------
        OutputError
            Another driver holds it, which is named; or it cannot be written. Nothing was changed.
        """
        path = folder / NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            fault = Fault("run_folder", f"{path}: {error.strerror}", "the folder of a step run, that can be written")
            raise OutputError([fault]) from None
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(path, descriptor, works=True)
            except OSError as error:
                if error.errno in _UNKNOWN:
                    return cls(path, descriptor, works=False)
                if error.errno != errno.EWOULDBLOCK or time.monotonic() > until:
                    owner = _signature(descriptor)
                    os.close(descriptor)
                    found = f"{folder}, which {owner or 'another driver'} works on"
                    advice = "wait for its end, or end it, and resume then"
                    fault = Fault("run_folder", found, "a run folder that no driver works on", advice)
                    raise OutputError([fault]) from None
            time.sleep(0.02)

    def sign(self) -> None:
        """Write who holds it."""
        with contextlib.suppress(OSError):  # for people only
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it; the file stays, for removing it would let two drivers hold one each."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def holder(folder: Path) -> str:
    """Who works on a run folder now (``process 12 on host``); empty where nobody does, as far as this machine knows."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return (_signature(descriptor) or "another driver") if error.errno == errno.EWOULDBLOCK else ""
    finally:
        os.close(descriptor)
    return ""


def _signature(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _let_go_in_child() -> None:
    """A fork of the driver has its descriptors, and would hold the lock when the driver is dead."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_let_go_in_child)

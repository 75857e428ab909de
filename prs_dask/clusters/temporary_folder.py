"""A temporary folder that is removed also when its owner was killed: by a caretaker, or by the next owner.

Its owner holds a lock on a file in it; see `prs_dask.clusters.abandoned`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from prs_dask.clusters import abandoned

__all__ = ["TemporaryFolder"]


class TemporaryFolder:
    """A new folder, until ``remove``; abandoned ones of the same user are swept away first.

    Parameters
    ----------
    parent
        Where it lies; None: in the system's folder for temporary files.

    Attributes
    ----------
    path
        Absolute.
    """

    def __init__(self, parent: str | None = None) -> None:
        parent = parent or tempfile.gettempdir()
        abandoned.sweep(parent)
        _caretaker.hire(parent)
        while True:
            self.path = tempfile.mkdtemp(prefix=abandoned.PREFIX, dir=parent)
            self._lock = os.open(os.path.join(self.path, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if os.fstat(self._lock).st_nlink:
                return
            os.close(self._lock)  # another one's sweep was faster than the lock

    def remove(self) -> None:
        """Remove it with all that is in it. A second call does nothing."""
        if self._lock >= 0:
            abandoned.remove_tree(Path(self.path))
            os.close(self._lock)
            self._lock = -1
            _caretaker.dismiss()


class _Caretaker:
    """One process for all folders of this one, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders = 0
        self._process: subprocess.Popen[bytes] | None = None

    def hire(self, parent: str) -> None:
        """There is a folder more, below this one. Without a caretaker the next owner sweeps."""
        with self._lock, contextlib.suppress(OSError):
            self._folders += 1
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", abandoned.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                    bufsize=0,
                )
            if self._process.stdin is not None:
                self._process.stdin.write(os.fsencode(os.path.abspath(parent)) + b"\n")

    def dismiss(self) -> None:
        """There is one less."""
        with self._lock:
            self._folders -= 1
            if self._folders or self._process is None:
                return
            process, self._process = self._process, None
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                process.communicate(b"\n", timeout=10)


_caretaker = _Caretaker()

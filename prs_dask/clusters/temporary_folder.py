"""A temporary folder that is removed also when its owner was killed: by the next owner.

Its owner holds a lock on a file in it; a folder whose lock nobody holds is abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["TemporaryFolder"]

_PREFIX = "prs-dask-"


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
        _sweep(parent)
        while True:
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            self._lock = os.open(os.path.join(self.path, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if os.fstat(self._lock).st_nlink:
                return
            os.close(self._lock)  # another one's sweep was faster than the lock

    def remove(self) -> None:
        """Remove it with all that is in it. A second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(parent: str) -> None:
    for lock_file in Path(parent).glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock_file.open("r+b") as lock:  # held, another user's, or gone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_file.parent, ignore_errors=True)

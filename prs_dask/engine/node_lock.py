"""A lock that one supervisor of a node can hold, and that the kernel takes from it when it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["NodeLock"]


class NodeLock:
    """Not held yet.

    Parameters
    ----------
    path
        A file that all supervisors of the node see; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def is_ours(self) -> bool:
        """Is it held here? It is taken where nobody holds it. OSError: the file cannot be made."""
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others have it; where it is not held, nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

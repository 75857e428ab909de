"""What wakes a thread that waits for descriptors, rung by another thread."""

from __future__ import annotations

import contextlib
import os
import threading

__all__ = ["Bell"]


class Bell:
    """An eventfd that may be rung at any time, also when it is closed: then nobody hears it.

    Attributes
    ----------
    descriptor
        Readable from `ring` to `hush`.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake whoever waits."""
        with self._lock:  # a closed descriptor's number may be another file's by now
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def hush(self) -> None:
        """It has been heard."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Close it; a second call does nothing."""
        with self._lock:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1

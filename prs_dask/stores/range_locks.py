"""Locks by name, any number of them for one file descriptor, which the kernel lets go of with their owner.

A name is a byte of one file: Linux's *open file description* locks lie on ranges of bytes, and a file may
be shorter than they reach. So a mini-batch of ten thousand files is held with one descriptor, and there are no lock
files to remove. Two names that share a byte, one pair in 2**61, wait for each other without need; no more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from hashlib import blake2b

__all__ = ["RangeLocks"]

_FLOCK = struct.Struct("hhqqi4x")
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)


class RangeLocks:
    """One owner of locks; threads that must exclude one another have one each.

    Parameters
    ----------
    path
        The file of the locks; made where it is missing.
    lowest
        The descriptor gets a number of at least this, as far as the process may have such: out of the way of what
        user code closes.
    """

    def __init__(self, path: str, lowest: int = 0) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if lowest:
            with suppress(OSError):
                high = fcntl.fcntl(self._descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
                os.close(self._descriptor)
                self._descriptor = high

    def share(self, name: str) -> None:
        """Hold it together with others; waits for who has it alone."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK, _place(name), 1)

    def take(self, name: str) -> bool:
        """Hold it alone; False, at once, where another holds it."""
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, _place(name), 1)
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                return False
            raise
        return True

    def take_waiting(self, name: str) -> None:
        """Hold it alone, once nobody else holds it."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _place(name), 1)

    def let_go_of(self, name: str) -> None:
        """Of this one."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _place(name), 1)

    def let_go(self) -> None:
        """Of all of them."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0, 0)

    def close(self) -> None:
        """Let go of all for good."""
        os.close(self._descriptor)

    def _set(self, how: int, kind: int, start: int, length: int) -> None:
        fcntl.fcntl(self._descriptor, how, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))

    def __enter__(self) -> RangeLocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") >> 2

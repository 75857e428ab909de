"""How many bytes the node's cache has, and how many it may have; counted by one process at a time.

Every change is written at once, and adding comes before what it counts, taking off behind it. So a process that
is killed in between leaves a few bytes counted that are not there; never the reverse.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prs_dask.stores.range_locks import RangeLocks

__all__ = ["Counts", "Ledger"]

_NAME = "ledger"
_COUNTS = struct.Struct("<qq")


class Counts:
    """The counts, while nobody else has them.

    Attributes
    ----------
    bound
        Bytes that may be used.
    used
        Bytes on the disk, and those that downloads under way have set aside.
    """

    __slots__ = ("_descriptor", "bound", "used")

    def __init__(self, descriptor: int, bound: int, used: int) -> None:
        self._descriptor = descriptor
        self.bound = bound
        self.used = used

    def add(self, size: int) -> None:
        """So many bytes more, or less, are used."""
        self.used = max(0, self.used + size)
        os.pwrite(self._descriptor, _COUNTS.pack(self.bound, self.used), 0)


class Ledger:
    """See the module's docstring.

    Parameters
    ----------
    folder
        Of the cache.
    bound
        Bytes; what is given first counts for all. None: half of what is free on the disk.
    """

    def __init__(self, folder: Path, bound: int | None) -> None:
        self._folder = folder
        self._path = str(folder / _NAME)
        self._bound = bound

    @contextmanager
    def open(self, own: RangeLocks) -> Iterator[Counts]:
        """The counts, once nobody else has them."""
        own.take_waiting(_NAME)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                data = os.read(descriptor, _COUNTS.size)
                if len(data) == _COUNTS.size:
                    yield Counts(descriptor, *_COUNTS.unpack(data))
                else:
                    half = shutil.disk_usage(self._folder).free // 2
                    counts = Counts(descriptor, half if self._bound is None else self._bound, 0)
                    counts.add(0)
                    yield counts
            finally:
                os.close(descriptor)
        finally:
            own.let_go_of(_NAME)

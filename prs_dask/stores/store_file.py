"""A file of a store as a binary file object that can seek."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

__all__ = ["StoreFile"]


class StoreFile(io.RawIOBase):
    """Unbuffered; every read is one request.

    Parameters
    ----------
    read_at
        (offset, size) -> so many bytes, fewer at the end only.
    size
        Its bytes.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at, self._size = read_at, size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._place = start + offset
        return self._place

    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._place))
        data = self._read_at(self._place, wanted)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

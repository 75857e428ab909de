"""Files of which the journal knows how long they are: cut back, and written at a place, whole."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["open_cut", "write_at"]


def open_cut(path: Path, length: int) -> int:
    """A descriptor of a file that is cut back to so many bytes, on disk.

    Raises
    ------
    OSError
        The disk failed. Nothing stays open.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of ``data`` at ``offset``, for the kernel may take less than it was given; the offset behind it.

    Raises
    ------
    OSError
        The disk failed or is full. Some of the data may have been written.
    """
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
    return offset

"""Writing all of it: the kernel may take less than it was given."""

from __future__ import annotations

import os

__all__ = ["write_at"]


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of ``data`` at ``offset``; the offset behind it.

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

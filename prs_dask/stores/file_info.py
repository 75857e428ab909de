"""What a store tells of a file."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FileInfo", "size_in"]


class FileInfo(NamedTuple):
    """A file as it was found.

    Parameters
    ----------
    path
        Its URL, without credentials; or its absolute local path.
    size
        Bytes; -1 where that is not known.
    version
        Text that differs when the file has changed: its size, ``-``, and what its store tells of
        identity (``"1042-9f3c…"``). Empty where nothing is known.
    """

    path: str
    size: int = -1
    version: str = ""


def size_in(version: str) -> int:
    """The size of a file of this version; -1 where it is not told.

    >>> size_in("1042-9f3c"), size_in("")
    (1042, -1)
    """
    size = version.partition("-")[0]
    return int(size) if size.isascii() and size.isdigit() else -1

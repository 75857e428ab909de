"""What is told where a mini-batch does not have a column's type in the dataset's head: once per column and process."""

from __future__ import annotations

import logging

__all__ = ["tell_misfit"]

_LOGGER = logging.getLogger(__name__)
_MOST = 1000

_told: set[str] = set()


def tell_misfit(path: str, name: str, old: str, new: str, advice: str = "") -> None:
    """Log that a column is read with another type, unless something of the kind was told of it before.

    Parameters
    ----------
    path
        The file it was met in.
    name
        The column.
    old, new
        Its type in the dataset's head, and the one it was read with in the end.
    advice
        What settles it.
    """
    if name not in _told and len(_told) < _MOST:
        _told.add(name)
        _LOGGER.warning(
            "column %r is %s in the dataset's head, but not in %s: read as %s there%s", name, old, path, new, advice
        )

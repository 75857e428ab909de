"""What is told where a mini-batch does not have a column's type in the dataset's head: once per column and process."""

from __future__ import annotations

import logging

__all__ = ["tell_misfit"]

_LOGGER = logging.getLogger(__name__)
_MOST = 1000

_told: set[tuple[str, str]] = set()


def tell_misfit(path: str, name: str, old: str, new: str, advice: str = "") -> None:
    """Log that a column is read with another type.

    Parameters
    ----------
    path
        The file it was met in.
    name
        The column.
    old, new
        Its type in the dataset's head, and here.
    advice
        What settles it.
    """
    if (name, new) not in _told and len(_told) < _MOST:
        _told.add((name, new))
        _LOGGER.warning(
            "column %r is %s in the dataset's head, but not in %s: read as %s there%s", name, old, path, new, advice
        )

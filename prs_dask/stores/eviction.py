"""Which files of the node's cache go first, where another needs the room. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Entry", "victims"]


class Entry(NamedTuple):
    """A file of the cache that nobody holds.

    Parameters
    ----------
    key
        Names it.
    size
        Bytes.
    used
        Has a mini-batch had it? What was fetched ahead and is still waited for has not been used.
    last_use
        When it was used last, or fetched; seconds since the epoch.
    """

    key: str
    size: int
    used: bool
    last_use: float


def victims(entries: Iterable[Entry], need: int, spare: int = 0, *, unused_too: bool = True) -> list[Entry]:
    """The entries to remove, the longest unused first.

    Those that were used come before those that wait for their first use, and what lies there the longest comes
    first among both.

    Parameters
    ----------
    entries
        All that may be removed.
    need
        Bytes to be freed; all entries go where they hold less.
    spare
        So many more, if used ones hold them: the next files then find room without a search.
    unused_too
        Whether files that were fetched ahead may go.
    """
    chosen: list[Entry] = []
    freed = 0
    for entry in sorted(entries, key=lambda entry: (not entry.used, entry.last_use, entry.key)):
        wanted = need + spare if entry.used and need > 0 else need
        if freed >= wanted or not (entry.used or unused_too):
            break
        chosen.append(entry)
        freed += entry.size
    return chosen

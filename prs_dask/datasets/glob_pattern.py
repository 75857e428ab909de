"""Glob patterns, matched one folder entry at a time while a folder tree is walked.

The components of a pattern are the states of a small automaton: a folder is entered with the
set of components that may come next, so nothing is listed twice, folders that cannot match
are never opened, and matches come in listing order. ``*``, ``?`` and ``[...]`` match within a
name, ``**`` matches any number of folders. Without ``**``, a folder that matches the whole
pattern stands for everything in it.
"""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TypeAlias

__all__ = ["GlobPattern", "States", "is_pattern"]

States: TypeAlias = frozenset[int]
_MAGIC = re.compile(r"[*?\[]")


def is_pattern(path: str) -> bool:
    """Whether a path that does not exist may be meant as a pattern."""
    return _MAGIC.search(path) is not None


class GlobPattern:
    """A pattern split into the folder to start from and what must match below it.

    Parameters
    ----------
    path
        An absolute path with at least one of ``*?[``.
    include_hidden
        Whether wildcards match names that start with ``.`` or ``_``; a component that itself
        starts so always does.
    """

    def __init__(self, path: str, include_hidden: bool = False) -> None:
        parts = path.rstrip(os.sep).split(os.sep)
        first = next(index for index, part in enumerate(parts) if is_pattern(part))
        self.folder = os.sep.join(parts[:first]) or os.sep
        self._parts = parts[first:]
        self._last = len(self._parts) - 1
        self._any_depth = "**" in self._parts
        self._matches = [re.compile(fnmatch.translate(part)).match for part in self._parts]
        self._include_hidden = include_hidden
        self.start = self._closed({0})

    def _closed(self, states: set[int]) -> States:
        """``**`` may stand for no folder at all, so what follows it is possible at once."""
        for index in sorted(states):
            while index < self._last and self._parts[index] == "**":
                index += 1
                states.add(index)
        return frozenset(states)

    def shows(self, name: str) -> bool:
        """Whether an entry of this name counts where everything does that is not hidden."""
        return self._include_hidden or not name.startswith((".", "_"))

    def _accepts(self, index: int, name: str) -> bool:
        part = self._parts[index]
        if name.startswith((".", "_")) and not self._include_hidden and part[0] != name[0]:
            return False
        return part == "**" or self._matches[index](name) is not None

    def selects(self, states: States, name: str) -> bool:
        """Whether a file of this name, in a folder entered with ``states``, matches."""
        return self._last in states and self._accepts(self._last, name)

    def into(self, states: States, name: str) -> States | None:
        """The states for a folder of this name; empty: nothing in it can match; None: all of it does."""
        after: set[int] = set()
        for index in states:
            if not self._accepts(index, name):
                continue
            if self._parts[index] == "**":
                after.add(index)
            elif index < self._last:
                after.add(index + 1)
            elif not self._any_depth:
                return None
        return self._closed(after)

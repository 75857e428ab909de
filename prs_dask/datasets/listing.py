"""From the paths a user gave to the files they mean, one at a time and in a fixed order.

A path is taken literally if something of that name exists, whatever characters it holds;
otherwise it is a glob pattern if it looks like one. A folder gives its files, sorted by their
bytes, then the same for each of its folders in turn (decisions, point 20). Hidden entries
(``.x``, ``_x``) are left out unless named. One folder's names are held at a time, as bytes.
Paths given twice are listed twice.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from prs_dask.datasets.glob_pattern import GlobPattern, States, is_pattern
from prs_dask.errors import Fault, InputError

__all__ = ["check_paths", "list_files"]

_ENCODING = sys.getfilesystemencoding()
_HIDDEN = frozenset(b"._")

_Identity: TypeAlias = tuple[int, int]
_Ancestors: TypeAlias = tuple[_Identity, "_Ancestors"] | None


def list_files(paths: Iterable[str], include_hidden: bool = False) -> Iterator[str]:
    """Every file that ``paths`` mean, lazily.

    Parameters
    ----------
    paths
        Absolute local paths: files, folders or glob patterns.
    include_hidden
        Whether entries of folders that start with ``.`` or ``_`` count.

    Raises
    ------
    InputError
        A path does not exist, or a folder cannot be listed. A file that cannot be opened is
        listed all the same: its mini-batch will fail, not the others.
    """
    for path in paths:
        yield from _files_of(path, include_hidden, ordered=True)


def check_paths(paths: Iterable[str], include_hidden: bool = False) -> None:
    """Look for what is wrong before anything starts: missing, empty, unreadable.

    Raises
    ------
    InputError
        With a fault for each such path. Stops at the first file of each.
    """
    faults = [fault for path in paths if (fault := _fault_of(path, include_hidden))]
    if faults:
        raise InputError(faults)


def _fault_of(path: str, include_hidden: bool) -> Fault | None:
    try:
        first = next(_files_of(path, include_hidden, ordered=False), None)
    except InputError as error:
        return error.faults[0]
    if first is None:
        hidden = not include_hidden and next(_files_of(path, True, ordered=False), None)
        return Fault(
            "path",
            f"{path!r} with no file in it",
            "at least one file",
            "include_hidden=True: every name starts with '.' or '_'" if hidden else "",
        )
    if first == path and not os.access(path, os.R_OK):
        return Fault("path", f"{path!r}, which this user may not read", "readable files", f"chmod u+r {path!r}")
    return None


def _files_of(path: str, include_hidden: bool, ordered: bool) -> Iterator[str]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if os.path.lexists(path) or not is_pattern(path):
            raise _unlistable(path, error) from None
        pattern = GlobPattern(path, include_hidden)
        if os.path.isdir(pattern.folder):
            yield from _walk(pattern.folder, pattern, include_hidden, ordered)
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, None, include_hidden, ordered)
    elif stat.S_ISREG(mode):
        yield path
    else:
        raise InputError([Fault("path", f"{path!r}, a pipe, socket or device", "regular files and folders")])


def _walk(root: str, pattern: GlobPattern | None, include_hidden: bool, ordered: bool) -> Iterator[str]:
    """The files below ``root`` that ``pattern`` selects; all where it is None."""
    start = pattern.start if pattern else None
    stack: list[tuple[bytes, States | None, _Ancestors, bool]] = [(os.fsencode(root), start, None, False)]
    while stack:
        folder, states, ancestors, is_link = stack.pop()
        identity = _identity(folder)
        if is_link and _is_within(identity, ancestors):
            continue  # a link to a folder above itself, whose files are listed anyway
        prefix = os.path.join(folder, b"").decode(_ENCODING, "surrogateescape")
        files: list[bytes] = []
        folders: list[tuple[bytes, States | None, bool]] = []
        for name, is_folder, is_link in _entries(folder, include_hidden or states is not None):
            below = None
            if pattern is not None and states is not None:
                text = os.fsdecode(name)
                if not is_folder and not pattern.selects(states, text):
                    continue
                below = pattern.into(states, text) if is_folder else None
                if is_folder and below is not None and not below:
                    continue
            if is_folder:
                folders.append((name, below, is_link))
            elif ordered:
                files.append(name)
            else:
                yield prefix + os.fsdecode(name)
        files.sort(reverse=True)
        while files:  # popping frees the names of a large folder as they are handed out
            yield prefix + files.pop().decode(_ENCODING, "surrogateescape")
        folders.sort(key=lambda entry: entry[0], reverse=True)
        chain = (identity, ancestors)
        stack.extend((os.path.join(folder, name), below, chain, link) for name, below, link in folders)


def _entries(folder: bytes, include_hidden: bool) -> Iterator[tuple[bytes, bool, bool]]:
    """(name, is a folder, is a link) of what counts in a folder; pipes, sockets and devices never do.

    A link that leads nowhere counts as a file: its mini-batch fails and says so.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if not include_hidden and name[0] in _HIDDEN:
                    continue
                if entry.is_file():
                    yield name, False, False
                elif entry.is_dir():
                    yield name, True, entry.is_symlink()
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    yield name, False, True
    except OSError as error:
        raise _unlistable(os.fsdecode(folder), error) from None


def _identity(folder: bytes) -> _Identity:
    try:
        found = os.stat(folder)
    except OSError as error:
        raise _unlistable(os.fsdecode(folder), error) from None
    return found.st_dev, found.st_ino


def _is_within(identity: _Identity, ancestors: _Ancestors) -> bool:
    while ancestors is not None:
        if ancestors[0] == identity:
            return True
        ancestors = ancestors[1]
    return False


def _unlistable(path: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError([Fault("path", f"{path!r}: {reason}", "a file, a folder or a pattern that matches files")])

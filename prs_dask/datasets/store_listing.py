"""The files of a dataset's paths, local ones and those in stores: what `listing` is for folders on this machine.

A URL is taken literally if a file or a folder of that name exists; otherwise it is a glob pattern if it
looks like one, matched within the store's own listing. Files of a store come in the order of their
whole paths, a page at a time. HTTP servers have no listings: each of their files must be named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from prs_dask.datasets.glob_pattern import GlobPattern, States, is_pattern
from prs_dask.datasets.listing import check_paths, list_files
from prs_dask.errors import Fault, InputError
from prs_dask.stores import FileInfo, StorageOptions, is_url, store_of
from prs_dask.stores.urls import HTTP, protocol_of, shown

__all__ = ["ListedPath", "check_inputs", "list_inputs", "listed_version"]

_MAGIC = re.compile(r"[*?\[]")


class ListedPath(str):
    """A URL that remembers the version its file had when it was listed."""

    __slots__ = ("version",)
    version: str

    @classmethod
    def of(cls, info: FileInfo) -> ListedPath:
        """The URL of a listed file."""
        return cls.with_version(info.path, info.version)

    @classmethod
    def with_version(cls, url: str, version: str) -> ListedPath:
        """The URL of a file that had this version."""
        path = cls(url)
        path.version = version
        return path

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def listed_version(path: str) -> str:
    """The version that a path was listed with; empty for local ones."""
    return path.version if type(path) is ListedPath else ""


def list_inputs(paths: Iterable[str], include_hidden: bool, options: StorageOptions | None) -> Iterator[str]:
    """Every file that ``paths`` mean, lazily, in the order of the paths.

    Parameters
    ----------
    paths
        Absolute local paths and URLs without credentials.
    include_hidden
        Whether names below a folder that start with ``.`` or ``_`` count.
    options
        For the stores.

    Raises
    ------
    InputError
        A path does not exist, or cannot be listed.
    """
    for remote, some in itertools.groupby(paths, is_url):
        if not remote:
            yield from list_files(some, include_hidden)
            continue
        for url in some:
            try:
                yield from map(ListedPath.of, _files_of(url, include_hidden, options))
            except OSError as error:
                raise InputError([_fault(url, error)]) from None


def check_inputs(paths: Iterable[str], include_hidden: bool, options: StorageOptions | None) -> None:
    """Look for what is wrong before anything starts: missing, empty, unreadable.

    Raises
    ------
    InputError
        With a fault for each such path. Stops at the first file of each.
    """
    faults: list[Fault] = []
    for path in paths:
        try:
            if not is_url(path):
                check_paths([path], include_hidden)
            elif fault := _fault_of(path, include_hidden, options):
                faults.append(fault)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)


def _fault_of(url: str, include_hidden: bool, options: StorageOptions | None) -> Fault | None:
    try:
        first = next(_files_of(url, include_hidden, options), None)
        if first is None:
            hidden = not include_hidden and next(_files_of(url, True, options), None)
            return Fault(
                "path",
                f"{shown(url)!r} with no file in it",
                "at least one file",
                "include_hidden=True: every name starts with '.' or '_'" if hidden else "",
            )
        if first.path == url and first.size:
            store_of(url, options).read_at(url, 0, 1)  # it may be listed by those who may not read it
    except OSError as error:
        return _fault(url, error)
    return None


def _files_of(url: str, include_hidden: bool, options: StorageOptions | None) -> Iterator[FileInfo]:
    store = store_of(url, options)
    is_web = protocol_of(url) in HTTP
    if is_web or not url.endswith("/"):
        try:
            yield store.info(url)
            return
        except FileNotFoundError:
            if is_web:
                raise
    rest = iter(_not_hidden(store.list(url), url.rstrip("/") + "/", include_hidden))
    first = next(rest, None)
    if first is not None:
        yield first
        yield from rest
    elif is_pattern(url) and next(iter(store.list(url)), None) is None:
        yield from _matching(store.list(url[: _start_of_magic(url)], prefix=True), url, include_hidden)
    elif next(iter(store.list(url)), None) is None:
        raise FileNotFoundError(2, "no such file or folder in the store", shown(url))


def _start_of_magic(url: str) -> int:
    match = _MAGIC.search(url, url.index("://") + 3)
    return match.start() if match else len(url)


def _not_hidden(files: Iterator[FileInfo], folder: str, include_hidden: bool) -> Iterator[FileInfo]:
    if include_hidden:
        return files
    below = len(folder)
    return (file for file in files if not any(name.startswith((".", "_")) for name in file.path[below:].split("/")))


def _matching(files: Iterator[FileInfo], url: str, include_hidden: bool) -> Iterator[FileInfo]:
    """The files that a pattern selects; folders are entered once each, in whatever order their files come."""
    protocol, _, path = url.partition("://")
    pattern = GlobPattern(f"/{path}", include_hidden)
    depth = pattern.folder.rstrip("/").count("/") + 1
    start = len(protocol) + 2
    entered: dict[tuple[str, ...], States | None] = {(): pattern.start}
    for file in files:
        *folders, name = file.path[start:].split("/")[depth:]
        states = _entered(tuple(folders), entered, pattern)
        if states is None:
            if pattern.shows(name):
                yield file
        elif states and pattern.selects(states, name):
            yield file


def _entered(
    folders: tuple[str, ...], entered: dict[tuple[str, ...], States | None], pattern: GlobPattern
) -> States | None:
    if folders in entered:
        return entered[folders]
    above = _entered(folders[:-1], entered, pattern)
    states: States | None
    if above is None:  # all of a folder that matches the whole pattern, but for what is hidden
        states = None if pattern.shows(folders[-1]) else frozenset()
    else:
        states = pattern.into(above, folders[-1]) if above and folders[-1] else frozenset()
    if len(entered) > 10_000:  # neighbours come one after the other: what was entered long ago is over
        entered.clear()
        entered[()] = pattern.start
    entered[folders] = states
    return states


def _fault(url: str, error: OSError) -> Fault:
    if isinstance(error, FileNotFoundError):
        if protocol_of(url) in HTTP:
            allowed = "the URL of each file: HTTP servers have no listings, so neither folders nor patterns"
            return Fault("path", f"{shown(url)!r}: no such file", allowed, "'https://host/folder/file.csv'")
        return Fault(
            "path", f"{shown(url)!r}: no such file or folder", "a file, a folder or a pattern that matches files"
        )
    return Fault("path", f"{shown(url)!r}: {error.strerror or error}", "files that can be read")

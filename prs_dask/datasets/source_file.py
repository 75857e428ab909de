"""The bytes of one file, whether it lies on this machine or in a store, and whether it still is what it was.

Local files are opened; files in stores are read by ranges, and told apart by their versions. A version is looked up
*before* a file is cut, and again *after* a mini-batch of it was read: between the two it was the same.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, cast

from prs_dask.datasets.local_files import version_told_by
from prs_dask.datasets.store_listing import listed_version
from prs_dask.datasets.text_file import PlainText
from prs_dask.errors import ReadError
from prs_dask.stores.file_info import size_in
from prs_dask.stores.urls import is_url, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prs_dask.stores import StorageOptions

__all__ = ["TextSource", "as_file", "check_all_unchanged", "check_unchanged", "open_bytes", "open_text", "version_of"]

ASKED_AT_ONCE = 32
"""Files whose versions are asked for side by side."""

_SMALLEST_WINDOW, _LARGEST_WINDOW = 1 << 16, 8 << 20


class TextSource(Protocol):
    """Text whose ranges can be read on their own: a `PlainText`, or one in a store."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from a place, fewer at the end only."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_text(path: str, options: StorageOptions | None, version: str = "") -> TextSource:
    """A plain text, to be read at any place; its size is known from the version, or asked for."""
    return _StoreText(path, options, version) if is_url(path) else PlainText(path)


@contextmanager
def open_bytes(
    path: str, options: StorageOptions | None, version: str = "", buffer: int = 1 << 20
) -> Iterator[IO[bytes]]:
    """A binary file that can seek. ``buffer``: of files in stores; 0: none, whoever reads it asks for what it needs."""
    if not is_url(path):
        with open(path, "rb") as local:
            yield local
        return
    from prs_dask.stores import store_of

    with store_of(path, options).open(path, size_in(version or listed_version(path)), buffer) as remote:
        yield remote


def as_file(source: TextSource, buffer: int = 1 << 16) -> IO[bytes]:
    """A source as a binary file that can seek. ``buffer`` 0: none."""
    from prs_dask.stores.store_file import StoreFile

    file = StoreFile(source.read_at, source.size)
    return cast("IO[bytes]", io.BufferedReader(file, buffer) if buffer else file)


def version_of(path: str, options: StorageOptions | None) -> str:
    """What a file is now; as it was listed, where it was."""
    if not is_url(path):
        return version_told_by(os.stat(path))
    from prs_dask.stores import store_of

    return listed_version(path) or store_of(path, options).info(path).version


def check_unchanged(path: str, version: str, options: StorageOptions | None) -> None:
    """See that a file is what it was when it was listed; to be asked when it has been read.

    Raises
    ------
    ReadError
        It is not.
    OSError
        It is gone.
    """
    if not version:
        return
    if not is_url(path):
        if (now := version_of(path, None)) != version:
            from prs_dask.stores.store import changed

            raise changed(path, version, now)
        return
    from prs_dask.stores import store_of

    store_of(path, options).check_unchanged(path, version)


def check_all_unchanged(files: Iterable[tuple[str, str]], options: StorageOptions | None) -> None:
    """See that files are what they were when they were listed: one request for each, many side by side.

    Parameters
    ----------
    files
        Paths and versions; those without a version are not looked at.

    Raises
    ------
    ReadError, OSError
        Of the first that was changed, is gone or cannot be asked for.
    """
    known = [(path, version) for path, version in files if version]
    if len(known) <= 1:
        for path, version in known:
            check_unchanged(path, version, options)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(ASKED_AT_ONCE, len(known)), "prs-check")
    try:
        for _ in pool.map(lambda file: check_unchanged(file[0], file[1], options), known):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def told_as_changed(path: str, version: str, options: StorageOptions | None) -> ReadError | None:
    """The error for a file that could not be read, if that is because it was changed."""
    try:
        check_unchanged(path, version, options)
    except ReadError as error:
        return error
    except OSError:
        return None
    return None


class _StoreText:
    """See `TextSource`. What is read in order comes in larger and larger requests."""

    def __init__(self, url: str, options: StorageOptions | None, version: str) -> None:
        from prs_dask.stores import store_of

        self._url, self._store = url, store_of(url, options)
        size = size_in(version or listed_version(url))
        self.size = size if size >= 0 else self._store.info(url).size
        if self.size < 0:
            raise OSError(errno.EIO, "its store does not tell how large it is, so no part of it can be had", shown(url))
        self._start, self._window = 0, b""
        self._next = _SMALLEST_WINDOW

    def read_at(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        have = self._start + len(self._window)
        if not self._start <= offset <= have:
            self._start, self._window, self._next = offset, b"", _SMALLEST_WINDOW
        elif end > have:
            self._window = self._window[offset - self._start :]
            self._start = offset
        if end > (have := self._start + len(self._window)):
            wanted = min(max(end - have, self._next), self.size - have)
            self._window += self._store.read_at(self._url, have, wanted, whole=True)
            self._next = min(self._next * 2, _LARGEST_WINDOW)
        return self._window[offset - self._start : end - self._start]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._window = b""

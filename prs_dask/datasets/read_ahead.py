"""Files of stores, read ahead of the one who cuts them: several requests at once, their answers in order.

Planning a table reads its files in order: all of each where quotes count, a little at each block's edge
where records are lines, the end where there is a footer. A store takes its time for each request, but answers
many at once. So what will be read is asked for before: of the file at hand, and of those behind it in the listing.

It begins with two requests, has one more with each answer, and half as many after one that took long: a slow line,
or a store that asks for less. What has been read and not taken is at most ``MOST_AT_ONCE`` pieces of ``WINDOW``
bytes, 64 MiB, whatever the number and size of the files. Local files are opened when their turn comes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from prs_dask.datasets.source_file import TextSource, open_text
from prs_dask.datasets.store_listing import listed_version
from prs_dask.stores.file_info import size_in
from prs_dask.stores.urls import is_url

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from prs_dask.stores import StorageOptions

__all__ = ["ReadAhead", "Span", "SpansOf", "all_of", "at_edges", "at_end", "at_start"]

WINDOW = 4 << 20
EDGE = 1 << 16
FIRST_AT_ONCE, MOST_AT_ONCE = 2, 16
LONG_SECONDS = 5.0
"""A sixth of what a request may take."""


class Span(NamedTuple):
    """A range of a file's bytes that will be asked for."""

    offset: int
    size: int


SpansOf: TypeAlias = Callable[[str, int], Iterable[Span]]
"""(path, its size) -> what of it will be asked for, in ascending order."""


def all_of(size: int) -> Iterator[Span]:
    """A file from its beginning to its end."""
    return (Span(offset, min(WINDOW, size - offset)) for offset in range(0, size, WINDOW))


def at_edges(size: int, block: int) -> Iterator[Span]:
    """A file's beginning, and where each block of so many bytes ends; all of it where these lie close together."""
    if block <= 2 * EDGE:
        return all_of(size)
    return (Span(offset, min(EDGE, size - offset)) for offset in range(0, size, block))


def at_start(size: int) -> Iterator[Span]:
    """A file's beginning."""
    return iter([Span(0, min(EDGE, size))] if size else ())


def at_end(size: int) -> Iterator[Span]:
    """A file's end: so much of a Parquet file pyarrow reads first."""
    return iter([Span(max(0, size - EDGE), min(EDGE, size))] if size else ())


class _Coming(NamedTuple):
    """What comes next: a file (``path``), or more of it; with a piece of it, where one was asked for."""

    path: str | None
    span: Span
    piece: Future[tuple[bytes, float]] | None


class ReadAhead:
    """The files of a listing in order, to be opened one after the other. Leaves no thread behind once it is closed.

    Parameters
    ----------
    files
        Paths and URLs, lazily; what it raises is raised when its turn comes.
    spans_of
        What will be asked for of each file; what else is, is read then.
    options
        Of the stores.
    """

    def __init__(self, files: Iterable[str], spans_of: SpansOf, options: StorageOptions | None) -> None:
        self._wanted: Iterator[tuple[str | None, Span]] | None = _spans(files, spans_of)
        self._options = options
        self._coming: deque[_Coming] = deque()
        self.at_once = FIRST_AT_ONCE
        """Files and pieces that are asked for before they are needed."""
        self._path = ""  # of the file that was last asked for
        self._error: Exception | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is asked for any more; waits for the answers that are under way."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._coming.clear()

    def __iter__(self) -> Iterator[str]:
        while (path := self._next_file()) is not None:
            yield path

    def open(self, path: str) -> TextSource:
        """The file whose turn it is. Opened once; of files in stores nothing is asked for that is on its way."""
        if not is_url(path):
            return open_text(path, None)
        return _Expected(lambda: open_text(path, self._options), size_in(listed_version(path)), self.take)

    def take(self, start: int, stop: int) -> tuple[int, bytes] | None:
        """The next piece of the file at hand that has something before ``stop``, and its place; None: there is none.

        Pieces that end before ``start`` are dropped.
        """
        while self._coming and self._coming[0].path is None and self._coming[0].span.offset < stop:
            _, span, piece = self._coming.popleft()
            self._ask()
            if piece is None:
                continue
            if sum(span) <= start:
                piece.cancel()
                continue
            data, seconds = piece.result()
            self.at_once = next_at_once(self.at_once, seconds)
            return span.offset, data
        return None

    def _next_file(self) -> str | None:
        """Go on to the next file; its first piece is in the queue again, as more of it."""
        while True:
            self._ask()
            if not self._coming:
                if self._error is not None:
                    raise self._error
                return None
            path, span, piece = self._coming.popleft()
            if path is not None:
                self._coming.appendleft(_Coming(None, span, piece))
                return path
            if piece is not None:
                piece.cancel()

    def _ask(self) -> None:
        """Ask for as much as may be under way."""
        while self._wanted is not None and len(self._coming) < self.at_once:
            try:
                found = next(self._wanted, None)
            except Exception as error:  # the files before it come first
                found, self._error = None, error
            if found is None:
                self._wanted = None
                return
            path, span = found
            self._path = path or self._path
            self._coming.append(_Coming(path, span, self._asked(self._path, span) if span.size else None))

    def _asked(self, path: str, span: Span) -> Future[tuple[bytes, float]]:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(MOST_AT_ONCE, "prs-read-ahead")
        return self._pool.submit(self._read, path, span)

    def _read(self, path: str, span: Span) -> tuple[bytes, float]:
        from prs_dask.stores import store_of

        begun = time.monotonic()
        data = store_of(path, self._options).read_at(path, *span, whole=True, stop=self._stop)
        return data, time.monotonic() - begun


def next_at_once(at_once: int, seconds: float) -> int:
    """How many requests may be under way after one that took so long.

    >>> next_at_once(2, 0.1), next_at_once(16, 0.1), next_at_once(16, 6.0), next_at_once(1, 6.0)
    (3, 16, 8, 1)
    """
    return min(MOST_AT_ONCE, at_once + 1) if seconds < LONG_SECONDS else max(1, at_once // 2)


def _spans(files: Iterable[str], spans_of: SpansOf) -> Iterator[tuple[str | None, Span]]:
    """What will be asked for, in order; each file's path with its first span, or with an empty one."""
    for path in files:
        size = size_in(listed_version(path)) if is_url(path) else -1
        begins: str | None = path
        for span in spans_of(path, size) if size > 0 else ():
            yield begins, span
            begins = None
        if begins is not None:
            yield begins, Span(0, 0)


class _Expected:
    """See `TextSource`: a file in a store, of which pieces have been asked for.

    Parameters
    ----------
    otherwise
        Opens it to read what was not asked for.
    size
        Its bytes; negative: not known.
    take
        See `ReadAhead.take`.
    """

    def __init__(
        self, otherwise: Callable[[], TextSource], size: int, take: Callable[[int, int], tuple[int, bytes] | None]
    ) -> None:
        self._open_otherwise, self._take = otherwise, take
        self._otherwise: TextSource | None = None
        self.size = size if size >= 0 else self._opened().size
        self._start, self._window = 0, b""

    def read_at(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        while end > (have := self._start + len(self._window)) and (piece := self._take(offset, end)) is not None:
            if self._start <= offset < have == piece[0]:  # it goes on from what is still needed
                self._window = self._window[offset - self._start :] + piece[1]
                self._start = offset
            else:
                self._start, self._window = piece
        if self._start <= offset and end <= self._start + len(self._window):
            return self._window[offset - self._start : end - self._start]
        return self._opened().read_at(offset, size)

    def _opened(self) -> TextSource:
        if self._otherwise is None:
            self._otherwise = self._open_otherwise()
        return self._otherwise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._window = b""

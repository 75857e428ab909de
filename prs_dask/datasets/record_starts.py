"""Where the records of a text file start.

A record ends at a line break outside of quotes (`quotes`); lines with nothing in them are no
records. Line breaks are ``\\n``, ``\\r\\n`` and ``\\r`` (JSON Lines: ``\\n`` only).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from prs_dask.datasets.quotes import CHUNK, Quotes

__all__ = ["OpenQuote", "ReadAt", "RecordStarts"]

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""(offset, size) -> so many bytes of a file, fewer at its end only."""

_SMALL_CHUNK = 1 << 13


class OpenQuote(Exception):
    """A quote that is still open at the end of the text.

    Parameters
    ----------
    offset
        Byte offset of that quote.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(offset)


class RecordStarts:
    """The places where records start, asked for in ascending order.

    Parameters
    ----------
    read_at
        The file's bytes.
    start
        Where its text begins (behind a byte order mark).
    separator
        The byte between fields. With it, quotes are honoured and the whole file is read, in order.
    quoted
        False: every line break ends a record, and only a little is read at each place asked for.
    only_newline
        ``\\r`` is no line break, and lines of blanks and tabs are empty too (JSON Lines; not with quoted).
    """

    def __init__(
        self,
        read_at: ReadAt,
        *,
        start: int = 0,
        separator: bytes = b",",
        quoted: bool = True,
        only_newline: bool = False,
        chunk_size: int = 0,
    ) -> None:
        self._read_at = read_at
        self._quotes = Quotes(separator) if quoted else None
        self._ending = re.compile(rb"\n" if only_newline else rb"[\r\n]")
        self._blank = re.compile(rb"[ \t\r\n]*" if only_newline else rb"[\r\n]*")
        self._only_newline = only_newline
        self._least = self._chunk_size = chunk_size or (CHUNK if quoted else _SMALL_CHUNK)
        self._offset = start  # of the chunk
        self._chunk = b""
        self._position = start  # records before it are no longer asked for
        self._at_end = False

    def first(self) -> int | None:
        """Offset of the first record; None if there is none."""
        return self._skip_blank()

    def after(self, edge: int) -> int | None:
        """Offset of the first record that starts beyond ``edge``; None if there is none.

        Raises
        ------
        OpenQuote
            The text ends inside of a quoted field.
        """
        self._position = max(self._position, edge)
        while self._load():
            found = self._ending.search(self._chunk, self._position - self._offset)
            if found is None:
                self._position = self._offset + len(self._chunk)
                continue
            closing = self._quotes.closing(found.start()) if self._quotes else found.start()
            self._position = self._offset + closing
            if closing == found.start():
                return self._skip_blank()
        return None

    def _skip_blank(self) -> int | None:
        """The first line with something in it, from a place where a line begins."""
        line = self._position
        while self._load():
            match = self._blank.match(self._chunk, self._position - self._offset)
            assert match is not None  # noqa: S101 - the expression matches the empty string
            if self._only_newline:
                newline = self._chunk.rfind(b"\n", match.start(), match.end())
                line = self._offset + newline + 1 if newline >= 0 else line
            else:
                line = self._offset + match.end()
            self._position = self._offset + match.end()
            if match.end() < len(self._chunk):
                return line
        return None

    def _load(self) -> bool:
        """Have the chunk that holds ``_position``; False at the end of the text."""
        while self._position >= self._offset + len(self._chunk):
            if self._at_end:
                return False
            if self._quotes:
                self._next_chunk(self._quotes)
            else:
                self._jump()
        return True

    def _jump(self) -> None:
        """A small chunk at ``_position``; larger and larger ones while a line goes on."""
        goes_on = self._position == self._offset + len(self._chunk)
        self._chunk_size = min(self._chunk_size * 2, CHUNK) if goes_on else self._least
        self._offset = self._position
        self._chunk = self._read_at(self._offset, self._chunk_size)
        self._at_end = not self._chunk

    def _next_chunk(self, quotes: Quotes) -> None:
        """The next chunk in order, and its quotes."""
        self._offset += len(self._chunk)
        self._chunk = self._read_at(self._offset, self._chunk_size)
        self._at_end = not self._chunk
        if self._at_end and quotes.ends_inside:
            quotes.next(b"\n", self._offset)
            raise OpenQuote(quotes.opened)
        if self._chunk:
            quotes.next(self._chunk, self._offset)

"""Where the records of a text file start.

A record ends at a line break outside of quotes; lines with nothing in them are no records.
Line breaks are ``\\n``, ``\\r\\n`` and ``\\r`` (JSON Lines: ``\\n`` only). Quotes mean what they mean to
Python's csv module, pandas and pyarrow: one opens a field only where a field begins, a doubled one
inside is literal, and one in the middle of an unquoted field is an ordinary character.

Quotes are not looked at byte by byte. If each quote opens and closes in turn (parity), then the
even ones must stand where a field begins, or directly behind the quote before them (a doubled
one). numpy checks that for a chunk at a time; where it holds, parity is exactly the csv
rule. Where it does not, the quotes of that chunk, from the first that breaks the rule, are
looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenQuote", "ReadAt", "RecordStarts", "unclosed_in_line"]

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""(offset, size) -> so many bytes of a file, fewer at its end only."""

_QUOTE = 0x22
_CHUNK = 1 << 20
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
        self._quoted = quoted
        self._ending = re.compile(rb"\n" if only_newline else rb"[\r\n]")
        self._blank = re.compile(rb"[ \t\r\n]*" if only_newline else rb"[\r\n]*")
        self._only_newline = only_newline
        self._field_start = frozenset(b"\r\n" + separator)
        self._least = self._chunk_size = chunk_size or (_CHUNK if quoted else _SMALL_CHUNK)
        self._offset = start  # of the chunk
        self._chunk = b""
        self._position = start  # records before it are no longer asked for
        self._at_end = False
        # Quotes: whether the chunk's first byte is inside a field's quotes, whether a quote there
        # would open one, and the places in the chunk where inside and outside change.
        self._inside = False
        self._may_open = True
        self._toggles: NDArray[np.intp] | None = None
        self._closed_last = False  # the byte before the chunk closed a field
        self._opened = -1  # the quote that opened the field which holds the chunk's first byte, or ends before it

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
            closing = self._closing(found.start())
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
            if self._quoted:
                self._next_chunk()
            else:
                self._jump()
        return True

    def _jump(self) -> None:
        """A small chunk at ``_position``; larger and larger ones while a line goes on."""
        goes_on = self._position == self._offset + len(self._chunk)
        self._chunk_size = min(self._chunk_size * 2, _CHUNK) if goes_on else self._least
        self._offset = self._position
        self._chunk = self._read_at(self._offset, self._chunk_size)
        self._at_end = not self._chunk

    def _next_chunk(self) -> None:
        """The next chunk in order, and its quotes."""
        self._close_chunk()
        self._offset += len(self._chunk)
        self._chunk = self._read_at(self._offset, self._chunk_size)
        self._at_end = not self._chunk
        if self._at_end and self._inside:
            raise OpenQuote(self._opened)
        self._toggles = None
        if b'"' in self._chunk:
            self._toggles = _toggles(self._chunk, self._inside, self._may_open, self._field_start)

    def _close_chunk(self) -> None:
        """Carry over what the chunk's end means for the next one."""
        if not self._chunk:
            return
        toggles, last = self._toggles, len(self._chunk) - 1
        was_inside, was_closed_last, self._closed_last = self._inside, self._closed_last, False
        if toggles is not None and toggles.size:
            self._inside ^= bool(toggles.size & 1)
            self._closed_last = not self._inside and int(toggles[-1]) == last
            if self._inside or self._closed_last:
                index = _opening(toggles, toggles.size - (1 if self._inside else 2))
                if index > 0 or (index == 0 and not was_inside and not (was_closed_last and toggles[0] == 0)):
                    self._opened = self._offset + int(toggles[index])
        self._may_open = self._closed_last or self._chunk[last] in self._field_start

    def _closing(self, place: int) -> int:
        """``place`` if it is outside of quotes, else where they close, at most the chunk's end."""
        toggles = self._toggles
        if toggles is None:
            return len(self._chunk) if self._inside else place
        index = int(toggles.searchsorted(place))
        if not self._inside ^ bool(index & 1):
            return place
        return int(toggles[index]) if index < toggles.size else len(self._chunk)


def _opening(toggles: NDArray[np.intp], index: int) -> int:
    """From a quote that opens a field, or goes on after a doubled one, back to the one that opened it.

    0 or below: it may have been opened before these.
    """
    while index >= 1 and toggles[index] - toggles[index - 1] == 1:
        index -= 2
    return index


def _toggles(chunk: bytes, inside: bool, may_open: bool, field_start: frozenset[int]) -> NDArray[np.intp]:
    """Places of the quotes that open or close a field, in turn."""
    import numpy as np

    data = np.frombuffer(chunk, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    opening = quotes[int(inside) :: 2]
    if not opening.size:
        return quotes
    before = data[opening - 1]
    is_right = before == _QUOTE  # by parity, that one closes: a doubled quote
    for byte in field_start:
        is_right |= before == byte
    if opening[0] == 0:
        is_right[0] = may_open
    wrong = np.flatnonzero(~is_right)
    if not wrong.size:
        return quotes
    first = int(inside) + 2 * int(wrong[0])
    rest = _toggles_one_by_one(chunk, quotes[first:].tolist(), int(quotes[first - 1]) if first else -2, field_start)
    return np.concatenate([quotes[:first], np.array(rest, np.intp)])


def _toggles_one_by_one(chunk: bytes, quotes: list[int], closed: int, field_start: frozenset[int]) -> list[int]:
    """The same for quotes of which the first stands outside, as an ordinary character."""
    toggles = []
    inside = False
    for place in quotes[1:]:
        if inside:
            closed = place
        elif not (chunk[place - 1] in field_start or place - 1 == closed):
            continue
        inside = not inside
        toggles.append(place)
    return toggles


def unclosed_in_line(data: bytes, separator: bytes) -> int | None:
    """Place of the first quote that is still open at the end of its line or of ``data``; None if there is none.

    ``data`` begins outside of quotes, at a line's beginning.
    """
    if b'"' not in data:
        return None
    import numpy as np

    toggles = _toggles(data, False, True, frozenset(b"\r\n" + separator))
    text = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero((text == 0x0A) | (text == 0x0D))
    passed = toggles.searchsorted(breaks)
    broken = passed[(passed & 1).astype(bool)]
    if broken.size:
        return int(toggles[_opening(toggles, int(broken[0]) - 1)])
    return int(toggles[_opening(toggles, toggles.size - 1)]) if toggles.size & 1 else None

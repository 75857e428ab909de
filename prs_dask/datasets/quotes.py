"""Which bytes of delimited text lie inside of quotes.

Quotes mean what they mean to Python's csv module, pandas and pyarrow: one opens a field only where a
field begins, a doubled one inside is literal, and one in the middle of an unquoted field is an
ordinary character.

Bytes are not looked at one by one. If each quote opens and closes in turn (parity), then the opening
ones must stand where a field begins, or directly behind the quote before them (a doubled one). Where that
holds, parity is exactly the csv rule. Both are found with a bit for each byte, 64 at a time: the
prefix XOR of the quotes' bits is the parity (Langdale and Lemire, "Parsing Gigabytes of JSON per
Second", 2019, section 3.1.1). Where it does not hold, the quotes of the chunk, from the first that breaks the
rule, are looked at one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CHUNK", "Quotes", "unclosed_in_line"]

CHUNK = 1 << 18
"""Bytes to look at in one go: what is made on the way fits into a processor's cache."""

_QUOTE, _NEWLINE, _RETURN = 0x22, 0x0A, 0x0D
_BYTE = b'"'
_SHIFTS = (1, 2, 4, 8, 16, 32)


class Quotes:
    """A text, chunk after chunk, and which bytes of the last chunk lie inside of quotes.

    Opening quotes count as inside, closing ones do not.

    Parameters
    ----------
    separator
        The byte between fields.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator[0]
        self._field_start = frozenset((self._separator, _NEWLINE, _RETURN))
        self._chunk = b""
        self._words: NDArray[np.uint64] | None = None  # None: all as the byte before the chunk
        self._inside_before = False
        self._closes_before = False
        self.opened = 0
        """Offset in the text of the quote that opened the field which the byte before the chunk is in, or closes."""
        self._offset = 0

    def next(self, chunk: bytes, offset: int) -> None:
        """Go on to the chunk at ``offset``, which follows the last one."""
        may_open = True
        if self._chunk:
            last = len(self._chunk) - 1
            ends_inside = self.ends_inside
            closes = not ends_inside and self._is_inside(last - 1)
            if ends_inside or closes:
                opening = self._opening(last if ends_inside else last - 1)
                self.opened = self.opened if opening is None else self._offset + opening
            self._inside_before, self._closes_before = ends_inside, closes
            may_open = closes or self._chunk[last] in self._field_start
        self._chunk, self._offset, self._words = chunk, offset, None
        if _BYTE in chunk:
            self._words = _inside(chunk, self._inside_before, may_open, self._separator)

    @property
    def ends_inside(self) -> bool:
        """Whether the chunk's last byte lies inside."""
        return self._is_inside(len(self._chunk) - 1)

    def closing(self, place: int) -> int:
        """``place``, within the chunk, if it lies outside, else where its field closes, at most the chunk's end."""
        if not self._is_inside(place):
            return place
        found = self._chunk.find(_BYTE, place)
        return found if found >= 0 else len(self._chunk)

    def unclosed_in_line(self) -> int | None:
        """Offset of the quote that opened the field of the first line break that lies inside; None if none does."""
        import numpy as np

        if self._words is None and not self._inside_before:
            return None
        data = np.frombuffer(self._chunk, np.uint8)
        breaks = _bits((data == _NEWLINE) | (data == _RETURN))
        if self._words is not None:
            breaks &= self._words
        words = np.flatnonzero(breaks)
        if not words.size:
            return None
        word = int(breaks[words[0]])
        opening = self._opening(int(words[0]) * 64 + (word & -word).bit_length() - 1)
        return self.opened if opening is None else self._offset + opening

    def _is_inside(self, place: int) -> bool:
        if self._words is None or place < 0:
            return self._inside_before
        return bool(int(self._words[place >> 6]) >> (place & 63) & 1)

    def _opening(self, place: int) -> int | None:
        """The quote that opened the field which holds the byte at ``place``; None: it stands before the chunk."""
        place = self._chunk.rfind(_BYTE, 0, place + 1)
        while place > 0 and self._chunk[place - 1] == _QUOTE:  # a doubled one: on to where that was opened
            place = self._chunk.rfind(_BYTE, 0, place - 1)
        return None if place < 0 or (place == 0 and self._closes_before) else place


def unclosed_in_line(data: bytes, separator: bytes) -> int | None:
    """Place of the first quote that is still open at the end of its line or of ``data``; None if there is none.

    ``data`` begins outside of quotes, at a line's beginning.
    """
    if _BYTE not in data:
        return None
    quotes = Quotes(separator)
    for start in range(0, len(data), CHUNK):
        quotes.next(data[start : start + CHUNK], start)
        place = quotes.unclosed_in_line()
        if place is not None:
            return place
    if not quotes.ends_inside:
        return None
    quotes.next(b"\n", len(data))
    return quotes.unclosed_in_line()


def _inside(chunk: bytes, inside: bool, may_open: bool, separator: int) -> NDArray[np.uint64]:
    """A bit for each byte of the chunk, the lowest first: inside or not.

    Parameters
    ----------
    inside
        Whether the byte before the chunk lies inside.
    may_open
        Whether a quote as its first byte would open a field, or go on with one after a doubled quote.
    """
    import numpy as np

    data = np.frombuffer(chunk, np.uint8)
    mask = data == _QUOTE
    quotes = _bits(mask)
    words = _prefix_xor(quotes, inside)
    mask |= data == separator
    mask |= data == _NEWLINE
    mask |= data == _RETURN
    right = _bits(mask)
    before = right << np.uint64(1)
    before[1:] |= right[:-1] >> np.uint64(63)
    before[0] |= np.uint64(may_open)
    if (quotes & words & ~before).any():
        return _prefix_xor(_bits(_one_by_one(data, inside, may_open, separator)), inside)
    return words


def _bits(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    import numpy as np

    packed = np.packbits(mask, bitorder="little")
    if packed.size % 8:
        packed = np.concatenate([packed, np.zeros(-packed.size % 8, np.uint8)])
    return packed.view("<u8")


def _prefix_xor(bits: NDArray[np.uint64], inside: bool) -> NDArray[np.uint64]:
    """For each bit the XOR of it and of all before it, and of ``inside``."""
    import numpy as np

    words = bits.copy()
    for shift in _SHIFTS:
        words ^= words << np.uint64(shift)
    carried = np.bitwise_xor.accumulate(words >> np.uint64(63))
    words[1:] ^= np.uint64(0) - carried[:-1]
    return ~words if inside else words


def _one_by_one(data: NDArray[np.uint8], inside: bool, may_open: bool, separator: int) -> NDArray[np.bool_]:
    """Which bytes are quotes that open or close a field."""
    import numpy as np

    quotes = np.flatnonzero(data == _QUOTE)
    before = data[quotes - 1]
    at_field_start = (before == separator) | (before == _NEWLINE) | (before == _RETURN)
    if quotes[0] == 0:
        at_field_start[0] = may_open
    toggles = []
    closed = -2
    for place, may in zip(quotes.tolist(), at_field_start.tolist(), strict=True):
        if inside:
            closed = place
        elif not (may or place - 1 == closed):
            continue
        inside = not inside
        toggles.append(place)
    mask = np.zeros(data.size, np.bool_)
    mask[toggles] = True
    return mask

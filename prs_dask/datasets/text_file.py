"""The text of one file, whatever its compression and encoding.

A plain file in an encoding where the bytes of line breaks, quotes and separators mean just
that (UTF-8, Latin-1 and the like) can be read from any place: ``PlainText``. Compressed text
and other encodings are read as one stream of UTF-8: ``open_stream``.
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prs_dask.stores import StorageOptions

__all__ = [
    "PlainText",
    "can_be_cut",
    "check_is_text",
    "compression_of",
    "decompressed",
    "is_cuttable",
    "open_stream",
    "to_utf8",
    "utf8_stream",
]

BOM = codecs.BOM_UTF8
_COMPRESSIONS = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
# None of these begins a text in UTF-8 (bzip2's mark could, as far as its fourth byte).
_NO_TEXT = {
    b"\x1f\x8b": "found gzip data; allowed: text, unless the file's name ends in .gz",
    b"\x28\xb5\x2f\xfd": "found zstd data; allowed: text, unless the file's name ends in .zst",
    b"\xfd7zXZ\0": "found xz data; allowed: text, unless the file's name ends in .xz",
    b"BZh91AY&SY": "found bzip2 data; allowed: text, unless the file's name ends in .bz2",
    b"PAR1": "found Parquet data; allowed: text",
    codecs.BOM_UTF16_LE: "found the byte order mark of UTF-16; allowed: UTF-8, unless encoding='utf-16'",
    codecs.BOM_UTF16_BE: "found the byte order mark of UTF-16; allowed: UTF-8, unless encoding='utf-16'",
}


def compression_of(path: str) -> str | None:
    """By the file's name: ``gz``, ``bz2``, ``xz``, ``zst`` or None."""
    return _COMPRESSIONS.get(os.path.splitext(path)[1].lower())


@lru_cache
def is_cuttable(encoding: str) -> bool:
    """Whether text in this encoding can be cut at a byte that looks like a line break.

    True for UTF-8, and for encodings with one byte per character that agree with ASCII.
    """
    if _is_utf8(encoding):
        return True
    ascii_bytes = bytes(range(128))
    try:
        one_each = len(bytes(range(256)).decode(encoding, "replace")) == 256
        return one_each and ascii_bytes.decode(encoding) == ascii_bytes.decode()
    except (UnicodeError, LookupError):
        return False


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def can_be_cut(path: str, encoding: str) -> bool:
    """Whether ranges of this file's bytes can be read on their own."""
    return compression_of(path) is None and is_cuttable(encoding)


def to_utf8(data: bytes, encoding: str) -> bytes:
    """Text as UTF-8; UTF-8 is given back as it is, and checked where it is parsed."""
    return data if _is_utf8(encoding) else data.decode(encoding).encode()


class PlainText:
    """A plain local file, read at any place.

    Parameters
    ----------
    path
        The file. Opened at once, closed at the end of the ``with`` block.
    """

    def __init__(self, path: str) -> None:
        # Without O_NONBLOCK, opening a pipe that took the file's place would wait for ever.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, fewer at the end only; of a file that grows, as it was when opened."""
        size = min(size, max(0, self.size - offset))
        data = os.pread(self._descriptor, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        have = len(data)
        while have < size and (data := os.pread(self._descriptor, size - have, offset + have)):
            pieces.append(data)
            have += len(data)
        return b"".join(pieces)

    def __enter__(self) -> PlainText:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def text_start(head: bytes) -> int:
    """Where a text with these first bytes begins: behind a byte order mark."""
    return len(BOM) if head.startswith(BOM) else 0


def check_is_text(head: bytes, encoding: str) -> None:
    """Raise ValueError if what is to be UTF-8 begins as only something else does."""
    if not _is_utf8(encoding):
        return
    for mark, what in _NO_TEXT.items():
        if head.startswith(mark):
            raise ValueError(what)


@contextmanager
def open_stream(path: str, options: StorageOptions | None = None) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed."""
    from prs_dask.datasets.source_file import open_bytes

    with open_bytes(path, options) as raw, decompressed(raw, compression_of(path)) as stream:
        yield stream


def decompressed(raw: IO[bytes], kind: str | None) -> Any:
    """A stream of what is packed in ``raw`` (``compression_of``), which is closed with it."""
    if kind == "gz":
        import gzip

        return gzip.open(raw)
    if kind == "bz2":
        import bz2

        return bz2.open(raw)
    if kind == "xz":
        import lzma

        return lzma.open(raw)
    if kind == "zst":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw), "zstd")
    return raw


def utf8_stream(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """The same text as UTF-8, without a byte order mark."""
    return io.BufferedReader(_Utf8(stream, encoding))


class _Utf8(io.RawIOBase):
    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decode = None if _is_utf8(encoding) else codecs.getincrementaldecoder(encoding)().decode
        self._rest = b""
        self._at_start = True
        self._at_end = False

    def readable(self) -> bool:
        return True

    def _more(self) -> None:
        data = self._stream.read(1 << 18)
        if self._at_start:
            check_is_text(data, self._encoding)
        self._at_end = not data
        self._rest += self._decode(data, not data).encode() if self._decode else data
        if self._at_start and (len(self._rest) >= len(BOM) or self._at_end):
            self._rest = self._rest.removeprefix(BOM)
            self._at_start = False

    def readinto(self, buffer: Any) -> int:
        while not self._at_end and (self._at_start or not self._rest):
            self._more()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

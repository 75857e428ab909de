"""What is in a file, packed or not: a secret in a gzip or zip file would not be found among its bytes.

Read by code that takes what is there: of files that were torn, by a kill or a full disk, as much as can be.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = ["contents"]

_GZIP, _ZIP_MEMBER = b"\x1f\x8b\x08", b"PK\x03\x04"
_WITH_GZIP_HEADER, _BARE = 31, -15
_STEP = 1 << 10


def contents(data: bytes) -> Iterator[bytes]:
    """The bytes themselves, and those of all members, where it is a gzip or zip file, and so on."""
    yield data
    members = _gzip_members(data) if data.startswith(_GZIP) else _zip_members(data)
    for member in members:
        yield from contents(member)


def _gzip_members(data: bytes) -> Iterator[bytes]:
    start = 0
    while start >= 0:  # members are looked for one by one: behind a torn one there may be others
        yield _inflated(data, start, _WITH_GZIP_HEADER)
        start = data.find(_GZIP, start + 1)


def _zip_members(data: bytes) -> Iterator[bytes]:
    start = data.find(_ZIP_MEMBER) if data.startswith(_ZIP_MEMBER) else -1
    while start >= 0:
        lengths = data[start + 26 : start + 30]
        if len(lengths) == 4:
            begin = start + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            yield _inflated(data, begin, _BARE)  # what is stored as it is, is found among the bytes of the file
        start = data.find(_ZIP_MEMBER, start + 1)


def _inflated(data: bytes, start: int, kind: int) -> bytes:
    unpacker, found = zlib.decompressobj(kind), bytearray()
    try:
        while start < len(data) and not unpacker.eof:
            found += unpacker.decompress(data[start : start + _STEP])
            start += _STEP
    except zlib.error:  # damaged from here on
        pass
    return bytes(found)

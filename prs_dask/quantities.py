"""Amounts as people write and read them: sizes, times and counts. Pure.

Units are powers of 1024: ``1KB`` is 1,024 bytes (behaviour, section 1.1).
"""

from __future__ import annotations

import re
from typing import NamedTuple, SupportsIndex

__all__ = [
    "MiniBatchSize",
    "format_bytes",
    "format_count",
    "format_rate",
    "format_seconds",
    "parse_memory_size",
    "parse_mini_batch_size",
]

LARGEST = 2**63 - 1

_POWER = {"": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4}
_MINI_BATCH = re.compile(r"([0-9]{1,19})(KB|MB|GB)?", re.IGNORECASE | re.ASCII)
_MEMORY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s?([KMGT])I?B", re.IGNORECASE | re.ASCII)


class MiniBatchSize(NamedTuple):
    """How much one ``run()`` call receives.

    Parameters
    ----------
    number
        Files of a FileDataset, stored bytes of a TabularDataset; at least 1.
    has_unit
        It was written with ``KB``, ``MB`` or ``GB``, so it can only mean bytes.
    """

    number: int
    has_unit: bool


def parse_mini_batch_size(value: object) -> MiniBatchSize:
    """Read ``10``, ``"1024"``, ``"1024KB"``, ``"10MB"`` or ``"1GB"``, in any case.

    Raises
    ------
    ValueError
        For everything else, for 0 and for more than 2**63 - 1.

    Examples
    --------
    >>> parse_mini_batch_size("2kb")
    MiniBatchSize(number=2048, has_unit=True)
    >>> parse_mini_batch_size(5).number
    5
    """
    if isinstance(value, str):
        match = _MINI_BATCH.fullmatch(value)
        if match is None:
            raise ValueError(f"not a mini-batch size: {value!r}")
        unit = (match[2] or "").upper()
        number, has_unit = int(match[1]) * 1024 ** _POWER[unit], bool(unit)
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ValueError(f"not a mini-batch size: {value!r}")
    else:
        number, has_unit = value.__index__(), False
    if not 1 <= number <= LARGEST:
        raise ValueError(f"a mini-batch size is at least 1: {value!r}")
    return MiniBatchSize(number, has_unit)


def parse_memory_size(value: object) -> int:
    """Read a number of bytes, or ``"512MB"``, ``"2GB"``, ``"1.5GiB"``, in any case, as bytes.

    Raises
    ------
    ValueError
        For everything else and for less than one byte.

    Examples
    --------
    >>> parse_memory_size("2GB")
    2147483648
    """
    if isinstance(value, str):
        match = _MEMORY.fullmatch(value)
        if match is not None:
            number = int(float(match[1]) * 1024 ** _POWER[match[2].upper() + "B"])
        elif re.fullmatch("[0-9]{1,19}", value, re.ASCII):
            number = int(value)
        else:
            raise ValueError(f"not an amount of memory: {value!r}")
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ValueError(f"not an amount of memory: {value!r}")
    else:
        number = value.__index__()
    if not 1 <= number <= LARGEST:
        raise ValueError(f"an amount of memory is at least one byte: {value!r}")
    return number


def format_bytes(number: float) -> str:
    """Bytes for people.

    Examples
    --------
    >>> format_bytes(512), format_bytes(1536), format_bytes(10 * 1024**3)
    ('512 bytes', '1.5 KB', '10.0 GB')
    """
    if abs(number) < 1024:
        return f"{number:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        number /= 1024
        if abs(number) < 1023.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:,.1f} TB"


def format_seconds(seconds: float) -> str:
    """A duration for people, in at most two units.

    Examples
    --------
    >>> format_seconds(0.0123), format_seconds(12.34), format_seconds(90), format_seconds(7384)
    ('12 ms', '12.3 s', '1 min 30 s', '2 h 3 min')
    >>> format_seconds(200_000)
    '2 d 7 h'
    """
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_count(number: int) -> str:
    """A count for people.

    Examples
    --------
    >>> format_count(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def format_rate(per_second: float) -> str:
    """A rate for people: by the second, or by the minute or hour where it is slow.

    Examples
    --------
    >>> format_rate(1234.5), format_rate(3.21), format_rate(0.5), format_rate(0.001)
    ('1,234/s', '3.2/s', '30.0/min', '3.6/h')
    """
    if per_second >= 99.95:
        return f"{per_second:,.0f}/s"
    if per_second >= 1 or per_second <= 0:
        return f"{max(per_second, 0):.1f}/s"
    if per_second >= 1 / 60:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second * 3600:.1f}/h"

"""Which hosts differ from this machine in what must be the same: one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Difference", "as_table", "differences"]

_PARTS = {"Python": 2, "numpy": 1, "pandas": 1}
"""Of whose versions only the first parts must be equal; those of the others wholly."""

_NOT_FOUND = "not installed"


class Difference(NamedTuple):
    """One line of the table."""

    host: str
    package: str
    found: str
    wanted: str


def differences(host: str, found: Mapping[str, str | None], here: Mapping[str, str | None]) -> list[Difference]:
    """What a host has other than this machine; an older Python, which cannot tell of packages, is told alone.

    >>> differences("node2", {"Python": "3.11.2", "dask": None}, {"Python": "3.11.7", "dask": "2026.8.0"})
    [Difference(host='node2', package='dask', found='not installed', wanted='2026.8.0')]
    """
    differ = []
    for package, version in here.items():
        parts = _PARTS.get(package)
        if package in found and _first(found[package], parts) != _first(version, parts):
            wanted = _first(version, parts) or _NOT_FOUND
            differ.append(Difference(host, package, found[package] or _NOT_FOUND, wanted))
    return differ


def _first(version: str | None, parts: int | None) -> str | None:
    return version and ".".join(version.split(".")[:parts])


def as_table(lines: Sequence[Difference]) -> str:
    """With a line of headings.

    >>> print(as_table([Difference("node2", "dask", "2026.7.1", "2026.8.0")]))
    host   package  found     wanted
    node2  dask     2026.7.1  2026.8.0
    """
    rows = [Difference._fields, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(Difference._fields))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

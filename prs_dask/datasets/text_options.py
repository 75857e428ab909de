"""Options of text files as users give them, checked all at once: what `ReadSpec` is made of. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

from prs_dask.datasets.cutting import FilesWithHeader
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.errors import Fault, SettingsError

__all__ = ["HEADER_WORDS", "delimited_spec", "json_lines_spec"]

_HEADERS: dict[object, FilesWithHeader] = {
    "all_files_same_headers": "each",
    "only_first_file": "first",
    "no_headers": "none",
}
HEADER_WORDS = {files: str(word) for word, files in _HEADERS.items()}
"""What ``header=`` was, by what became of it."""


def delimited_spec(
    separator: object, header: object, encoding: object, support_multi_line: object, dtype: Any, include_path: object
) -> tuple[ReadSpec, FilesWithHeader]:
    """How delimited text is read, and which of its files begin with a header.

    Raises
    ------
    SettingsError
        With a fault for each option that cannot work.
    """
    faults: list[Fault] = []
    if not isinstance(separator, str) or len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
        faults.append(Fault("separator", repr(separator), "one ASCII character, no quote or line break", "','"))
    if not isinstance(header, str) or header not in _HEADERS:
        faults.append(Fault("header", repr(header), ", ".join(map(repr, _HEADERS)), "'all_files_same_headers'"))
    if support_multi_line not in (True, False, "auto"):
        faults.append(Fault("support_multi_line", repr(support_multi_line), "True, False or 'auto'", "'auto'"))
    spec = ReadSpec(
        "delimited",
        str(separator),
        _encoding(encoding, faults),
        multi_line=support_multi_line is not False,
        dtype=_checked_dtype(dtype, faults),
        include_path=_flag("include_path", include_path, faults),
    )
    if faults:
        raise SettingsError(faults)
    return spec, _HEADERS[header]


def json_lines_spec(encoding: object, include_path: object) -> ReadSpec:
    """How JSON Lines are read; SettingsError where an option cannot work."""
    faults: list[Fault] = []
    included = _flag("include_path", include_path, faults)
    spec = ReadSpec("json_lines", encoding=_encoding(encoding, faults), include_path=included)
    if faults:
        raise SettingsError(faults)
    return spec


def _flag(name: str, value: object, faults: list[Fault]) -> bool:
    if not isinstance(value, bool):
        faults.append(Fault(name, repr(value), "True or False", f"{name}=True"))
    return bool(value)


def _encoding(encoding: Any, faults: list[Fault]) -> str:
    try:
        info = codecs.lookup(encoding)
        "".encode(encoding)  # refuses what is no text encoding (base64, rot13)
    except (LookupError, TypeError):
        faults.append(Fault("encoding", repr(encoding), "a text encoding that Python knows", "'utf8'"))
        return "utf-8"
    return info.name


def _checked_dtype(dtype: Any, faults: list[Fault]) -> Any:
    if dtype is None:
        return None
    from pandas.api.types import pandas_dtype

    for name, kind in dtype.items() if isinstance(dtype, Mapping) else [("all columns", dtype)]:
        try:
            pandas_dtype(kind)
        except TypeError:
            faults.append(Fault("dtype", f"{kind!r} for {name}", "what pandas takes as a dtype", "{'id': 'str'}"))
    return dict(dtype) if isinstance(dtype, Mapping) else dtype

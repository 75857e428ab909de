"""The folders of hive keys: their names, and the texts of values in them.

What ``path_format`` reads. ``/`` and other characters that mean something to file systems, stores
or shells are written as ``%XX``; an empty text is an empty text, a missing value ``MISSING``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from numbers import Integral, Real
from typing import Any

from prs_dask.datasets.path_format import MISSING

__all__ = ["Unwritable", "folder_name", "kind_of_values", "text_of"]

_ESCAPED = re.compile(r"""[\x00-\x1f"#%'*/:=?\\\x7f{}\[\]^]""")
_LONGEST = 255
_ALLOWED = "whole numbers, floats, truth values, texts, dates, or dates with times to the microsecond"


class Unwritable(ValueError):
    """A value that no folder can stand for."""


def kind_of_values(values: Iterable[Any]) -> str | None:
    """The type of a key with these values, as in ``key_types``; None where there are none.

    Raises
    ------
    Unwritable
        Values of other types, or of several.
    """
    kinds = {_kind(value) for value in values}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) > 1:
        raise Unwritable(f"found {' and '.join(sorted(kinds))} in one column; allowed: values of one type")
    return next(iter(kinds), None)


def _kind(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return "bool"
    if isinstance(value, Integral):
        return "int"
    if isinstance(value, Real):
        return "float"
    if isinstance(value, str):
        return "str"
    if isinstance(value, datetime):
        return "datetime"
    if isinstance(value, date):
        return "date"
    raise Unwritable(f"found {type(value).__name__}; allowed: {_ALLOWED}")


def text_of(value: Any, kind: str) -> str:
    """The text from which ``typed`` makes the value again."""
    if kind == "int":
        return str(int(value))
    if kind == "float":
        return repr(float(value))
    if kind == "bool":
        return str(bool(value))
    if kind == "str":
        return str(value)
    if getattr(value, "nanosecond", 0):
        raise Unwritable(f"found {value}; allowed: {_ALLOWED}")
    return str((value.to_pydatetime() if hasattr(value, "to_pydatetime") else value).isoformat())


def folder_name(key: str, text: str | None) -> str:
    """``key=value``; a name that would be hidden, or taken for a missing value, is escaped too.

    >>> folder_name("Brand", "a/b"), folder_name("_x", None)
    ('Brand=a%2Fb', '%5Fx=__HIVE_DEFAULT_PARTITION__')
    """
    name = _escaped(key)
    name = _percent(name[0]) + name[1:] if name[0] in "._" else name
    value = MISSING if text is None else _escaped(text)
    if text == MISSING:
        value = _percent(value[0]) + value[1:]
    folder = f"{name}={value}"
    try:
        length = len(folder.encode())
    except UnicodeEncodeError:
        raise Unwritable(f"found {text!r}; allowed: texts that UTF-8 can hold") from None
    if length > _LONGEST:
        raise Unwritable(f"found {text!r:.80}, which makes a folder's name of {length} bytes; allowed: {_LONGEST}")
    return folder


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _percent(found[0]), text)


def _percent(character: str) -> str:
    return f"%{ord(character):02X}"

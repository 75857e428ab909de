"""Types of partition keys: what the texts in paths mean.

A key is a number where all of its texts are, and each just as Python writes that number: ``7`` is
an int and ``1.5`` a float, ``007``, ``1.50`` and ``+1`` stay text. So two texts never become one
value, and no text is lost: a key of versions with ``1.1`` and ``1.10`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Any, TypeAlias

__all__ = ["KeyText", "key_type", "typed"]

KeyText: TypeAlias = str | datetime | None
"""A key's value as its path tells it; None: a missing value (hive)."""

_INT = re.compile(r"-?[1-9][0-9]{0,18}|0")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?")
_INT64 = range(-(1 << 63), 1 << 63)
_INFINITE = ("inf", "-inf")
_TRUTH = {"True": True, "False": False}


def key_type(texts: Collection[KeyText]) -> str:
    """The type of a key: ``int``, ``float``, ``datetime`` or ``str``, decided over all of its texts.

    Missing values fit every type.

    >>> key_type({"1", "20"}), key_type({"1", "1.5"}), key_type({"1", "007"})
    ('int', 'float', 'str')
    """
    given = [text for text in texts if text is not None]
    plain = [text for text in given if isinstance(text, str)]
    if len(plain) < len(given):
        return "datetime"
    if not plain:
        return "str"
    if all(map(_is_int, plain)):
        return "int"
    if all(_is_int(text) or _is_float(text) for text in plain) and _distinct(plain):
        return "float"
    return "str"


def typed(text: KeyText, kind: str) -> Any:
    """The value that a text means in a key of type ``kind``; the text itself where it does not fit.

    Parameters
    ----------
    kind
        ``int``, ``float``, ``str``, ``bool``, ``date`` or ``datetime``.
    """
    if text is None or isinstance(text, datetime) or kind == "str":
        return text
    try:
        if kind == "int":
            return int(text) if _is_int(text) else text
        if kind == "float":
            return float(text) if _is_int(text) or _is_float(text) or text in _INFINITE else text
        if kind == "date":
            return date.fromisoformat(text)
        if kind == "datetime":
            return datetime.fromisoformat(text)
    except ValueError:
        return text
    return _TRUTH.get(text, text)


def _is_int(text: str) -> bool:
    return _INT.fullmatch(text) is not None and int(text) in _INT64


def _is_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None and repr(float(text)) == text


def _distinct(texts: Iterable[str]) -> bool:
    """Whether different texts are different numbers: large integers may not be, as floats."""
    different = set(texts)
    return len({float(text) for text in different}) == len(different)

"""Types of partition keys: what the texts in paths mean.

A key is a number where all of its texts are, and each just as Python writes that number: ``7`` is
an int and ``1.5`` a float, ``007``, ``1.50`` and ``+1`` stay text. So two texts never become one
value, and no text is lost: a key of versions with ``1.1`` and ``1.10`` is text.

The type is decided from the forms of the texts alone, so a million files can be looked at one
after the other without keeping their texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

__all__ = ["Form", "KeyText", "form", "key_type", "type_of_forms", "typed"]

KeyText: TypeAlias = str | datetime | None
"""A key's value as its path tells it; None: a missing value (hive)."""

_INT = re.compile(r"-?[1-9][0-9]{0,19}|0")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?")
_INT64 = range(-(1 << 63), 1 << 63)
_INT_OR_UINT64 = range(-(1 << 63), 1 << 64)
_EXACT_AS_FLOAT = range(-(1 << 53), (1 << 53) + 1)
_TRUTH = {"True": True, "False": False}
_INFINITE = ("inf", "-inf")


class Form(IntEnum):
    """What a text alone could be."""

    MISSING = 0
    INT = 1
    LONG_INT = 2
    """As a float it might not be told from its neighbour."""
    FRACTION = 3
    WHOLE_FLOAT = 4
    """``1.0``: among ints it might be one of them."""
    DATETIME = 5
    TEXT = 6


_INTS = {Form.INT, Form.LONG_INT}
_FLOATS = {Form.FRACTION, Form.WHOLE_FLOAT}
_INTS_AND_FLOATS = {Form.INT, Form.FRACTION}


@lru_cache(maxsize=4096)
def form(text: KeyText) -> Form:
    """What a text alone could be."""
    if text is None:
        return Form.MISSING
    if isinstance(text, datetime):
        return Form.DATETIME
    if _INT.fullmatch(text) and (number := int(text)) in _INT64:
        return Form.INT if number in _EXACT_AS_FLOAT else Form.LONG_INT
    if _FLOAT.fullmatch(text) and repr(float(text)) == text and text != "-0.0":
        return Form.WHOLE_FLOAT if float(text).is_integer() else Form.FRACTION
    return Form.TEXT


_FORM_OF_TYPE = {"int": Form.INT, "float": Form.FRACTION, "datetime": Form.DATETIME, "str": Form.TEXT}


def type_of_forms(forms: AbstractSet[Form], before: str | None = None) -> str:
    """The one type for a key whose texts have these forms: ``int``, ``float``, ``datetime`` or ``str``.

    Parameters
    ----------
    before
        The type of texts that were there before and count too, of which some may be gone; None: there were none.
    """
    given = forms - {Form.MISSING}
    if before in _FORM_OF_TYPE:
        given |= {_FORM_OF_TYPE[before]}
    if not given:
        return "str"
    if given <= _INTS:
        return "int"
    if given <= _FLOATS or given <= _INTS_AND_FLOATS:
        return "float"
    return "datetime" if given == {Form.DATETIME} else "str"


def key_type(texts: Iterable[KeyText]) -> str:
    """The type of a key, decided over all of its texts; missing values fit every type.

    >>> key_type(["1", "20"]), key_type(["1", "1.5"]), key_type(["1", "007"])
    ('int', 'float', 'str')
    """
    return type_of_forms(set(map(form, texts)))


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
            return int(text) if _INT.fullmatch(text) and int(text) in _INT_OR_UINT64 else text
        if kind == "float":
            return float(text) if form(text) in _INTS | _FLOATS or text in (*_INFINITE, "-0.0") else text
        if kind == "date":
            return date.fromisoformat(text)
        if kind == "datetime":
            return datetime.fromisoformat(text)
    except ValueError:
        return text
    return _TRUTH.get(text, text)

"""The arguments of ``DataFrame.to_csv`` that an output may set.

They come from ``append_row_format`` and from ``parallel_run_step.settings.json``. Those that
name the target, its compression or its encoding are the engine's own: the output is one UTF-8 file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prs_dask.config.refused import Refused

__all__ = ["ROW_FORMAT_ARGUMENTS", "parse_row_format"]


def _character(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and value not in "\r\n\0"


def _text(value: object) -> bool:
    return isinstance(value, str)


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _names(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) > 0


def _or(*checks: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: any(check(value) for check in checks)


def _none(value: object) -> bool:
    return value is None


ROW_FORMAT_ARGUMENTS: Mapping[str, Callable[[object], bool]] = {
    "sep": _character,
    "na_rep": _text,
    "float_format": _or(_none, _text),
    "columns": _or(_none, _names),
    "header": _or(_boolean, _names),
    "index": _boolean,
    "index_label": _or(_none, _text, _names, _boolean),
    "quoting": lambda value: value in (0, 1, 2, 3) and not isinstance(value, bool),
    "quotechar": _character,
    "lineterminator": lambda value: value in ("\n", "\r\n"),
    "date_format": _or(_none, _text),
    "doublequote": _boolean,
    "escapechar": _or(_none, _character),
    "decimal": _character,
}


def parse_row_format(value: object) -> dict[str, Any]:
    """Check a mapping of ``DataFrame.to_csv`` arguments.

    Raises
    ------
    ValueError
        For an argument that is not known, or has a value that ``to_csv`` would refuse.

    Examples
    --------
    >>> parse_row_format({"sep": ",", "index": True})
    {'sep': ',', 'index': True}
    """
    if not isinstance(value, Mapping):
        raise ValueError
    unknown = [str(name) for name in value if name not in ROW_FORMAT_ARGUMENTS]
    if unknown:
        raise Refused(f"where {', '.join(unknown)} is not among the arguments that can be set")
    bad = [name for name, argument in value.items() if not ROW_FORMAT_ARGUMENTS[name](argument)]
    if bad:
        raise Refused(f"where {', '.join(bad)} has a value that to_csv does not take")
    if value.get("quoting") == 3 and not value.get("escapechar"):
        raise Refused("where quoting=3 (none) lacks an escapechar")
    return dict(value)

"""Changes of columns that an MLTable file asks for, made to each mini-batch after it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.errors import ReadError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnChange", "changed"]

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class ColumnChange(NamedTuple):
    """One change.

    Parameters
    ----------
    kind
        ``"keep"``, ``"drop"``, ``"datetime"``, or a pandas dtype.
    columns
        Names; with ``"keep"`` also their order.
    formats
        Of ``"datetime"``, in the order in which they are tried.
    """

    kind: str
    columns: tuple[str, ...]
    formats: tuple[str, ...] = ()


def changed(frame: pd.DataFrame, changes: tuple[ColumnChange, ...], where: str) -> pd.DataFrame:
    """The frame after all changes, in their order.

    Raises
    ------
    ReadError
        A column is missing, or has a value that its new type cannot hold; names ``where``.
    """
    for change in changes:
        missing = [name for name in change.columns if name not in frame]
        if missing:
            known = ", ".join(map(str, frame.columns))
            raise ReadError(f"{where}: found no column {missing[0]!r}; there are: {known}")
        if change.kind == "keep":
            frame = frame[list(change.columns)]
        elif change.kind == "drop":
            frame = frame.drop(columns=list(change.columns))
        else:
            for name in change.columns:
                frame[name] = _converted(frame[name], change, where)
    return frame


def _converted(column: pd.Series[Any], change: ColumnChange, where: str) -> pd.Series[Any]:
    convert = _CONVERSIONS.get(change.kind, _to_dtype)
    try:
        found = convert(column, change)
        wrong = column[found.isna() & column.notna()]
        if not len(wrong):
            return found
        problem = f"found {wrong.iloc[0]!r}"
    except (ValueError, TypeError) as error:
        problem = str(error)
    wanted = f"a date like {' or '.join(change.formats)}" if change.formats else change.kind
    raise ReadError(f"{where}: column {column.name!r}: {problem}; allowed: {wanted}")


def _to_dtype(column: pd.Series[Any], change: ColumnChange) -> pd.Series[Any]:
    kind: Any = change.kind
    found: pd.Series[Any] = column.astype(kind)
    return found


def _to_number(column: pd.Series[Any], change: ColumnChange) -> pd.Series[Any]:
    import pandas as pd

    # Nullable all the way: through float64 large integers would lose digits.
    return _to_dtype(pd.to_numeric(column, dtype_backend="numpy_nullable"), change)


def _to_boolean(column: pd.Series[Any], change: ColumnChange) -> pd.Series[Any]:
    if column.dtype.kind in "biu":
        return column.astype("boolean")
    text = column.astype("string").str.strip().str.lower()
    return text.map({**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}).astype("boolean")


def _to_datetime(column: pd.Series[Any], change: ColumnChange) -> pd.Series[Any]:
    import pandas as pd

    found = pd.to_datetime(column, format=change.formats[0], errors="coerce")
    for one in change.formats[1:]:
        found = found.fillna(pd.to_datetime(column, format=one, errors="coerce"))
    return found


_CONVERSIONS: dict[str, Callable[[pd.Series[Any], ColumnChange], pd.Series[Any]]] = {
    "Int64": _to_number,
    "float64": _to_number,
    "boolean": _to_boolean,
    "datetime": _to_datetime,
}

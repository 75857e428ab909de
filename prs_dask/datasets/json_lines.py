"""JSON Lines: one object per line, in the worker process.

Values keep the type JSON gives them: no text becomes a date or a number. The columns of the
dataset's head come first, in their order, in every mini-batch; a field that is missing there is a missing
value. A column has its type in the head wherever its values fit; where they do not, it has its own there,
which is logged once per column.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.misfits import tell_misfit
from prs_dask.datasets.read_spec import ReadError, ReadSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["infer_types", "parse"]

_BOM = "\ufeff"
_EXACT = 1 << 53  # whole numbers up to here are exact as float64
_KNOWN = ("bool", "int64", "uint64", "float64", "str")


def parse(data: bytes, path: str, first_line: Any, spec: ReadSpec) -> pd.DataFrame:
    """The rows of whole lines.

    Parameters
    ----------
    data
        UTF-8, blank lines allowed.
    first_line
        Called for the number of the first line within its file, for messages.
    """
    import pandas as pd

    frame = _frame(data, path, first_line)
    columns = {name: _as_in_head(frame, name, kind, path) for name, kind in spec.column_types}
    columns |= {name: frame[name] for name in frame.columns if name not in columns}
    return pd.DataFrame(columns, index=frame.index)


def _as_in_head(frame: pd.DataFrame, name: str, kind: Any, path: str) -> pd.Series[Any]:
    """A column with its type in the dataset's head, where it fits."""
    import pandas as pd

    column = frame[name] if name in frame else pd.Series(index=frame.index, dtype="float64")
    if str(column.dtype) == kind or kind == "object":
        return column.astype(kind)
    there = column.dropna()
    if there.empty:
        return column.astype("str" if kind == "str" else "float64")
    if len(there) == len(column):
        if _keeps_values(column, kind):
            return column.astype(kind)
    elif _is_with_missing_ones(there, kind):
        return column
    tell_misfit(path, name, kind, str(column.dtype))
    return column


def _keeps_values(column: pd.Series[Any], kind: Any) -> bool:
    """Whether whole numbers are the same in a wider type."""
    if column.dtype.kind not in "iu" or kind not in ("uint64", "float64"):
        return False
    if kind == "uint64":
        return bool((column >= 0).all())
    return bool(column.between(-_EXACT, _EXACT).all())


def _is_with_missing_ones(there: pd.Series[Any], kind: str) -> bool:
    """Whether a column with missing values, of which ``there`` are not, is what pandas makes of that type then."""
    if kind in ("int64", "uint64"):
        return there.dtype.kind == "f" and bool((there % 1 == 0).all())
    return kind == "bool" and all(isinstance(value, bool) for value in there)


def infer_types(data: bytes, path: str) -> tuple[tuple[str, str], ...]:
    """Names and types of the columns in ``data``; of what is neither number, truth value nor text, ``object``."""

    frame = _frame(data, path, lambda: 1)
    return tuple((str(name), str(kind) if str(kind) in _KNOWN else "object") for name, kind in frame.dtypes.items())


def _frame(data: bytes, path: str, first_line: Any) -> pd.DataFrame:
    import pandas as pd

    rows = _objects(data, path, first_line)
    try:
        frame = pd.DataFrame.from_records(rows)
    except UnicodeEncodeError as error:  # JSON can spell half of a character
        raise ReadError(f"{path}, from line {first_line()} on: found text that is not Unicode: {error}") from None
    return frame if len(frame) == len(rows) else pd.DataFrame(index=range(len(rows)))  # objects with nothing in them


def _objects(data: bytes, path: str, first_line: Any) -> list[dict[str, Any]]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = first_line() + data.count(b"\n", 0, error.start)
        raise ReadError(f"{path}, line {line}: not UTF-8 text: {error}; set encoding= to the file's own") from None
    rows = []
    for index, line in enumerate(text.split("\n")):
        if not line.strip(" \t\r"):
            continue
        try:
            row = json.loads(line.removeprefix(_BOM))  # of files that were put together
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else f"not JSON: {error}"
            raise ReadError(f"{path}, line {first_line() + index}: {reason}") from None
        if not isinstance(row, dict):
            found = type(row).__name__
            raise ReadError(f"{path}, line {first_line() + index}: found {found}; allowed: one object per line")
        rows.append(row)
    return rows

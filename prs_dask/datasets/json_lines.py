"""JSON Lines: one object per line, in the worker process.

Values keep the type JSON gives them: no text becomes a date or a number. The columns of the
dataset's head come first, in their order, in every mini-batch; a field that is missing there is a missing value.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.read_spec import ReadError, ReadSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["infer_types", "parse"]

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

    frame = pd.DataFrame.from_records(_objects(data, path, first_line))
    columns = {name: _as_in_head(frame, name, kind) for name, kind in spec.column_types}
    columns |= {name: frame[name] for name in frame.columns if name not in columns}
    return pd.DataFrame(columns, index=frame.index)


def _as_in_head(frame: pd.DataFrame, name: str, kind: str) -> pd.Series[Any]:
    """A column with its type in the dataset's head, where it fits."""
    import pandas as pd

    if name not in frame:
        missing = "float64" if kind in ("bool", "int64", "uint64") else kind
        return pd.Series(index=frame.index, dtype=missing)
    column = frame[name]
    return column.astype("float64") if kind == "float64" and column.dtype.kind in "iu" else column


def infer_types(data: bytes, path: str) -> tuple[tuple[str, str], ...]:
    """Names and types of the columns in ``data``; of what is neither number, truth value nor text, ``object``."""
    import pandas as pd

    frame = pd.DataFrame.from_records(_objects(data, path, lambda: 1))
    return tuple((str(name), str(kind) if str(kind) in _KNOWN else "object") for name, kind in frame.dtypes.items())


def _objects(data: bytes, path: str, first_line: Any) -> list[dict[str, Any]]:
    rows = []
    for index, line in enumerate(data.split(b"\n")):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ReadError(f"{path}, line {first_line() + index}: not JSON: {error}") from None
        if not isinstance(row, dict):
            found = type(row).__name__
            raise ReadError(f"{path}, line {first_line() + index}: found {found}; allowed: one object per line")
        rows.append(row)
    return rows

"""The columns of partition keys in a table: last, and made from the file's path alone."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.key_types import typed
from prs_dask.datasets.path_format import KeysNotFound, PathFormat, TextsOf
from prs_dask.datasets.read_spec import ReadError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["add_key_columns"]

_DTYPES = {"int": "int64", "float": "float64", "str": "str", "bool": "bool", "datetime": "datetime64[us]"}
_WITH_MISSING = {"int": "float64", "float": "float64", "str": "str", "datetime": "datetime64[us]"}
_WITHOUT_MISSING = ("int", "uint", "bool")


def add_key_columns(frame: pd.DataFrame, path: str, path_format: PathFormat, types: tuple[str, ...]) -> pd.DataFrame:
    """``frame`` with a column for each key, the same value in every row.

    A column of the file's own with the name of a hive folder's key gives way to the key, as in pyarrow.

    Parameters
    ----------
    types
        Of the keys, decided over all files; empty: those of ``path_format``.

    Raises
    ------
    ReadError
        The path does not have the keys, or the file has a column with the name of a key of the template.
    """
    own = [key for key in path_format.keys if key in frame.columns]
    if own and path_format.template is not None:
        raise ReadError(
            f"{path}: has a column {own[0]!r} of its own, and partition_format {path_format.template!r} "
            "has a key of that name; rename the key"
        )
    try:
        texts = _texts_of(path_format)(path)
    except KeysNotFound as error:
        raise ReadError(str(error)) from None
    frame = frame.drop(columns=own)
    types = types or path_format.types
    for place, (key, text) in enumerate(zip(path_format.keys, texts, strict=True)):
        value = typed(text, types[place])
        fits = value is None or type(value).__name__ == types[place]
        frame[key] = _column(
            value, path_format.dtypes[place] if path_format.dtypes and fits else "", frame, types[place]
        )
    return frame


@lru_cache(maxsize=16)
def _texts_of(path_format: PathFormat) -> TextsOf:
    return path_format.texts_of()


def _column(value: Any, dtype: str, frame: pd.DataFrame, kind: str) -> pd.Series[Any]:
    import pandas as pd

    if value is None and (not dtype or dtype.startswith(_WITHOUT_MISSING)):
        # As pandas has a missing value among values of this type.
        dtype = _WITH_MISSING.get(kind, "object")
    if not dtype:
        is_long = isinstance(value, int) and value >= 1 << 63
        dtype = "uint64" if is_long else _DTYPES.get(type(value).__name__, "object")
    return pd.Series(value, index=frame.index, dtype=dtype)

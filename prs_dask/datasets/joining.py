"""The tables of several files as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prs_dask.datasets.read_spec import Kind, ReadError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["joined"]


def joined(frames: Sequence[pd.DataFrame], paths: Sequence[str], kind: Kind, last: Sequence[str] = ()) -> pd.DataFrame:
    """All rows, one file's after the other's. A file without rows says nothing of columns and types.

    Parameters
    ----------
    paths
        The files, for messages.
    kind
        What the files are.
    last
        The columns that stay the last ones, whatever columns the files have.

    Raises
    ------
    ReadError
        Two files have different columns; in JSON Lines a column that a file lacks is a missing value.
    """
    import pandas as pd

    with_rows = [(frame, path) for frame, path in zip(frames, paths, strict=True) if len(frame)]
    if not with_rows:
        return max(frames, key=lambda frame: len(frame.columns))
    first, first_path = with_rows[0]
    for frame, path in with_rows[1:]:
        if kind != "json_lines" and (different := set(frame.columns) ^ set(first.columns)):
            names = ", ".join(sorted(map(str, different))[:8])
            raise ReadError(f"{path} and {first_path}, of one mini-batch, have different columns: {names}")
    found = [frame for frame, _ in with_rows]
    if len(found) == 1:
        return first
    whole = pd.concat(_with_common_categories(found), ignore_index=True)
    if list(whole.columns) == list(first.columns):
        return whole
    own = [name for name in whole.columns if name not in last]
    return whole[own + [name for name in last if name in whole]]


def _with_common_categories(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The same; a column that is categorical in all of them has the categories of all, so that it stays so."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    for name in frames[0].columns:
        dtypes = [frame[name].dtype for frame in frames if name in frame]
        if len(dtypes) < len(frames) or not all(isinstance(dtype, pd.CategoricalDtype) for dtype in dtypes):
            continue
        if all(dtype == dtypes[0] for dtype in dtypes):
            continue
        try:
            common = union_categoricals([frame[name] for frame in frames], ignore_order=True).categories
        except TypeError:  # categories of different types have none in common
            continue
        for frame in frames:
            frame[name] = frame[name].cat.set_categories(common)
    return frames

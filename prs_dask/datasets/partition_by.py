"""A table written as Parquet, in a folder for each combination of some of its columns.

Each partition of a Dask DataFrame is written by itself, without a shuffle: a combination has a file for
each partition in which it occurs. All is written beside the target, which gets its name by
one rename in the end. ``KEYS_FILE`` tells the dtypes of the keys, which folders cannot.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.datasets.key_folders import Unwritable, folder_name, kind_of_values, text_of
from prs_dask.datasets.path_keys import KEYS_FILE
from prs_dask.datasets.read_spec import ReadError
from prs_dask.errors import Fault, InputError, OutputError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from prs_dask.datasets.tabular_dataset import TabularDataset

__all__ = ["write_partitioned"]

PARTITION_BYTES = 64 << 20
"""Stored bytes of the table that are in memory at once, in each thread."""


class Written(NamedTuple):
    """What became of one partition.

    Parameters
    ----------
    rows, files
        How many.
    keys
        (type, pandas dtype) of each key; type None where all its values are missing.
    """

    rows: int
    files: int
    keys: tuple[tuple[str | None, str], ...]


def write_partitioned(dataset: TabularDataset, keys: Sequence[str], target: str | os.PathLike[str]) -> str:
    """Write the table; gives the target's absolute path. See ``TabularDataset.partition_by``."""
    faults = _key_faults(keys)
    folder = os.path.abspath(os.path.expanduser(os.fspath(target)))
    if "://" in os.fspath(target):
        found = f"a {os.fspath(target).partition('://')[0]}:// URL"
        faults.append(Fault("target", found, "a local folder, which can be copied to a store afterwards"))
    else:
        faults += _target_faults(folder)
    if faults:
        raise SettingsError(faults)
    dataset.check()
    frame = dataset.to_dask(PARTITION_BYTES)
    columns = list(frame.columns)
    if unknown := [key for key in keys if key not in columns]:
        known = ", ".join(map(str, columns))
        raise InputError(Fault("partition_keys", repr(key), known or "a table with columns") for key in unknown)
    if set(columns) <= set(keys):
        allowed = "at least one column that is no key: files without columns would hold no rows"
        raise InputError([Fault("partition_keys", f"all columns of the table: {', '.join(keys)}", allowed)])
    return _written(frame.to_delayed(), tuple(keys), folder)


def _key_faults(keys: Sequence[str]) -> list[Fault]:
    allowed, example = "a list of different column names, at least one", 'partition_by(["store"], "by_store")'
    right = not isinstance(keys, str) and len(keys) > 0 and all(isinstance(key, str) and key for key in keys)
    if right and len(set(keys)) == len(keys):
        return []
    return [Fault("partition_keys", repr(keys), allowed, example)]


def _target_faults(folder: str) -> list[Fault]:
    if os.path.isdir(folder):
        if os.listdir(folder):
            return [Fault("target", f"{folder!r}, which is not empty", "a new or empty folder", "another target")]
    elif os.path.lexists(folder):
        return [Fault("target", f"{folder!r}, which is no folder", "a new or empty folder", "another target")]
    return []


def _written(partitions: Iterable[Any], keys: tuple[str, ...], folder: str) -> str:
    from dask.base import compute
    from dask.delayed import delayed

    parent, name = os.path.split(folder)
    staging = os.path.join(parent, f".{name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        os.makedirs(parent, exist_ok=True)
        os.mkdir(staging)
    except OSError as error:
        raise OutputError([Fault("target", f"{folder!r}: {error.strerror}", "a folder that can be written")]) from error
    try:
        write = delayed(_write, pure=False)
        tasks = [write(partition, number, staging, keys) for number, partition in enumerate(partitions)]
        done: tuple[Written, ...] = compute(*tasks)
        if not any(one.rows for one in done):
            raise InputError([Fault("partition_by", "a table without rows", "at least one row")])
        files = sum(len(names) for _, _, names in os.walk(staging))
        if files != sum(one.files for one in done):
            found = f"{files} files in {parent!r}, where the workers have written {sum(one.files for one in done)}"
            raise OutputError([Fault("target", found, "a folder that driver and workers share")])
        with open(os.path.join(staging, KEYS_FILE), "w", encoding="utf-8") as file:
            json.dump({"partition_keys": [_described(key, done, n) for n, key in enumerate(keys)]}, file, indent=1)
        _rename(staging, folder)
    except BaseException:
        _remove(staging)
        raise
    return folder


def _remove(staging: str) -> None:
    """Away from under tasks that still write: they find no folder of that name any more."""
    with suppress(OSError):
        os.rename(staging, f"{staging}.gone")
    shutil.rmtree(f"{staging}.gone", ignore_errors=True)


def _rename(staging: str, folder: str) -> None:
    try:
        os.rename(staging, folder)
    except OSError as error:
        found = f"{folder!r}: {error.strerror}, at the end"
        raise OutputError([Fault("target", found, "a new or empty folder", "another target")]) from error


def _described(key: str, done: Sequence[Written], place: int) -> dict[str, str]:
    """Type and dtype of a key, from those of all partitions; they may differ where types were inferred."""
    import pandas as pd

    found = {one.keys[place] for one in done if one.rows}
    with_values = {(kind, dtype) for kind, dtype in found if kind is not None} or found
    kinds, dtypes = {kind for kind, _ in with_values}, {dtype for _, dtype in with_values}
    kind = kinds.pop() if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "str"
    if len(dtypes) == 1:
        dtype = dtypes.pop()
    elif kinds and kind == "str":
        dtype = "str"
    else:
        dtype = str(pd.concat([pd.Series(dtype=one) for one in sorted(dtypes)]).dtype)
    return {"name": key, "type": kind or "str", "dtype": dtype}


# -------------------------------------------------------------------- in a task


def _write(frame: pd.DataFrame, number: int, staging: str, keys: tuple[str, ...]) -> Written:
    """Write a partition. A task that is run again writes the same files again."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if frame.empty:
        return Written(0, 0, ())
    if lacking := [key for key in keys if key not in frame]:
        raise ReadError(f"rows without a column {lacking[0]!r}, in partition {number} of the table")
    described, texts, codes = [], [], []
    for key in keys:
        own_codes, kind, own_texts = _coded(frame[key], key, number)
        described.append((kind, str(frame[key].dtype)))
        texts.append(own_texts)
        codes.append(own_codes)
    combination = pd.DataFrame(dict(enumerate(codes))).groupby(list(range(len(keys))), sort=False).ngroup().to_numpy()
    order = np.argsort(combination, kind="stable")
    rest = frame.drop(columns=list(keys)).iloc[order]
    try:
        table = pa.Table.from_pandas(rest, preserve_index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise ReadError(f"partition {number} of the table cannot be written as Parquet: {error}") from None
    edges = [0, *(np.flatnonzero(np.diff(combination[order])) + 1).tolist(), len(order)]
    for start, stop in pairwise(edges):
        row = order[start]
        names = [of_key[code[row]] for of_key, code in zip(texts, codes, strict=True)]
        _write_file(table.slice(start, stop - start), _folder(staging, names), f"part-{number:05}.parquet")
    return Written(len(frame), len(edges) - 1, tuple(described))


def _coded(column: pd.Series[Any], key: str, number: int) -> tuple[NDArray[np.intp], str | None, list[str]]:
    """Numbers of a column's values, their type, and the folder of each; the last one (-1) that of missing values."""
    import pandas as pd

    try:
        # Of objects, all of them: True and 1 are one value to factorize.
        kind = kind_of_values({type(one): one for one in column.dropna()}.values()) if column.dtype == object else None
        codes, values = pd.factorize(column)
        found = list(values)
        kind = kind or kind_of_values(found)
        folders = [folder_name(key, text_of(value, kind or "str")) for value in found]
        return codes, kind, [*folders, folder_name(key, None)]
    except Unwritable as error:
        raise ReadError(f"the key {key!r}, in partition {number} of the table: {error}") from None


def _folder(staging: str, names: Sequence[str]) -> str:
    """The folder of a combination. Never makes ``staging``: it is gone where all has failed."""
    folder = staging
    for name in names:
        folder = os.path.join(folder, name)
        if not os.path.isdir(folder):
            try:
                os.mkdir(folder)
            except FileExistsError:
                continue  # another task was quicker
    return folder


def _write_file(table: Any, folder: str, name: str) -> None:
    from pyarrow.parquet import write_table

    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")
    write_table(table, temporary)
    os.replace(temporary, os.path.join(folder, name))

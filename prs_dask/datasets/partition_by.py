"""A table written as Parquet, in a folder for each combination of some of its columns.

Each partition of a Dask DataFrame is written by itself, without a shuffle: a combination has a file for
each partition in which it occurs. A local target is written beside it, and gets its name by
one rename in the end; one in a store has its files at once (`store_target`). ``KEYS_FILE``, the last to be written,
tells the dtypes of the keys, which folders cannot.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.datasets.dataset import absolute_paths
from prs_dask.datasets.key_folders import Unwritable, folder_name, kind_of_values, text_of
from prs_dask.datasets.path_keys import KEYS_FILE
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.store_target import StoreTarget, target_faults
from prs_dask.errors import Fault, InputError, OutputError, SettingsError
from prs_dask.stores import is_url, separated

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from prs_dask.datasets.tabular_dataset import TabularDataset
    from prs_dask.stores import StorageOptions

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


def write_partitioned(
    dataset: TabularDataset,
    keys: Sequence[str],
    target: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None,
) -> tuple[str, StorageOptions | None]:
    """Write the table; gives the target's absolute path, and the options to read it with.

    See ``TabularDataset.partition_by``.
    """
    (folder,), options = separated(absolute_paths(os.fspath(target)), storage_options)
    place: LocalTarget | StoreTarget
    if is_url(folder):
        folder = folder.rstrip("/")
        place = StoreTarget(folder, options, uuid.uuid4().hex[:12])
        faults = _key_faults(keys) + target_faults(folder, options)
    else:
        folder = os.path.abspath(folder)
        place = LocalTarget(folder, _beside(folder))
        faults = _key_faults(keys) + _target_faults(folder)
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
    _write_all(frame.to_delayed(), tuple(keys), place)
    return folder, options


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


def _write_all(partitions: Iterable[Any], keys: tuple[str, ...], place: LocalTarget | StoreTarget) -> None:
    from dask.base import compute
    from dask.delayed import delayed

    place.begin()
    try:
        write = delayed(_write, pure=False)  # its keys are random: no hash of options is in them
        to = place if isinstance(place, StoreTarget) else place.staging
        tasks = [write(partition, number, to, keys) for number, partition in enumerate(partitions)]
        done: tuple[Written, ...] = compute(*tasks)
        if not any(one.rows for one in done):
            raise InputError([Fault("partition_by", "a table without rows", "at least one row")])
        described = {"partition_keys": [_described(key, done, n) for n, key in enumerate(keys)]}
        place.finish(sum(one.files for one in done), json.dumps(described, indent=1))
    except BaseException:
        place.give_up()
        raise


class LocalTarget(NamedTuple):
    """A folder, written under another name beside it first.

    Parameters
    ----------
    folder, staging
        Its name in the end, and until then.
    """

    folder: str
    staging: str

    def begin(self) -> None:
        """Make the folder to write to."""
        try:
            os.makedirs(os.path.dirname(self.folder), exist_ok=True)
            os.mkdir(self.staging)
        except OSError as error:
            found = f"{self.folder!r}: {error.strerror}"
            raise OutputError([Fault("target", found, "a folder that can be written")]) from error

    def finish(self, files: int, keys: str) -> None:
        """See that all is there, and give it its name."""
        found = sum(len(names) for _, _, names in os.walk(self.staging))
        if found != files:
            told = f"{found} files in {os.path.dirname(self.folder)!r}, where the workers have written {files}"
            raise OutputError([Fault("target", told, "a folder that driver and workers share")])
        with open(os.path.join(self.staging, KEYS_FILE), "w", encoding="utf-8") as file:
            file.write(keys)
        _rename(self.staging, self.folder)

    def give_up(self) -> None:
        """Leave nothing of it."""
        _remove(self.staging)


def _beside(folder: str) -> str:
    parent, name = os.path.split(folder)
    return os.path.join(parent, f".{name}.{uuid.uuid4().hex[:8]}.partial")


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


def _write(frame: pd.DataFrame, number: int, to: str | StoreTarget, keys: tuple[str, ...]) -> Written:
    """Write a partition, into a folder or a store. A task that is run again writes the same files again."""
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
    files = (
        ([of_key[code[order[start]]] for of_key, code in zip(texts, codes, strict=True)], table[start:stop])
        for start, stop in pairwise(edges)
    )
    if isinstance(to, StoreTarget):
        to.write(files, number)
    else:
        for names, part in files:
            _write_file(part, _folder(to, names), f"part-{number:05}.parquet")
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

"""Reading a CSV in blocks of 1 MB in one process: ours, pandas, and what pyarrow does without anything of ours.

Each reader has a process of its own, for what one frees changes how fast malloc is for the next. They read the same
blocks, in turn, so that all meet the same load; each block's best of three counts, in processor time.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

__all__ = ["read_csv_blocks"]

MIB = 1 << 20
ROUNDS = 3
READERS = ("ours", "pandas", "pyarrow", "fields")

_state: dict[str, Any] = {}


def read_csv_blocks(make: Callable[[str, str, int], Path], kinds: tuple[str, ...], size: int) -> dict[str, Any]:
    """MB a second of one core, by kind of table and reader, and how many times the rate of pandas.

    Parameters
    ----------
    make
        Makes a table in a folder: ``make(folder, kind, size)``.
    kinds
        Of tables.
    size
        Of each, in bytes.
    """
    figure: dict[str, Any] = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = make(folder, kind, size)
            processes = {
                reader: stack.enter_context(
                    ProcessPoolExecutor(1, get_context("spawn"), initializer=_open, initargs=(path, reader))
                )
                for reader in READERS
            }
            rows = {reader: processes[reader].submit(_first_block).result() for reader in ("ours", "pandas")}
            _check_equal(rows["ours"], rows["pandas"])
            seconds = dict.fromkeys(READERS, 0.0)
            for block in range(processes["ours"].submit(_count).result()):
                best = dict.fromkeys(READERS, float("inf"))
                for reader in READERS * ROUNDS:
                    best[reader] = min(best[reader], processes[reader].submit(_read_block, block).result())
                seconds = {reader: seconds[reader] + best[reader] for reader in READERS}
            megabytes = path.stat().st_size / 1e6
        figure |= {f"{kind}_{reader}": round(megabytes / seconds[reader]) for reader in READERS}
        figure |= {f"{kind}_{reader}_times": round(seconds["pandas"] / seconds[reader], 2) for reader in READERS}
        del figure[f"{kind}_pandas_times"]
    return figure


def _check_equal(ours: Any, theirs: Any) -> None:
    """The same values and dtypes, or the comparison says nothing."""
    from pandas.testing import assert_frame_equal

    assert_frame_equal(ours, theirs)


def _open(path: Path, reader: str) -> None:
    from prs_dask.datasets import TabularDataset

    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    _state["plan"] = list(dataset.plan(MIB))
    _state["read"] = {"ours": _ours, "pandas": _pandas, "pyarrow": _pyarrow, "fields": _pyarrow}[reader](
        path, spec, reader
    )
    for block in _state["plan"][:3]:
        _state["read"](block)


def _count() -> int:
    return len(_state["plan"])


def _first_block() -> Any:
    return _state["read"](_state["plan"][0])


def _read_block(number: int) -> float:
    """Seconds of processor time."""
    block = _state["plan"][number]
    begun = time.process_time()
    _state["read"](block)
    return time.process_time() - begun


def _ours(path: Path, spec: Any, reader: str) -> Callable[[Any], Any]:
    from prs_dask.datasets.reading import read

    return lambda block: read(block, spec)


def _pandas(path: Path, spec: Any, reader: str) -> Callable[[Any], Any]:
    """``pandas.read_csv``; told no types it is faster than with them, and comes to the same."""
    import pandas as pd

    names, file = [name for name, _ in spec.column_types], path.open("rb")

    def read(block: Any) -> Any:
        file.seek(block.start)
        return pd.read_csv(io.BytesIO(file.read(block.stop - block.start)), names=names, header=None)

    return read


def _pyarrow(path: Path, spec: Any, reader: str) -> Callable[[Any], Any]:
    """``pyarrow.csv.read_csv`` to a Table; ``fields``: it finds all fields, and converts those of one column only."""
    import pyarrow as pa
    from pyarrow import csv

    kinds = {"str": pa.large_string(), "int64": pa.int64(), "float64": pa.float64()}
    types, file = {name: kinds[kind] for name, kind in spec.column_types}, path.open("rb")
    only = list(types)[-1:] if reader == "fields" else []
    parse_options = csv.ParseOptions(newlines_in_values=True)
    convert_options = csv.ConvertOptions(column_types=types, include_columns=only, strings_can_be_null=True)

    def read(block: Any) -> Any:
        file.seek(block.start)
        data = file.read(block.stop - block.start)
        whole = csv.ReadOptions(column_names=list(types), block_size=len(data) + 1, use_threads=False)
        return csv.read_csv(pa.BufferReader(data), whole, parse_options, convert_options)

    return read

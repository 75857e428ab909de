"""Delimited text to a DataFrame, in the worker process.

A block of whole records is parsed by pyarrow in one piece. Columns have the types that were
inferred from the dataset's head; one that does not fit in a block gets the next wider type there
(int64 → uint64 → float64 → str), which is logged once per column. Dates stay text, as with
``pandas.read_csv``. A row with too few or too many fields is an error, never mended.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.leading_text import record_starts, slices
from prs_dask.datasets.misfits import tell_misfit
from prs_dask.datasets.read_spec import ReadError, ReadSpec
from prs_dask.datasets.table_frame import to_frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Block", "infer_types", "parse"]

_MISFIT = re.compile(r"In CSV column #(\d+): (.*)", re.DOTALL)
_WIDER = {"int64": "uint64", "uint64": "float64"}
_LARGEST = 1 << 29
_MOST = (1 << 31) - 2
_LONG_INTEGER = r"^\s*[+-]?\d{19,}\s*$"

# What pandas.read_csv takes for a missing value.
_NULLS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip

_NOTHING = re.compile(rb"[\r\n]*")


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of one file.

    Parameters
    ----------
    data
        UTF-8.
    names
        Of the columns.
    path
        The file, for messages.
    first_line
        Called for the number of the first line within the file, for messages only.
    """

    data: bytes
    names: tuple[str, ...]
    path: str
    first_line: Callable[[], int]


def parse(block: Block, spec: ReadSpec) -> pd.DataFrame:
    """The rows of a block, in a DataFrame of its own.

    Raises
    ------
    ReadError
        A row has another number of fields than there are columns, a value does not fit the type the user
        asked for, or bytes are no text.
    """
    if len(block.data) > _LARGEST:
        import pandas as pd

        return pd.concat([_parse(piece, spec) for piece in _pieces(block, spec)], ignore_index=True)
    return _parse(block, spec)


def _parse(block: Block, spec: ReadSpec) -> pd.DataFrame:
    wanted = _wanted(block.names, spec.dtype)
    kinds = {name: kind for name, kind in spec.column_types if name not in wanted}
    frame = to_frame(_table(block, spec, kinds, wanted))
    for name, dtype in wanted.items():
        if frame[name].dtype != dtype:
            try:
                frame[name] = frame[name].astype(dtype)
            except (TypeError, ValueError) as error:
                raise ReadError(f"{block.path}: column {name!r} does not fit dtype {dtype}: {error}") from None
    return frame


def _pieces(block: Block, spec: ReadSpec) -> Iterator[Block]:
    """Whole records, at most about half of what pyarrow takes in one piece (2 GiB)."""
    start: int | None = 0
    records = record_starts(slices(block.data), spec)
    while start is not None:
        stop = records.after(start + _LARGEST)
        yield replace(block, data=block.data[start:stop], first_line=partial(_line_at, block, start))
        start = stop


def _line_at(block: Block, place: int) -> int:
    """Number of the line, within the file, of a place in the block."""
    return block.first_line() + block.data.count(b"\n", 0, place)


def infer_types(block: Block, spec: ReadSpec) -> tuple[tuple[str, str], ...]:
    """Name and type of each column, as the rows of ``block`` have them; rows of a wrong length are passed over."""
    table = _table(block, spec, {}, {}, skip_ragged=True)
    return tuple((field.name, _kind(field.type)) for field in table.schema)


def _table(
    block: Block, spec: ReadSpec, kinds: Mapping[str, str], wanted: Mapping[str, Any], *, skip_ragged: bool = False
) -> pa.Table:
    import pyarrow as pa

    types = {name: _arrow_type(kind) for name, kind in kinds.items()} | {
        name: _readable_type(dtype) for name, dtype in wanted.items()
    }
    misfits: dict[str, str] = {}
    while True:
        try:
            table = _read(block, spec, types, skip_ragged=skip_ragged)
        except pa.ArrowInvalid as error:
            found = _MISFIT.match(str(error))
            if found is None:
                raise _ragged(block, spec, error) from None
            name, reason = block.names[int(found[1])], found[2]
            kind = _kind(types[name]) if name in types else "str"
            if "invalid UTF8" in reason:
                raise _no_utf8(block, name) from None
            if name in wanted or kind == "str":
                raise ReadError(f"{block.path}: column {name!r}: {reason}") from None
            types[name] = _arrow_type(_next_kind(block, spec, name, kind))
            if name in kinds:
                misfits[name] = _kind(types[name])
            continue
        unsettled = {field.name: field.type for field in table.schema if field.name not in types}
        settled = {name: _settled(block, spec, name, found_type) for name, found_type in unsettled.items()}
        types |= settled
        if all(settled[name] == found_type for name, found_type in unsettled.items()):
            for name, kind in misfits.items():
                tell_misfit(block.path, name, kinds[name], kind, f"; dtype={{{name!r}: ...}} settles it")
            return table


def _read(
    block: Block,
    spec: ReadSpec,
    types: Mapping[str, pa.DataType],
    *,
    only: Sequence[str] = (),
    skip_ragged: bool = False,
) -> pa.Table:
    import pyarrow as pa

    if _NOTHING.fullmatch(block.data):
        return pa.table({name: pa.array([], types.get(name, pa.string())) for name in only or block.names})
    if len(types) == len(block.names) and not any(map(_is_text, types.values())):
        # Numbers only: a missing value with a name is rarely met, and looking for names costs a sixth.
        with suppress(pa.ArrowInvalid):
            return _read_csv(block, spec, types, [""], only, skip_ragged)
    return _read_csv(block, spec, types, _NULLS, only, skip_ragged)


def _read_csv(
    block: Block,
    spec: ReadSpec,
    types: Mapping[str, pa.DataType],
    nulls: Sequence[str],
    only: Sequence[str],
    skip_ragged: bool,
) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if len(block.data) > _MOST:
        found = f"{block.path}, from line {block.first_line()} on: found a row of up to {len(block.data)} bytes"
        raise ReadError(f"{found}; allowed: less than 2 GiB; a quote may have been left open there")
    return arrow_csv.read_csv(
        pa.BufferReader(block.data),
        # One piece: pyarrow loses bytes of a quoted CRLF that lies across two of its own.
        read_options=arrow_csv.ReadOptions(column_names=block.names, block_size=len(block.data) + 1, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=spec.separator,
            newlines_in_values=True,
            invalid_row_handler=(lambda _: "skip") if skip_ragged else None,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(only),
            null_values=nulls,
            true_values=["True", "TRUE", "true"],
            false_values=["False", "FALSE", "false"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _is_text(kind: pa.DataType) -> bool:
    return "string" in str(kind)


def _next_kind(block: Block, spec: ReadSpec, name: str, kind: str) -> str:
    wider = _WIDER.get(kind, "str")
    if wider == "float64" and _has_long_integers(block, spec, name):
        return "str"  # as a float it would lose digits
    return wider


def _settled(block: Block, spec: ReadSpec, name: str, found: pa.DataType) -> pa.DataType:
    """The type for a column of which pyarrow inferred ``found``: no dates, no nulls, no lost digits."""
    kind = _kind(found)
    if kind == "float64" and str(found) == "double" and _has_long_integers(block, spec, name):
        kind = "uint64"
    return _arrow_type(kind)


def _has_long_integers(block: Block, spec: ReadSpec, name: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = _read(block, spec, {name: pa.string()}, only=[name], skip_ragged=True)[name]
    return bool(pc.any(pc.match_substring_regex(text, _LONG_INTEGER)).as_py())


def _kind(found: pa.DataType) -> str:
    text = str(found)
    if text in ("bool", "int64", "uint64"):
        return text
    return "float64" if text in ("double", "null") else "str"


@cache
def _arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    types: dict[str, Callable[[], pa.DataType]] = {
        "bool": pa.bool_, "int64": pa.int64, "uint64": pa.uint64, "float64": pa.float64,
    }  # fmt: skip
    return types.get(kind, pa.large_string)()


def _wanted(names: Sequence[str], dtype: Any) -> dict[str, Any]:
    """What the user asked for, as pandas dtypes by column."""
    if dtype is None:
        return {}
    from pandas.api.types import pandas_dtype

    if not isinstance(dtype, Mapping):
        dtype = dict.fromkeys(names, dtype)
    return {name: pandas_dtype(dtype[name]) for name in names if name in dtype}


def _readable_type(dtype: Any) -> pa.DataType:
    """The type to read a column as, on its way to a pandas dtype."""
    import numpy as np
    import pyarrow as pa

    if isinstance(dtype, np.dtype) and (dtype.kind in "iub" or dtype in (np.float32, np.float64)):
        return pa.from_numpy_dtype(dtype)
    return pa.string()


def _no_utf8(block: Block, name: str) -> ReadError:
    return ReadError(
        f"{block.path}, from line {block.first_line()} on: column {name!r}: found bytes that are not UTF-8; "
        "allowed: text in the dataset's encoding; try encoding='windows-1252' or 'latin-1', as the file was written"
    )


def _ragged(block: Block, spec: ReadSpec, error: Exception) -> ReadError:
    """The error that names the line where a row has another number of fields than there are columns."""
    try:
        reader = csv.reader(io.StringIO(block.data.decode(errors="replace"), newline=""), delimiter=spec.separator)
        line = 0
        for row in reader:
            if row and len(row) != len(block.names):
                columns = ", ".join(block.names[:8]) + (", ..." if len(block.names) > 8 else "")
                return ReadError(
                    f"{block.path}, line {block.first_line() + line}: found {len(row)} fields; "
                    f"allowed: {len(block.names)}, one for each column ({columns})"
                )
            line = reader.line_num
    except csv.Error:
        pass
    return ReadError(f"{block.path}, from line {block.first_line()} on: {error}")

"""A result of ``run()`` becomes rows: bytes, UTF-8, each ended by a newline.

Runs in the worker process after every ``run()``, so it imports next to nothing and has a
short way for what is common: a list of a few strings. In order of use::

    materialise(result)     inside run()'s time: a generator is read to its end
    check_result(result)    what is it, and how many results are there
    iter_rows(result, ...)  its rows in pieces, after run()

**A row is one element.** Elements become ``str(x)``. An element whose text holds a newline is
written as it is: it stands on several lines of the file, and counts as one row still; the
exactly-once promise is about elements, never lines. A DataFrame's row is what ``to_csv``
writes for it.

**Text that UTF-8 cannot hold.** A path that is not valid UTF-8 reaches ``run()`` with lone
surrogates (PEP 383) and goes back to its original bytes here; any other lone surrogate is
written as ``\\udXXX``. No result fails because of them.
"""

from __future__ import annotations

import codecs
import enum
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from prs_dask.output.row_format import RowFormat, row_format

__all__ = [
    "BadResult",
    "ResultKind",
    "RowFormat",
    "check_result",
    "header_line",
    "iter_rows",
    "materialise",
    "row_format",
]

_ALLOWED = "a list, a tuple, a numpy array, a pandas DataFrame or Series, or a generator"
_SEQUENCES = (list, tuple)
_WINDOW = 1024
"""So many elements become text at a time."""


class BadResult(TypeError):
    """``run()`` returned something that is no result; the attempt fails as "bad return"."""


class ResultKind(enum.IntEnum):
    """What ``run()`` returned, as far as rows are concerned."""

    ELEMENTS = 0
    TABLE = 1


def materialise(result: Any) -> Any:
    """Read a generator, or any other iterator, to its end; everything else comes back as it is.

    Belongs to the time of ``run()``: a generator's body is the user's code.
    """
    kind = type(result)
    if kind is list or kind is tuple or not hasattr(kind, "__next__"):
        return result
    return list(result)


def check_result(result: Any) -> tuple[ResultKind, int]:
    """What a materialised result is, and ``len()`` of it.

    Raises
    ------
    BadResult
        It is nothing that ``run()`` may return; the message names its type.
    """
    if isinstance(result, _SEQUENCES):
        return ResultKind.ELEMENTS, len(result)
    # Whoever returns such an object has imported its package.
    pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
    if pandas is not None:
        if isinstance(result, pandas.DataFrame):
            return ResultKind.TABLE, len(result)
        if isinstance(result, pandas.Series):
            return ResultKind.ELEMENTS, len(result)
    if numpy is not None and isinstance(result, numpy.ndarray) and result.ndim:
        return ResultKind.ELEMENTS, len(result)
    raise BadResult(_refusal(result))


def _refusal(result: Any) -> str:
    kind = type(result)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if result is None:
        return f"run() returned None; allowed: {_ALLOWED}; try: return a list with one element per item"
    advice = "return [result]"
    if kind.__name__ == "ndarray":
        name, advice = f"{name} without dimensions", "return [result.item()]"
    elif isinstance(result, dict | set | frozenset):
        advice = "return list(result)" if not isinstance(result, dict) else "return list(result.items())"
    return f"run() returned an object of type {name}; allowed: {_ALLOWED}; try: {advice}"


def iter_rows(result: Any, row_format: RowFormat | None, piece_bytes: int = 1 << 20) -> Iterable[bytes]:
    """The rows of a materialised result in pieces of at most ``piece_bytes``.

    The header line of a table is not among them, see `header_line`.

    Parameters
    ----------
    result
        What `check_result` accepts.
    row_format
        None stands for summary_only: no rows.
    piece_bytes
        Pieces are cut anywhere, within a row too; together they are the rows.

    Raises
    ------
    BadResult
        As `check_result`.
    Exception
        Whatever ``str(x)`` or ``to_csv`` raises, also after some pieces.
    """
    if row_format is None or row_format.action != "append_row":
        return ()
    if isinstance(result, _SEQUENCES):
        if not result:
            return ()
        if len(result) <= _WINDOW:  # the short way: one piece without a generator
            texts = [*map(str, result), ""]
            if 4 * sum(map(len, texts)) + _WINDOW <= piece_bytes:  # a character has 4 bytes at most
                text = "\n".join(texts)
                return (text.encode() if text.isascii() else _encode(text),)
        return _cut(_encoded_elements(result, piece_bytes), piece_bytes)
    kind, _ = check_result(result)
    if kind is ResultKind.TABLE:
        return _cut(_encoded_table(result, row_format), piece_bytes)
    return _cut(_encoded_elements(result, piece_bytes), piece_bytes)


def header_line(result: Any, row_format: RowFormat | None) -> bytes:
    """The header line of a table, which `iter_rows` leaves out; empty where there is none or none is asked for."""
    if row_format is None or not row_format.header or row_format.action != "append_row":
        return b""
    return _header_line(result, row_format) if check_result(result)[0] is ResultKind.TABLE else b""


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "prs_dask.rows")


def _encode_surrogates(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    escaped = [
        bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else b"\\u%04x" % ord(c)  # PEP 383, or no bytes at all
        for c in characters
    ]
    return b"".join(escaped), error.end


codecs.register_error("prs_dask.rows", _encode_surrogates)


def _encoded_elements(result: Iterable[Any], piece_bytes: int) -> Iterator[bytes]:
    """Elements as bytes, some at a time: never a second copy of all of them."""
    elements = iter(result)
    texts: list[str] = []
    size = 0
    while window := list(map(str, islice(elements, _WINDOW))):
        window_size = sum(map(len, window)) + len(window)
        if size + window_size <= piece_bytes:
            texts += window
            size += window_size
            continue
        for text in window:
            if size + len(text) >= piece_bytes and texts:  # with its newline it would be more
                yield _encode("\n".join([*texts, ""]))
                texts, size = [], 0
            if len(text) < piece_bytes:
                texts.append(text)
                size += len(text) + 1
            else:  # a giant
                for start in range(0, len(text), piece_bytes):
                    yield _encode(text[start : start + piece_bytes])
                yield b"\n"
    if texts:
        yield _encode("\n".join([*texts, ""]))


def _header_line(table: Any, row_format: RowFormat) -> bytes:
    if not len(table.columns) and not row_format.to_csv.get("index"):
        return b""  # an empty table says nothing about columns
    arguments = {"header": True, **row_format.to_csv}
    return _encode(table.iloc[:0].to_csv(lineterminator="\n", **arguments))


def _encoded_table(table: Any, row_format: RowFormat) -> Iterator[bytes]:
    """A DataFrame as bytes, by the slices of rows that ``to_csv`` itself works in.

    It decides about each slice on its own how dates look: with other slices the rows would
    differ from those of one ``to_csv`` over the whole.
    """
    arguments = {**row_format.to_csv, "header": False, "lineterminator": "\n"}
    columns = arguments.get("columns")
    width = len(table.columns) if columns is None else len(columns)
    step = arguments.pop("chunksize", None) or (100_000 // (width or 1)) or 1
    for start in range(0, len(table), step):
        yield _encode(table.iloc[start : start + step].to_csv(**arguments))


def _cut(parts: Iterable[bytes], piece_bytes: int) -> Iterator[bytes]:
    for part in parts:
        if len(part) <= piece_bytes:
            if part:
                yield part
        else:
            view = memoryview(part)
            for start in range(0, len(part), piece_bytes):
                yield bytes(view[start : start + piece_bytes])

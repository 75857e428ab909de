"""The table of attempts, block by block, as arrays: some 2 µs a row, and memory for one block.

Columns go by name, so tables of other versions are read too; one that is missing counts as 0. A row that cannot be
read is passed over and counted; a last line without its end is under way, or was torn, and is left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prs_dask.attempts.records import Category
from prs_dask.logs.attempt_reader import lines_tried_again
from prs_dask.logs.attempt_table import FAILED, FAILED_ATTEMPT, OVERTAKEN, READ, SUCCEEDED
from prs_dask.logs.roll_up import RECORD
from prs_dask.logs.text import NO_NODE

if TYPE_CHECKING:
    import pyarrow

__all__ = ["AttemptBlock", "AttemptBlocks"]

BLOCK_BYTES = 4 << 20

_WHOLE = {"Picked Count": "attempt", "Total": "items", "Succeeded": "results"}
_SECONDS = {
    "Elapsed Seconds": "elapsed",
    READ: "read",
    "Run Method Seconds": "run",
    "Process Seconds": "cpu",
}
_TEXTS = ("Mini-batch Id", "Process", "Status", "Error Category", "Error Message", "Mini-batch Detail")
_TIME = "Process Start Time"
_NO_TEXT = {0: None, 13: None}
"""What the csv module refuses, and `format_attempts` never writes."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_CATEGORIES = {category.label: int(category) for category in Category}
_DECIDED, _TRIED_AGAIN = (f",{status},".encode() for status in (FAILED, FAILED_ATTEMPT))
_OTHER_CATEGORY = max(_CATEGORIES.values()) + 1
"""Of a later version: a failure, by all means."""


@dataclass(frozen=True, slots=True)
class AttemptBlock:
    """Some attempts, in the order of the table.

    Parameters
    ----------
    nodes, processes
        Where each ran; -1 where both were lost.
    records
        Of the type `RECORD`; ``mini_batch`` is 0: see `texts`.
    texts
        By column: ``Mini-batch Id`` (``7``, or ``7[3:5]``), ``Status``, ``Error Category``, ``Error Message``,
        ``Mini-batch Detail``; call with a place in the block.
    """

    nodes: NDArray[np.int64]
    processes: NDArray[np.int64]
    records: NDArray[Any]
    texts: Callable[[str, int], str]


@dataclass(slots=True)
class AttemptBlocks:
    """Iterate over it once; `unreadable` then says how many rows were passed over.

    Parameters
    ----------
    path
        ``processed_mini-batches.csv``; where there is none there are no blocks.
    block_bytes
        How much is read at once.
    resumed
        The step run was: of the final rows of one mini-batch the last counts, see `iter_attempts`.
    """

    path: Path
    block_bytes: int = BLOCK_BYTES
    resumed: bool = False
    unreadable: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[AttemptBlock]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            header = file.readline()
            if not header.endswith(b"\n"):
                return
            columns = next(csv.reader([header.decode("utf-8", "replace").rstrip("\r\n")]), [])
            again = deque(sorted(lines_tried_again(self.path))) if self.resumed else deque[int]()
            rest, line = b"", 1
            while data := file.read(self.block_bytes):
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    count = whole.count(b"\n") + 1
                    if again and again[0] < line + count:
                        whole = _as_tried_again(whole, line, again)
                    line += count
                    block = self._block(columns, whole + newline)
                    if block is not None:
                        yield block

    def _block(self, columns: list[str], data: bytes) -> AttemptBlock | None:
        import pyarrow

        data = self._without_open_quotes(_as_utf8(data))
        try:
            table = self._parsed(columns, data)
        except pyarrow.ArrowInvalid:  # a row that does not fit: they are looked at one by one
            good = self._good_rows(columns, data)
            if not good:
                return None
            table = self._parsed(columns, good)
        return _as_block(table) if table.num_rows else None

    def _without_open_quotes(self, data: bytes) -> bytes:
        """Without torn lines whose quote would go on in the next ones."""
        if b'"' not in data:
            return data
        lines = data.split(b"\n")
        whole = [line for line in lines if line.count(b'"') % 2 == 0]
        self.unreadable += len(lines) - len(whole)
        return b"\n".join(whole)

    def _parsed(self, columns: list[str], data: bytes) -> pyarrow.Table:
        import pyarrow
        from pyarrow import csv as arrow_csv

        types = {
            **dict.fromkeys(_TEXTS, pyarrow.string()),
            **dict.fromkeys(_WHOLE, pyarrow.uint32()),
            **dict.fromkeys(_SECONDS, pyarrow.float64()),
            _TIME: pyarrow.timestamp("ms", "UTC"),
        }
        passed_over = 0

        def pass_over(_: Any) -> str:
            nonlocal passed_over
            passed_over += 1
            return "skip"

        table = arrow_csv.read_csv(
            pyarrow.py_buffer(data),
            read_options=arrow_csv.ReadOptions(
                column_names=columns, use_threads=False, block_size=max(len(data), 1), encoding="utf8"
            ),
            parse_options=arrow_csv.ParseOptions(invalid_row_handler=pass_over),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=[name for name in types if name in columns],
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
        self.unreadable += passed_over
        return table

    def _good_rows(self, columns: list[str], data: bytes) -> bytes:
        """The rows that can be read, written anew."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for line in data.decode("utf-8").split("\n")[:-1]:
            row = next(csv.reader([line.translate(_NO_TEXT)]), [])
            if _is_good(dict(zip(columns, row, strict=False)), len(row) == len(columns)):
                writer.writerow(row)
            else:
                self.unreadable += 1
        return text.getvalue().encode("utf-8")


def _as_tried_again(data: bytes, first: int, numbers: deque[int]) -> bytes:
    """Lines of a block, of which those with these numbers have decided nothing; ``first`` is the first one's number."""
    lines = data.split(b"\n")
    while numbers and numbers[0] < first + len(lines):
        at = numbers.popleft() - first
        lines[at] = lines[at].replace(_DECIDED, _TRIED_AGAIN, 1)  # no column before that of the status holds words
    return b"\n".join(lines)


def _as_utf8(data: bytes) -> bytes:
    """With bytes that are no text shown as such."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace").encode("utf-8")
    return data


def _is_good(row: dict[str, str], whole: bool) -> bool:
    try:
        for name in _WHOLE:
            if not 0 <= int(row.get(name) or 0) < 1 << 32:
                return False
        for name in _SECONDS:
            float(row.get(name) or 0)
        datetime.fromisoformat(row[_TIME].removesuffix("Z"))
    except (ValueError, KeyError):
        return False
    return whole and _MOMENT.fullmatch(row[_TIME]) is not None


def _as_block(table: pyarrow.Table) -> AttemptBlock:
    from pyarrow import compute

    count = table.num_rows
    records = np.zeros(count, RECORD)
    for name, field_name in (*_WHOLE.items(), *_SECONDS.items()):
        if name in table.column_names:
            records[field_name] = compute.fill_null(table[name], 0).to_numpy()
    records["started"] = compute.fill_null(table[_TIME].cast("int64"), 0).to_numpy() / 1000
    status = _codes(table, "Status", lambda text: (text != SUCCEEDED) + 2 * (text in (FAILED_ATTEMPT, OVERTAKEN)))
    category = _codes(table, "Error Category", lambda text: _CATEGORIES.get(text, _OTHER_CATEGORY) if text else 0)
    records["category"] = np.where(status == 0, 0, np.where(category, category, _OTHER_CATEGORY))
    records["final"] = status < 2
    nodes = _codes(table, "Process", lambda text: _place(text)[0], NO_NODE)
    processes = _codes(table, "Process", lambda text: _place(text)[1], NO_NODE)

    def text(name: str, at: int) -> str:
        return table[name][at].as_py() or "" if name in table.column_names else ""

    return AttemptBlock(nodes, processes, records, text)


def _codes(table: pyarrow.Table, name: str, code: Callable[[str], int], missing: int = 0) -> NDArray[np.int64]:
    """A number for each row, by what a column of few distinct texts says."""
    if name not in table.column_names:
        return np.full(table.num_rows, missing, np.int64)
    encoded = table[name].combine_chunks().dictionary_encode()
    if not len(encoded.dictionary):
        return np.full(table.num_rows, missing, np.int64)
    numbers = np.array([code(text or "") for text in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(numbers[encoded.indices.to_numpy()])


def _place(label: str) -> tuple[int, int]:
    """``(0, 7)`` of ``0/process007``."""
    node, _, process = label.partition("/")
    digits = process.removeprefix("process")
    if node.isdecimal() and digits.isdecimal() and len(node) < 10 and len(digits) < 10:
        return int(node), int(digits)
    return NO_NODE, NO_NODE

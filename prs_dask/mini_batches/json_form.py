"""Descriptors as lines of JSON: what is kept of them on disk, for a resume.

Nothing in it can run code where it is read, and any later version can read it::

    ["files",0,"/data/a.png\n/data/b.png"]                         input, paths [, versions [, values of the keys]]
    ["text",0,"/data/a.csv",17,1048590,null,"52428800-1763757000"] input, path, start, stop [, items [, version]]
    ["row_groups",0,"/data/a.parquet",0,3,3000,"9437184-1763757"]  input, path, first, stop [, items [, version]]
    ["combination",0,["text",[...],[...]],[2,"x"],["int","str"]]   input, parts, values of the keys [, their types]
    ["query",0]
    ["rows",0,"9f86d081884c7d65",0,1000]                           input, hash, first row, rows

Paths are joined by line breaks (a list where one of them has a line break in its name): one text is written four
times as fast as ten. ASCII escapes keep lone surrogates. Rows in memory are replaced by their hash: a resume needs
the same rows again, and can tell whether they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from itertools import dropwhile
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple, TypeAlias

from prs_dask.mini_batches.descriptors import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    MiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
)

__all__ = ["KeptMiniBatch", "RowsHash", "from_line", "from_lines", "kept", "to_line"]

_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class RowsHash(NamedTuple):
    """What is kept of a `FrameMiniBatch`: everything but the rows."""

    input: int
    hash: str
    first: int
    known_items: int

    @property
    def items(self) -> int | None:
        return self.known_items

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        return f"rows {self.first}..{self.first + self.known_items}"


KeptMiniBatch: TypeAlias = FileMiniBatch | TextMiniBatch | RowGroupMiniBatch | PartMiniBatch | QueryMiniBatch | RowsHash


def kept(mini_batch: MiniBatch) -> KeptMiniBatch:
    """What `from_line` makes of a mini-batch's line: itself, but for rows in memory."""
    if isinstance(mini_batch, BisectedMiniBatch):
        raise TypeError("a part of a mini-batch is in no listing: the whole is")
    if not isinstance(mini_batch, FrameMiniBatch):
        return mini_batch
    digest = hashlib.blake2b(mini_batch.data, digest_size=16).hexdigest()
    return RowsHash(mini_batch.input, digest, mini_batch.first, mini_batch.known_items)


def to_line(mini_batch: MiniBatch) -> str:
    """A line of ASCII without its line break, the same for equal mini-batches.

    Raises
    ------
    TypeError
        A key has a value of a type that no path tells; or it is no whole mini-batch.
    """
    if isinstance(mini_batch, FileMiniBatch) and not mini_batch.values:  # local files, in millions
        versions = f",{_quoted(mini_batch.versions)}" if mini_batch.versions else ""
        return f'["files",{mini_batch.input},{_quoted(mini_batch.paths)}{versions}]'
    return _dumps(_plain(kept(mini_batch)))


def _plain(mini_batch: KeptMiniBatch) -> list[Any]:
    match mini_batch:
        case FileMiniBatch(input_index, paths, versions, values):
            return _short(["files", input_index, _joined(paths), _joined(versions), _values(values)], 3)
        case TextMiniBatch(input_index, path, start, stop, items, version):
            return _short(["text", input_index, path, start, stop, items, version], 5)
        case RowGroupMiniBatch(input_index, path, first, stop, items, version):
            return _short(["row_groups", input_index, path, first, stop, items, version], 5)
        case PartMiniBatch(input_index, parts, values, key_types):
            return _short(["combination", input_index, [*map(_plain, parts)], _values(values), list(key_types)], 4)
        case QueryMiniBatch():
            return ["query", *mini_batch]
    return ["rows", *mini_batch]


def _short(fields: list[Any], least: int) -> list[Any]:
    """Without what is empty at the end."""
    rest = list(dropwhile(lambda value: value in ("", None, []), reversed(fields[least:])))
    return fields[:least] + rest[::-1]


def _joined(texts: Sequence[str]) -> str | list[str]:
    joined = "\n".join(texts)
    return joined if joined and joined.count("\n") == len(texts) - 1 else list(texts)


def _quoted(texts: Sequence[str]) -> str:
    joined = _joined(texts)
    return quoted(joined) if isinstance(joined, str) else _dumps(joined)


def _split(texts: str | list[str]) -> tuple[str, ...]:
    return tuple(texts.split("\n") if isinstance(texts, str) else texts)


def from_line(line: str | bytes) -> KeptMiniBatch:
    """The mini-batch that `to_line` was given, without rows that lay in memory.

    Raises
    ------
    ValueError
        It is no line of this form.
    """
    try:
        return _made(json.loads(line))
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"no line of a mini-batch: {line[:200]!r}") from error


def from_lines(lines: Sequence[bytes]) -> list[KeptMiniBatch]:
    """The same for some lines, in half the time."""
    try:
        found = json.loads(b"[%b]" % b",".join(lines))
        if len(found) == len(lines):
            return [
                FileMiniBatch(fields[1], _split(fields[2]), _split(fields[3]))
                if len(fields) == 4 and fields[0] == "files"
                else _made(fields)
                for fields in found
            ]
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError, ValueError):
        pass
    return [from_line(line) for line in lines]  # which says what is wrong


def _made(fields: list[Any]) -> KeptMiniBatch:
    kind, *rest = fields
    match kind:
        case "files":
            input_index, paths, versions, values = (*rest, (), ())[: max(4, len(rest))]
            return FileMiniBatch(input_index, _split(paths), _split(versions), _read_values(values))
        case "text":
            return TextMiniBatch(*rest)
        case "row_groups":
            return RowGroupMiniBatch(*rest)
        case "combination":
            input_index, parts, values, *types = rest
            made: Any = tuple(map(_made, parts))
            return PartMiniBatch(input_index, made, _read_values(values), tuple(*types))
        case "query":
            return QueryMiniBatch(*rest)
        case "rows":
            return RowsHash(*rest)
    raise ValueError(f"an unknown kind of mini-batch: {kind!r}")


def _values(values: Sequence[Any]) -> list[Any]:
    return [value if value is None or type(value) in (str, int, bool) else _tagged(value) for value in values]


def _tagged(value: Any) -> dict[str, str]:
    """Values that JSON does not have, or not exactly so, by the name of their type."""
    if type(value) is float:
        return {"float": repr(value)}
    if type(value) is datetime or type(value) is date:
        return {type(value).__name__: value.isoformat()}
    raise TypeError(f"a partition key of type {type(value).__name__}: {value!r}")


_TYPES: dict[str, Callable[[str], Any]] = {
    "float": float,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def _read_values(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([_untagged(value) if isinstance(value, dict) else value for value in values])


def _untagged(value: dict[str, str]) -> Any:
    ((name, text),) = value.items()
    return _TYPES[name](text)

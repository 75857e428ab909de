"""The kinds of mini-batches, and their form on the wire.

``input`` is the index of the dataset among the step's inputs: what is the same for every
mini-batch of a dataset (separator, column types, storage options) is sent once, not here.
``items`` is how many items the mini-batch holds where that is known before it is read.

``encode`` and ``decode`` are called once a mini-batch on the driver and in the worker process,
so a descriptor is a named tuple, and its wire form the pickle of the bare tuple: together
3.5 µs for ten paths. Pickle, because both ends run the same code in one trust domain (Dask's own), and
because paths may hold undecodable bytes as lone surrogates, which JSON and msgpack refuse.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from prs_dask.mini_batches.parts import Part

__all__ = [
    "BisectedMiniBatch",
    "FileMiniBatch",
    "FrameMiniBatch",
    "MiniBatch",
    "PartMiniBatch",
    "QueryMiniBatch",
    "RowGroupMiniBatch",
    "TextMiniBatch",
    "decode",
    "encode",
]


class FileMiniBatch(NamedTuple):
    """Whole files: ``run()`` receives their local paths.

    ``versions`` are those of the files when they were listed, one for each path; empty: of none it was kept.
    ``values`` are those of the partition keys, in the order of ``ReadSpec.keys``; empty without keys.
    """

    input: int
    paths: tuple[str, ...]
    versions: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()

    @property
    def items(self) -> int | None:
        return len(self.paths)

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        if len(self.paths) == 1:
            return self.paths[0]
        return f"{len(self.paths)} files: {self.paths[0]} .. {self.paths[-1]}"


class TextMiniBatch(NamedTuple):
    """The whole records in bytes ``start <= offset < stop`` of a delimited or JSON Lines file.

    ``start`` is the first byte of a record and ``stop`` the first byte of another or the end
    of the file; the header line is never inside. ``stop`` -1 means: to the end of the file,
    which is decompressed and decoded as a whole; ``start`` then counts bytes of its text as UTF-8,
    and is -1 (the first row) where the file could not be opened when the descriptor was made.
    ``version`` is the file's when it was cut (see ``stores.FileInfo``); empty where nothing was known of it.
    """

    input: int
    path: str
    start: int
    stop: int
    known_items: int | None = None
    version: str = ""

    @property
    def items(self) -> int | None:
        return self.known_items

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        return self.path if self.stop < 0 else f"{self.path} bytes {self.start}..{self.stop}"


class RowGroupMiniBatch(NamedTuple):
    """Row groups ``first <= index < stop`` of one Parquet file.

    ``stop`` -1 means all: the file could not be opened when the descriptor was made. ``version`` as above.
    """

    input: int
    path: str
    first: int
    stop: int
    known_items: int | None = None
    version: str = ""

    @property
    def items(self) -> int | None:
        return self.known_items

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        return self.path if self.stop < 0 else f"{self.path} row groups {self.first}..{self.stop}"


class PartMiniBatch(NamedTuple):
    """One combination of partition keys of a table: whole files, read one after the other and joined.

    ``values`` are those of the keys, in the order of ``ReadSpec.keys``. ``key_types`` are the types of all
    keys in the files' paths, decided over all files; the columns of the keys are made with them.
    """

    input: int
    parts: tuple[TextMiniBatch | RowGroupMiniBatch, ...]
    values: tuple[Any, ...]
    key_types: tuple[str, ...] = ()

    @property
    def items(self) -> int | None:
        """Known once it is read: nothing of the files was read before."""
        return None

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        values, paths = ", ".join(map(str, self.values)), [part.path for part in self.parts]
        return f"({values}) in {paths[0]}" + (f" .. {paths[-1]}, {len(paths)} files" if len(paths) > 1 else "")


class QueryMiniBatch(NamedTuple):
    """All rows of the dataset's SQL query, which the reader knows."""

    input: int

    @property
    def items(self) -> int | None:
        return None

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        return "the SQL query"


class FrameMiniBatch(NamedTuple):
    """Rows that were in memory: ``data`` is what ``datasets.frames.to_bytes`` makes of them.

    ``first`` is the number of its first row in the dataset; ``known_items`` how many there are.
    """

    input: int
    data: bytes
    first: int
    known_items: int

    @property
    def items(self) -> int | None:
        return self.known_items

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        return f"rows {self.first}..{self.first + self.known_items}"

    def __repr__(self) -> str:
        return f"FrameMiniBatch(input={self.input}, {self.detail}, {len(self.data)} bytes)"


class BisectedMiniBatch(NamedTuple):
    """Some items of a mini-batch that failed as a whole.

    ``source`` is what is read for them: of files only those of the part, of a table all its rows, from which those
    of the part are taken.
    """

    source: MiniBatch
    part: Part

    @classmethod
    def of(cls, mini_batch: MiniBatch, part: Part) -> BisectedMiniBatch:
        """The part of a whole mini-batch, or of a larger part of the same."""
        source, first = mini_batch, 0
        if isinstance(mini_batch, BisectedMiniBatch):
            source, first = mini_batch.source, mini_batch.part.start
        if isinstance(source, FileMiniBatch):
            items = slice(part.start - first, part.stop - first)
            source = source._replace(paths=source.paths[items], versions=source.versions[items])
        return cls(source, part)

    @property
    def input(self) -> int:
        return self.source.input

    @property
    def items(self) -> int | None:
        return self.part.items

    @property
    def values(self) -> tuple[Any, ...]:
        """Those of the partition keys, where the mini-batch has any."""
        return getattr(self.source, "values", ())

    @property
    def detail(self) -> str:
        """What it holds, in a few words, for logs."""
        source, (_, start, stop, _) = self.source, self.part
        if isinstance(source, FileMiniBatch):
            return source.detail
        if isinstance(source, FrameMiniBatch):
            start, stop = start + source.first, stop + source.first
            return f"row {start}" if stop - start == 1 else f"rows {start}..{stop}"
        return f"{source.detail}, row {start}" if stop - start == 1 else f"{source.detail}, rows {start}..{stop}"


MiniBatch: TypeAlias = (
    FileMiniBatch
    | TextMiniBatch
    | RowGroupMiniBatch
    | PartMiniBatch
    | QueryMiniBatch
    | FrameMiniBatch
    | BisectedMiniBatch
)

_KINDS: tuple[type[MiniBatch], ...] = (
    FileMiniBatch,
    TextMiniBatch,
    RowGroupMiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    FrameMiniBatch,
    BisectedMiniBatch,
)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_MAKE: tuple[Callable[[Iterable[Any]], MiniBatch], ...] = tuple(kind._make for kind in _KINDS)


def encode(mini_batch: MiniBatch) -> bytes:
    """Wire form of a descriptor."""
    return pickle.dumps(_plain(mini_batch), 5)


def _plain(mini_batch: MiniBatch) -> tuple[int, tuple[Any, ...]]:
    fields: tuple[Any, ...] = tuple(mini_batch)
    if type(mini_batch) is PartMiniBatch:
        fields = (fields[0], tuple(map(_plain, mini_batch.parts)), *fields[2:])
    elif type(mini_batch) is BisectedMiniBatch:
        fields = (_plain(mini_batch.source), tuple(mini_batch.part))
    return _NUMBER[type(mini_batch)], fields


def decode(data: bytes) -> MiniBatch:
    """The descriptor that ``encode`` was given."""
    return _made(*pickle.loads(data))  # noqa: S301 - see the module's docstring


def _made(number: int, fields: tuple[Any, ...]) -> MiniBatch:
    mini_batch = _MAKE[number](fields)
    if type(mini_batch) is PartMiniBatch:
        return mini_batch._replace(parts=tuple(_made(*part) for part in mini_batch.parts))  # type: ignore[misc]
    if type(mini_batch) is BisectedMiniBatch:
        source, part = fields
        return BisectedMiniBatch(_made(*source), Part._make(part))
    return mini_batch

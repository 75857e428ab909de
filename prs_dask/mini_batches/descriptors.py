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

__all__ = [
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

    ``versions`` are those of files in stores, one for each path; empty for local files. ``values``
    are those of the partition keys, in the order of ``ReadSpec.keys``; empty without keys.
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


MiniBatch: TypeAlias = (
    FileMiniBatch | TextMiniBatch | RowGroupMiniBatch | PartMiniBatch | QueryMiniBatch | FrameMiniBatch
)

_KINDS: tuple[type[MiniBatch], ...] = (
    FileMiniBatch,
    TextMiniBatch,
    RowGroupMiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    FrameMiniBatch,
)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_MAKE: tuple[Callable[[Iterable[Any]], MiniBatch], ...] = tuple(kind._make for kind in _KINDS)


def encode(mini_batch: MiniBatch) -> bytes:
    """Wire form of a descriptor."""
    return pickle.dumps(_plain(mini_batch), 5)


def _plain(mini_batch: MiniBatch) -> tuple[int, tuple[Any, ...]]:
    if type(mini_batch) is PartMiniBatch:
        mini_batch = mini_batch._replace(parts=tuple(_plain(part) for part in mini_batch.parts))  # type: ignore[misc]
    return _NUMBER[type(mini_batch)], tuple(mini_batch)


def decode(data: bytes) -> MiniBatch:
    """The descriptor that ``encode`` was given."""
    return _made(*pickle.loads(data))  # noqa: S301 - see the module's docstring


def _made(number: int, fields: tuple[Any, ...]) -> MiniBatch:
    mini_batch = _MAKE[number](fields)
    if type(mini_batch) is PartMiniBatch:
        return mini_batch._replace(parts=tuple(_made(*part) for part in mini_batch.parts))  # type: ignore[misc]
    return mini_batch

"""What a store's client has to do: five requests, none of them tried again here.

One module for each kind of store: `s3`, `azure`, `web` (HTTP), and `any_file_system` for whatever else fsspec
knows. Paths are what stands behind ``://`` in a URL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["CALL_SECONDS", "SILENT_SECONDS", "Client", "Found", "Page", "awaited"]

CALL_SECONDS = 30.0
"""So long one request may take; it reads 8 MiB at most."""

SILENT_SECONDS = 15.0
"""So long a server may send nothing: half of ``task_overhead_timeout``, so that there is time to ask again."""

T = TypeVar("T")


class Found(NamedTuple):
    """A file: path, bytes (-1 where unknown), and what tells its version."""

    path: str
    size: int
    identity: str


class Page(NamedTuple):
    """Some files of a listing in order, and where the next page begins; None: this is the last."""

    files: list[Found]
    following: Any


class Client(Protocol):
    """One store, through one fsspec file system. Threads may share it."""

    def prepare(self) -> None:
        """Load what the first request would, and ask the store nothing."""
        ...

    def info(self, path: str) -> Found:
        """A file; FileNotFoundError where there is none of this name, also where a folder has it."""
        ...

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file, fewer at its end; b"" behind it."""
        ...

    def page(self, prefix: str, start: Any) -> Page:
        """Files whose paths begin with ``prefix``, in the order of their UTF-8 bytes; from ``start``, None at first."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Make a file of these bytes, in place of one that may be there."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; there may be none."""
        ...


SLOWEST = 1 << 19
"""Bytes a second that are sent, at least."""


def awaited(file_system: Any, ask: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, sent: int = 0) -> T:
    """The result of a coroutine on fsspec's event loop; a TimeoutError after `CALL_SECONDS`, later if much is sent."""
    from fsspec.asyn import sync

    result: T = sync(file_system.loop, ask, *arguments, timeout=CALL_SECONDS + sent / SLOWEST)
    return result

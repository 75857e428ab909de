"""The mini-batches that wait to be handed out, and how many bytes they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["CHUNK_DESCRIPTOR_BYTES", "WAITING_BYTES", "WaitingLine"]

WAITING_BYTES = 64 << 20
"""Bytes of descriptors above which no more are wanted, but for one a lane: rows in memory travel in them."""

CHUNK_DESCRIPTOR_BYTES = 8 << 20
"""Bytes of descriptors of a chunk at most, but for a single one that is larger."""


class _Described(Protocol):
    @property
    def descriptor(self) -> bytes: ...


T = TypeVar("T", bound=_Described)


class WaitingLine(Generic[T]):
    """First in, first out; what was given back stands in front again.

    Attributes
    ----------
    bytes
        Of all descriptors in it.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._line: deque[T] = deque()

    def append(self, one: T) -> None:
        """Put one at the end."""
        self._line.append(one)
        self.bytes += len(one.descriptor)

    def appendleft(self, one: T) -> None:
        """Put one in front."""
        self._line.appendleft(one)
        self.bytes += len(one.descriptor)

    def chunk(self, most: int, suits: Callable[[T], bool] | None = None) -> list[T]:
        """Take up to ``most`` from the front, and fewer where they are large; at least one if there is one.

        What does not suit is passed over and keeps its place.
        """
        line, taken, passed, size = self._line, list[T](), list[T](), 0
        while line and len(taken) < most:
            one = line.popleft()
            if suits is not None and not suits(one):
                passed.append(one)
                continue
            if taken and size + len(one.descriptor) > CHUNK_DESCRIPTOR_BYTES:
                passed.append(one)
                break
            size += len(one.descriptor)
            taken.append(one)
        line.extendleft(reversed(passed))
        self.bytes -= size
        return taken

    def chunks(self, most: int) -> int:
        """About how many times ``chunk`` can be called."""
        return max(-(-len(self._line) // most), min(len(self._line), -(-self.bytes // CHUNK_DESCRIPTOR_BYTES)))

    def room(self, target: int, lanes: int) -> int:
        """How many more are wanted, so that ``target`` wait, or fewer where they are large."""
        most = target if self.bytes < WAITING_BYTES else min(target, lanes)
        return max(0, most - len(self._line))

    def clear(self) -> None:
        """Drop all."""
        self._line.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[T]:
        return iter(self._line)

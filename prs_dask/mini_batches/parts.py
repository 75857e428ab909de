"""Names of the parts that a bisected mini-batch falls into."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Part"]


class Part(NamedTuple):
    """Items ``start <= item < stop`` of the ``of`` items of a mini-batch; shown as ``7[3:5]``.

    The name is the same in every run and resume of a step run: it says what the part holds, not how it came about.
    """

    mini_batch: int
    start: int
    stop: int
    of: int

    @property
    def items(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.mini_batch}[{self.start}:{self.stop}]"

    def halves(self) -> tuple[Part, Part]:
        """The part cut in the middle; for more than one item."""
        middle = (self.start + self.stop) // 2
        return self._replace(stop=middle), self._replace(start=middle)

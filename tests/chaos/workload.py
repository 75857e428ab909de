"""What a job works on, and what is right: every item, its mini-batch, its row, and what is bad about it.

Pure. An item is one file, or one row of a table, and has a number; its row in the output is a
function of that number. The mini-batches follow from behaviour, section 3, written down here a
second time, so that the engine's own cutting is not its own witness.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["HARMS", "Harm", "Poison", "Workload", "line_of", "row_of"]


@dataclass(frozen=True, slots=True)
class Harm:
    """What a bad item does to its attempt.

    Parameters
    ----------
    category
        The attempt's category; empty where it succeeds all the same.
    or_else
        Another one that it may have: what balloons on a machine with much to do may meet its time limit first.
    hangs
        It has to be ended at the time limit.
    missing
        Rows that its mini-batch returns too few.
    """

    category: str = ""
    or_else: str = ""
    hangs: bool = False
    missing: int = 0


HARMS: Mapping[str, Harm] = MappingProxyType(
    {
        "raise": Harm("exception"),
        "unpicklable": Harm("exception"),
        "huge": Harm("exception"),
        "sys_exit": Harm("exception"),
        "tells_secret": Harm("exception"),
        "bad_return": Harm("bad return"),
        "segfault": Harm("process died"),
        "exit_0": Harm("process died"),
        "exit_1": Harm("process died"),
        "dies_leaving_children": Harm("process died"),
        "regex": Harm("time limit", hangs=True),
        "loop": Harm("time limit", hangs=True),
        "deaf": Harm("time limit", hangs=True),
        "stops_itself": Harm("time limit", hangs=True),
        "balloon": Harm("out of memory", or_else="time limit"),
        "children": Harm(),
        "short": Harm(missing=1),
    }
)
"""By name, as `score.py` does them."""


@dataclass(frozen=True, slots=True)
class Poison:
    """One bad item. ``flaky``: only in the first attempt of its mini-batch."""

    item: int
    harm: str
    flaky: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """The input of one job.

    Parameters
    ----------
    kind
        ``"files"``, ``"parquet"`` (a row group is a mini-batch) or ``"text"`` (cut by bytes).
    items
        How many there are.
    size
        Of a mini-batch: files, rows, or stored bytes.
    parts
        Files of a table.
    pause
        Seconds that a good ``run()`` takes.
    poisons
        At most one in a mini-batch.
    """

    kind: str
    items: int
    size: int
    parts: int = 1
    pause: float = 0.01
    poisons: tuple[Poison, ...] = field(default=())

    def part_of(self, part: int) -> range:
        """Items of one file of a table."""
        return range(self.items * part // self.parts, self.items * (part + 1) // self.parts)

    def mini_batches(self) -> tuple[range, ...]:
        """The items of each mini-batch, by its id."""
        return _mini_batches(self)

    def poison_by_mini_batch(self) -> Mapping[int, Poison]:
        """Bad items by the id of their mini-batch."""
        return _poison_by_mini_batch(self)


HEADER_LINE = "item,padding\n"


def line_of(item: int) -> str:
    """An item's line of a text file; lines are of several lengths."""
    return f"{item},{'x' * (item * 7 % 23)}\n"


def row_of(item: int) -> str:
    """An item's row in the output, which tells when it is torn."""
    text = f"{item:06d}"
    return f"{text}:{zlib.crc32(text.encode()):08x}"


@functools.lru_cache(maxsize=16)
def _mini_batches(work: Workload) -> tuple[range, ...]:
    if work.kind == "files":
        return tuple(_groups(range(work.items), work.size))
    cut = _groups if work.kind == "parquet" else _blocks
    return tuple(group for part in range(work.parts) for group in cut(work.part_of(part), work.size))


def _groups(items: range, size: int) -> list[range]:
    return [range(first, min(first + size, items.stop)) for first in range(items.start, items.stop, size)]


def _blocks(items: range, size: int) -> list[range]:
    """A record belongs to block i if its first byte s satisfies i*P < s <= (i+1)*P; block 0 has s = 0 too."""
    start = len(HEADER_LINE)
    blocks: dict[int, list[int]] = {}
    for item in items:
        blocks.setdefault(max(0, -(-start // size) - 1), []).append(item)
        start += len(line_of(item))
    return [range(block[0], block[-1] + 1) for _, block in sorted(blocks.items())]


@functools.lru_cache(maxsize=16)
def _poison_by_mini_batch(work: Workload) -> Mapping[int, Poison]:
    place = {item: number for number, items in enumerate(work.mini_batches()) for item in items}
    return MappingProxyType({place[poison.item]: poison for poison in work.poisons})

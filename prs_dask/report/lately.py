"""What the newest lines of growing logs say: how fast it has been lately, and what the overview has told last."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from prs_dask.logs.places import PROGRESS_COLUMNS

__all__ = ["Lately", "last_lines", "read_lately"]

_TAIL_BYTES = 64 * 1024
_DONE, _FAILED, _ELAPSED, _LEFT = map(
    PROGRESS_COLUMNS.index, ("Completed Tasks", "Failed Tasks", "Elapsed Time", "Estimated Remaining Time")
)


class Lately(NamedTuple):
    """How fast it was when the last row was written: mini-batches a second, and seconds left then; None: not known."""

    rate: float | None
    seconds_left: float | None


class _Row(NamedTuple):
    elapsed: float
    done: int
    left: float | None


def read_lately(path: Path, seconds: float = 60.0) -> Lately:
    """The speed over the last rows of progress.csv.

    Parameters
    ----------
    path
        It; need not be there.
    seconds
        Over so many.
    """
    rows = [row for row in map(_row, last_lines(path)) if row is not None]
    begin = max(
        (place for place, (one, other) in enumerate(pairwise(rows), 1) if other.elapsed < one.elapsed), default=0
    )
    rows = rows[begin:]  # those of the last part
    if not rows:
        return Lately(None, None)
    last = rows[-1]
    recent = [row for row in rows if row.elapsed >= last.elapsed - seconds]
    while len(recent) > 2 and recent[1].done == recent[0].done == 0:  # nothing had begun
        del recent[0]
    took, done = last.elapsed - recent[0].elapsed, last.done - recent[0].done
    return Lately(done / took if took > 0 and last.done else None, last.left)


def last_lines(path: Path) -> list[str]:
    """Whole lines of the last 64 KB of a log; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = data[: data.rfind(b"\n") + 1].decode("utf-8", "replace").split("\n")[:-1]
    return lines[1:] if size > _TAIL_BYTES else lines


def _row(line: str) -> _Row | None:
    """None for the header and for what is no whole row."""
    fields = line.split(",")
    try:
        left = float(fields[_LEFT]) if fields[_LEFT] else None
        return _Row(float(fields[_ELAPSED]), int(fields[_DONE]) + int(fields[_FAILED]), left)
    except (ValueError, IndexError):
        return None

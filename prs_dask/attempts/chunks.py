"""How many mini-batches one claim takes.

A claim costs some 0.3 ms, so quick mini-batches are handed out by the chunk; slow ones alone,
so that retries, time limits and the end of the run stay exact.
"""

from __future__ import annotations

import math

__all__ = ["MAX_CHUNK", "MeanCost", "box_seconds", "chunk_size", "queue_target", "report_seconds", "target_seconds"]

MAX_CHUNK = 256
"""Most mini-batches of a chunk: bounds what is run again when a worker is lost."""

CHUNK_BYTES = 8 << 20
"""Rows a chunk is expected to make at most, in bytes."""

CHUNK_SECONDS = 0.25
REPORT_SECONDS = 0.2
SECONDS_PER_SLOT = 0.002
FIRST_TARGET = 64


def target_seconds(slots: int) -> float:
    """Seconds a chunk should take: 0.25, and with very many lanes (``slots``) longer, so that
    claims stay below one in 2 ms for the whole scheduler."""
    return max(CHUNK_SECONDS, SECONDS_PER_SLOT * slots)


def box_seconds(slots: int) -> float:
    """Seconds after which a chunk gives back what it has not begun: twice the target."""
    return 2 * target_seconds(slots)


def report_seconds(slots: int) -> float:
    """Seconds between two reports of a lane within a chunk: 0.2, and with very many lanes longer, as for claims."""
    return max(REPORT_SECONDS, SECONDS_PER_SLOT * slots)


class MeanCost:
    """Moving means of what a mini-batch costs; ``seconds`` is None before the first.

    New measurements weigh 30 %, whatever the number of mini-batches in them, so that a change of
    pace is followed within a few reports.
    """

    __slots__ = ("bytes", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.bytes = 0.0

    def add(self, count: int, seconds: float, size: int) -> None:
        """``count`` mini-batches took ``seconds`` and made ``size`` bytes of rows together."""
        if count <= 0:
            return
        if self.seconds is None:
            self.seconds, self.bytes = seconds / count, size / count
        else:
            self.seconds += 0.3 * (seconds / count - self.seconds)
            self.bytes += 0.3 * (size / count - self.bytes)


def chunk_size(mean: MeanCost, slots: int, remaining: int | None) -> int:
    """Mini-batches for the next claim, from 1 to `MAX_CHUNK`.

    min(T / mean seconds, 256, 8 MiB / mean bytes, ceil(remaining / (2 * slots))): guided
    self-scheduling (Polychronopoulos and Kuck, 1987) with two more bounds. The first ones, before
    anything is known, are single.

    Parameters
    ----------
    slots
        Lanes that work on the step run, at least 1.
    remaining
        Mini-batches not yet handed out; None while more are being listed.
    """
    if mean.seconds is None:
        return 1
    size = min(MAX_CHUNK, int(target_seconds(slots) / max(mean.seconds, 1e-7)))
    if mean.bytes * size > CHUNK_BYTES:
        size = int(CHUNK_BYTES / mean.bytes)
    if remaining is not None:
        size = min(size, math.ceil(remaining / (2 * slots)))
    return max(1, size)


def queue_target(mean: MeanCost, slots: int) -> int:
    """How many mini-batches should wait in the scheduler: four chunks a lane, and before anything is known so
    many that the first lane to end one leaves some for the others."""
    return slots * (FIRST_TARGET if mean.seconds is None else 4 * chunk_size(mean, slots, None))

"""The fields that all tables of attempts share, as text: formatted once, and in bulk.

A driver that is fed no-op mini-batches spends most of its time for logs on the text of numbers. So a block of
packed records is taken apart by numpy, and a text that stands in many rows is made once: the second, its
milliseconds, the counts, and times below 10 ms to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prs_dask.attempts.records import Category
from prs_dask.logs.roll_up import RECORD
from prs_dask.logs.text import utc_text

__all__ = ["FAILED", "FAILED_ATTEMPT", "OVERTAKEN", "SUCCEEDED", "AttemptFields", "attempt_fields"]

SUCCEEDED, FAILED, FAILED_ATTEMPT, OVERTAKEN = "Succeeded", "Failed", "Failed attempt", "Overtaken"

_STATUS = (SUCCEEDED, FAILED_ATTEMPT, FAILED, OVERTAKEN)
_MILLISECONDS = [f"{number:03}Z" for number in range(1000)]
_KEPT_BELOW = 10_000


class AttemptFields(NamedTuple):
    """Of each attempt of a block, in order.

    Parameters
    ----------
    numbers
        Of the mini-batches.
    heads
        ``Mini-batch Id,Picked Count,`` with the comma behind them.
    middles
        From ``Start Time`` to ``Status``.
    reads
        ``Read Seconds``.
    failed
        Places in the block of those that did not succeed.
    """

    numbers: list[int]
    heads: list[str]
    middles: list[str]
    reads: list[str]
    failed: list[int]


class _Seconds(dict[int, str]):
    """By microseconds, the text of that many seconds: ``0.000123``; short times come again and again and are kept."""

    def __missing__(self, microseconds: int) -> str:
        text = f"{microseconds / 1_000_000:.6f}"
        if microseconds < _KEPT_BELOW:
            self[microseconds] = text
        return text


_SECONDS = _Seconds()


def attempt_fields(records: bytes, names: Mapping[int, object] | None = None) -> AttemptFields:
    """Text of packed `AttemptRecord`.

    Parameters
    ----------
    records
        Of one process, or of many.
    names
        What stands as the id of those that have another than their number: ``7[3:5]``.
    """
    block = np.frombuffer(records, RECORD)
    numbers = block["mini_batch"].tolist()
    good = block["category"] == 0
    status = np.where(good, 0, 1 + (block["final"] != 0))
    status[block["category"] == Category.OVERTAKEN] = 3
    items = block["items"].astype(np.int64)
    succeeded = np.where(good, np.minimum(items, block["results"]), 0)
    called = [names.get(number, number) for number in numbers] if names else numbers
    heads = [f"{name},{attempt}," for name, attempt in zip(called, block["attempt"].tolist(), strict=True)]
    second = np.floor(block["started"])
    seconds = {moment: utc_text(moment)[:-4] for moment in set(second.tolist())}
    counts = list(zip(items.tolist(), succeeded.tolist(), (items - succeeded).tolist(), strict=True))
    counted = {three: ",".join(map(str, three)) for three in set(counts)}
    columns = zip(
        map(seconds.__getitem__, second.tolist()),
        map(_MILLISECONDS.__getitem__, ((block["started"] - second) * 1000).astype(np.int64).tolist()),
        map(counted.__getitem__, counts),
        *(_seconds(block[name]) for name in ("elapsed", "cpu", "run")),
        map(_STATUS.__getitem__, status.tolist()),
        strict=True,
    )
    middles = [
        f"{moment}{milliseconds},{three},{elapsed},{cpu},{run},{status}"
        for moment, milliseconds, three, elapsed, cpu, run, status in columns
    ]
    return AttemptFields(numbers, heads, middles, list(_seconds(block["read"])), np.flatnonzero(~good).tolist())


def _seconds(column: NDArray[np.float32]) -> Iterator[str]:
    microseconds = np.rint(column.astype(np.float64) * 1e6).astype(np.int64)
    return map(_SECONDS.__getitem__, microseconds.tolist())

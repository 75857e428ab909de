"""The fields that all tables of attempts share, as text: formatted once, and in bulk.

A driver that is fed no-op mini-batches spends most of its time for logs on the text of numbers. So a block of
packed records is taken apart by numpy, and one ``%`` makes the fields of a row: half the time of an f-string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from prs_dask.logs.roll_up import RECORD
from prs_dask.logs.text import utc_text

__all__ = ["FAILED", "FAILED_ATTEMPT", "SUCCEEDED", "AttemptFields", "attempt_fields"]

SUCCEEDED, FAILED, FAILED_ATTEMPT = "Succeeded", "Failed", "Failed attempt"

_STATUS = (SUCCEEDED, FAILED_ATTEMPT, FAILED)
_HEAD = "%s,%d,"
_MIDDLE = "%s%03dZ,%d,%d,%d,%.6f,%.6f,%.6f,%s"
_SECONDS = "%.6f"


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
    items = block["items"].astype(np.int64)
    succeeded = np.where(good, np.minimum(items, block["results"]), 0)
    second = np.floor(block["started"])
    texts = {moment: utc_text(moment)[:-4] for moment in set(second.tolist())}
    status = np.where(good, 0, 1 + (block["final"] != 0)).tolist()
    called = [names.get(number, number) for number in numbers] if names else numbers
    heads = zip(called, block["attempt"].tolist(), strict=True)
    middles = zip(
        map(texts.__getitem__, second.tolist()),
        ((block["started"] - second) * 1000).astype(np.int64).tolist(),
        items.tolist(),
        succeeded.tolist(),
        (items - succeeded).tolist(),
        block["elapsed"].tolist(),
        block["cpu"].tolist(),
        block["run"].tolist(),
        map(_STATUS.__getitem__, status),
        strict=True,
    )
    return AttemptFields(
        numbers,
        list(map(_HEAD.__mod__, heads)),
        list(map(_MIDDLE.__mod__, middles)),
        list(map(_SECONDS.__mod__, block["read"].tolist())),
        np.flatnonzero(~good).tolist(),
    )

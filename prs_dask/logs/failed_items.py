"""user/failed_items.jsonl: which items failed for good, an object a line. Pure.

Each stands there once: by name in a line of its own, or, where nobody knows which of a mini-batch's it is, in
one line that tells how many (``"item": null``). So the lines add up to the failed items of the summary. What is
missing in a short result has failed too, and its mini-batch has not: a resume that tries failed ones again keeps
those lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from prs_dask.attempts.records import RECORD_SIZE, AttemptRecord, unpack
from prs_dask.logs.roll_up import RECORD
from prs_dask.logs.text import shortened

__all__ = ["MISSING_RESULT", "failed_lines", "is_kept", "missing_result", "short_results"]

MISSING_RESULT = "missing result"
"""Stands as the category of items that ``run()`` returned nothing for."""

_MOST_OF_A_MESSAGE = 2000


def failed_lines(
    mini_batch: int,
    items: Sequence[str] | None,
    attempts: int,
    category: str,
    message: str,
    count: int = 0,
    part: object = None,
    redact: Callable[[str], str] = str,
) -> bytes:
    """Lines for items of one mini-batch; see `LogTree.add_failed_items`."""
    entry = {
        "mini_batch": mini_batch,
        **({} if part is None else {"part": str(part)}),
        "attempts": attempts,
        "category": category,
        "message": shortened(redact(message), _MOST_OF_A_MESSAGE),
    }
    if items is None:
        entries = [{"item": None, "items": count, **entry}]
    else:
        entries = [{"item": redact(item), **entry} for item in items]
    return "".join([json.dumps(one) + "\n" for one in entries]).encode("ascii")


def short_results(records: bytes) -> Iterator[AttemptRecord]:
    """Those of packed `AttemptRecord` that succeeded with fewer results than items."""
    block = np.frombuffer(records, RECORD)
    for at in np.flatnonzero((block["category"] == 0) & (block["results"] < block["items"])).tolist():
        yield from unpack(records[at * RECORD_SIZE : (at + 1) * RECORD_SIZE])


def missing_result(record: AttemptRecord) -> str:
    """What is wrong with it."""
    return f"run() returned {record.results:,} results for {record.items:,} items"


def is_kept(line: bytes) -> bool:
    """Does a line still hold where a resume tries again what had failed?"""
    try:
        return bool(json.loads(line)["category"] == MISSING_RESULT)
    except (ValueError, KeyError, TypeError):
        return False

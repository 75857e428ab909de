"""What one attempt was, and its packed form.

A worker process measures an attempt, the supervisor completes the record, the scheduler
plugin reads it, and the driver writes it into the logs. Records travel packed (52 bytes) and are
formatted in bulk, so that a million mini-batches cost little.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["RECORD_SIZE", "AttemptError", "AttemptRecord", "Category", "pack", "unpack"]


class Category(enum.IntEnum):
    """How an attempt ended; all but ``SUCCEEDED`` and ``OVERTAKEN`` are failures, told apart by cause."""

    SUCCEEDED = 0
    EXCEPTION = 1  # run() raised, whatever it raised
    BAD_RETURN = 2  # run() returned something that is no result, or that has no text
    TIME_LIMIT = 3  # run_invocation_timeout or task_overhead_timeout
    PROCESS_DIED = 4  # a signal, or os._exit, during run()
    OUT_OF_MEMORY = 5
    LOAD_ERROR = 6  # the mini-batch could not be read
    WORKER_LOST = 7
    UNSAFE_CUT = 8  # its file cannot be cut safely as told: ends the step run
    OVERTAKEN = 9  # no failure, and charged to nobody: another attempt of the same mini-batch was faster

    @property
    def label(self) -> str:
        """The words for people: ``time limit``."""
        return self.name.lower().replace("_", " ")


class AttemptRecord(NamedTuple):
    """One attempt of one mini-batch.

    Parameters
    ----------
    mini_batch
        Its id: its place in the input, from 0.
    attempt
        1 for the first try.
    category
        How it ended.
    final
        1 where this attempt decided the mini-batch: it succeeded, or it failed for good.
    items
        How many items ``run()`` was given; 0 where that is not known.
    results
        ``len()`` of what ``run()`` returned.
    length
        Bytes of rows, header included.
    started
        When reading began, seconds since the epoch.
    elapsed, read, run, cpu
        Seconds: all of it, reading, inside ``run()``, processor time of the process.
    """

    mini_batch: int
    attempt: int
    category: int
    final: int
    items: int
    results: int
    length: int
    started: float
    elapsed: float
    read: float
    run: float
    cpu: float

    @property
    def succeeded_items(self) -> int:
        """min(results, items): behaviour, section 2, "Counting"."""
        return min(self.results, self.items) if self.category == 0 else 0


_RECORD = struct.Struct("<QHBBIIQdffff")
RECORD_SIZE = _RECORD.size


class AttemptError(NamedTuple):
    """Why an attempt failed, as text: nothing of it can run code where it is read.

    Parameters
    ----------
    type
        Name of the exception's type (``ValueError``), or the category's label.
    message
        What it said, at most 64 KiB.
    traceback
        The formatted traceback, or the stacks of all threads at a time limit; may be empty.
    where
        The deepest frame in the user's own code, ``script.py:12 in run``; may be empty.
    process_output
        Captured stdout and stderr of a failed subprocess (CalledProcessError); may be empty.
    classes
        Of an exception: its class and all that it is derived from, ``module:qualified.name`` each on a line.
    """

    type: str
    message: str
    traceback: str = ""
    where: str = ""
    process_output: str = ""
    classes: str = ""


def pack(records: Iterable[AttemptRecord]) -> bytes:
    """Packed form of records, one after the other."""
    return b"".join([_RECORD.pack(*record) for record in records])


def unpack(data: bytes) -> Iterator[AttemptRecord]:
    """The records that ``pack`` was given, in order."""
    return map(AttemptRecord._make, _RECORD.iter_unpack(data))

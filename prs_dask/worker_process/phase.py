"""The page of memory that a worker process shares with its supervisor.

The process writes what it is doing without a system call; the supervisor, which owns the
clock, reads it whenever it wants, also while the process holds its GIL for ever::

    offset 0   version u64   odd while the process is writing (a sequence lock)
           8   sequence i64  the mini-batch under way, -1 for none
          16   phase u32
          20   items i32     items of that mini-batch, -1 before it is read
          24   since f64     CLOCK_MONOTONIC seconds at which the phase began
          64   revoked_from, revoked_to i64 (written by the supervisor): the process must not
               begin a sequence in [revoked_from, revoked_to); it answers SKIPPED

A revoked mini-batch may just have been begun: the supervisor has given it away by then and
drops whatever comes of it, so its rows still count once.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["PAGE_SIZE", "Phase", "PhasePage", "PhaseReading", "new_page_descriptor"]

PAGE_SIZE = 4096
_BODY = struct.Struct("<qIid")
_VERSION = struct.Struct("<Q")
_REVOKED = struct.Struct("<qq")
_REVOKED_AT = 64


class Phase(enum.IntEnum):
    """What a worker process is doing."""

    IDLE = 0
    IMPORT = 1
    INIT = 2
    READ = 3
    RUN = 4
    ROWS = 5
    SHUTDOWN = 6


class PhaseReading(NamedTuple):
    """A consistent look at the page."""

    sequence: int
    phase: int
    items: int
    since: float


def new_page_descriptor() -> int:
    """File descriptor of a fresh page, in memory only; the caller closes it."""
    descriptor = os.memfd_create("prs-phase", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_SIZE)
    return descriptor


class PhasePage:
    """One side's view of the page; each field has exactly one writer."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, PAGE_SIZE)
        self._version = 0

    def write(self, sequence: int, phase: int, items: int, since: float) -> None:
        """The process's side: say what begins now."""
        memory, version = self._memory, self._version
        _VERSION.pack_into(memory, 0, version + 1)
        _BODY.pack_into(memory, 8, sequence, phase, items, since)
        self._version = version + 2
        _VERSION.pack_into(memory, 0, version + 2)

    def read(self) -> PhaseReading:
        """The supervisor's side: the last thing said."""
        while True:
            before = _VERSION.unpack_from(self._memory, 0)[0]
            body = _BODY.unpack_from(self._memory, 8)
            # A process killed in the middle of a write leaves an odd version behind: what
            # stands there is then as good as it gets, and nobody will write again.
            if _VERSION.unpack_from(self._memory, 0)[0] == before:
                return PhaseReading._make(body)

    def revoke(self, start: int, stop: int) -> None:
        """The supervisor's side: ``start <= sequence < stop`` must not be begun any more."""
        _REVOKED.pack_into(self._memory, _REVOKED_AT, start, stop)

    def is_revoked(self, sequence: int) -> bool:
        """The process's side: has this one been given to somebody else?"""
        start, stop = _REVOKED.unpack_from(self._memory, _REVOKED_AT)
        return bool(start <= sequence < stop)

    def close(self) -> None:
        """Unmap the page."""
        self._memory.close()

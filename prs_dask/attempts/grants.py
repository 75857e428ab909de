"""What the judge hands out and remembers: mini-batches that have not ended, grants, and what of a report counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from prs_dask.attempts.lifecycle import State
from prs_dask.attempts.records import AttemptError, AttemptRecord
from prs_dask.mini_batches import Part

__all__ = ["Accepted", "Answer", "Grant", "LaneKey", "OpenMiniBatch", "Overtaken"]

LaneKey: TypeAlias = tuple[str, int]
"""(worker address, lane index)."""


@dataclass(slots=True)
class OpenMiniBatch:
    """A mini-batch, or a part of one, that has not ended.

    Parameters
    ----------
    attempts, losses, nodes_lost
        What was charged: failed attempts, lost workers; and lost nodes, which charge nobody for a while.
    avoid
        The process in which it failed last.
    with_others
        Is it tried again in a chunk? Not if it ended its process, or is slow to fail, or a part: depth first.
    doubled
        A second attempt was started beside the first: once in its life.
    """

    number: int
    items: int | None
    descriptor: bytes
    state: State = State.QUEUED
    attempts: int = 0
    losses: int = 0
    nodes_lost: int = 0
    avoid: str = ""
    waiting_since: float = 0.0
    ready_at: float = 0.0
    part: Part | None = None
    with_others: bool = False
    doubled: bool = False


@dataclass(slots=True)
class Grant:
    """A chunk: what one lane runs now.

    Parameters
    ----------
    token
        Names the grant; reports carry it.
    work
        (mini-batch id, attempt, descriptor) of each, in the order to run them.
    box
        Seconds after which what has not been begun is given back.
    report
        Seconds between two reports of what has ended.
    open
        What has not ended yet, by id. Empty where another attempt was faster, until the lane is heard of.
    begun
        Of these, what is known to have begun.
    careful
        Alone on its worker.
    gives_back, asked
        May the lane be asked for what it has not begun, when another lane is idle? When it was.
    permit, since
        The permit it was claimed with; when the lane claimed it or last told of an attempt.
    headers
        By id: header lines that came before the attempt they belong to had ended.
    """

    token: int
    lane: LaneKey
    process: str
    work: list[tuple[int, int, bytes]]
    box: float
    report: float
    open: dict[int, OpenMiniBatch] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    careful: bool = False
    gives_back: bool = False
    asked: float = -math.inf
    permit: int = 0
    since: float = 0.0
    headers: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a claim gets: a grant, or the advice to ask again soon (``pause``), or to stop.

    ``ask``: a lane that has to be asked for what it has not begun. ``soon``: descriptors of what this node will
    be given next, where that is known. ``second``: why the grant is the second attempt of what another lane runs.
    """

    grant: Grant | None = None
    pause: bool = False
    ask: LaneKey | None = None
    soon: tuple[bytes, ...] = ()
    second: str = ""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """An attempt that another one of the same mini-batch was faster than: ``lane`` has to end it.

    ``token`` is that of its grant; ``record`` and ``error`` are what the logs tell of it.
    """

    lane: LaneKey
    token: int
    record: AttemptRecord
    error: AttemptError


@dataclass(frozen=True, slots=True)
class Accepted:
    """What of a report counts; ``records`` are packed, ``rows`` those of its successes in order.

    ``parts`` tells which of their numbers are parts of a bisected mini-batch. ``files_refused``: a success that the
    process has sent files with is none, so it believes to be stored what is not, and must go. ``overtaken``: attempts
    of other lanes that are of no use any more.
    """

    records: bytes
    rows: bytes
    errors: Mapping[int, AttemptError]
    pieced: Mapping[int, int]
    parts: Mapping[int, Part] = field(default_factory=dict)
    files_refused: bool = False
    overtaken: tuple[Overtaken, ...] = ()

"""What the events of worker processes come to: a life for each, and sums for each node. Pure.

A life is filled in as its events come, each field once: what is told twice (by a worker that was given up and came
back, say, and by the scheduler that had given it up) changes nothing. Memory is bounded: of processes that come after
the most that are kept apart, only the sums of their node are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prs_dask.logs.process_events import ENDED, FAILED, OVER, READY, STARTED, ProcessEvent
from prs_dask.logs.roll_up import Process

__all__ = ["BROKEN_OFF", "Life", "ProcessLives", "Starts"]

BROKEN_OFF = "nobody knows: that part of the step run was broken off before"


@dataclass(frozen=True, slots=True)
class Life:
    """One worker process; times in seconds since the epoch, None where they are not known (yet).

    Parameters
    ----------
    started, ready, ended
        When. One that failed to start has ended without being ready.
    init_seconds
        What ``init()`` took; 0 before it is ready.
    failed
        Did its import or ``init()`` fail?
    why
        It ended, or failed.
    ip, pid
        Nothing where they are not known.
    """

    started: float | None = None
    ready: float | None = None
    ended: float | None = None
    init_seconds: float = 0.0
    failed: bool = False
    why: str = ""
    ip: str = ""
    pid: int = 0

    @property
    def ended_early(self) -> bool:
        """Did it end, or fail to start, while the step run went on?"""
        return self.ended is not None and not self.why.startswith(OVER)


@dataclass(slots=True)
class Starts:
    """How processes of a node were started: how many, how many failed at it, and seconds of those that did not.

    ``seconds`` is from start to readiness, ``init_seconds`` of it inside ``init()``.
    """

    processes: int = 0
    failed: int = 0
    seconds: float = 0.0
    init_seconds: float = 0.0


class ProcessLives:
    """Feed it events, in the order in which they come.

    Parameters
    ----------
    most
        So many processes are kept apart.
    """

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._lives: dict[Process, Life] = {}
        self._starts: dict[int, Starts] = {}

    @property
    def lives(self) -> dict[Process, Life]:
        """Of each process that is kept apart, in the order in which they were first heard of."""
        return self._lives

    @property
    def starts(self) -> dict[int, Starts]:
        """Of each node that processes were started on."""
        return self._starts

    def add(self, event: ProcessEvent) -> bool:
        """Is it news? Then it counts."""
        process = event.node, event.process
        before = self._lives.get(process)
        life = _lived(before or Life(), event)
        if life is None:
            return False
        first = before is None
        if not first or len(self._lives) < self._most:
            self._lives[process] = life
        else:
            first = event.event == STARTED  # nobody remembers it
        starts = self._starts.setdefault(event.node, Starts())
        starts.processes += first
        starts.failed += event.event == FAILED
        if event.event == READY:
            starts.init_seconds += event.seconds
            starts.seconds += event.time - life.started if life.started is not None else 0.0
        return True

    def break_off(self) -> None:
        """What goes on now is another part of the step run: processes that live still have died with the last one."""
        for process, life in self._lives.items():
            if life.ended is None and not life.why:
                self._lives[process] = replace(life, why=BROKEN_OFF)


def _lived(life: Life, event: ProcessEvent) -> Life | None:
    """The life after the event; None where that was known."""
    if event.event == STARTED and life.started is None:
        return replace(life, started=event.time, ip=event.ip, pid=event.pid)
    if event.event == READY and life.ready is None:
        return replace(life, ready=event.time, init_seconds=event.seconds)
    if event.event in (FAILED, ENDED) and life.ended is None:
        ip, pid = life.ip or event.ip, life.pid or event.pid
        return replace(life, ended=event.time, failed=event.event == FAILED, why=event.why, ip=ip, pid=pid)
    return None

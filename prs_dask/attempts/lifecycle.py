"""The life of one mini-batch, as a table.

::

    PLANNED ──supply──▶ QUEUED ──claim──▶ RUNNING ──succeed──▶ SUCCEEDED ──commit──▶ COMMITTED
                          ▲                 │  │                                        ▲
                          ├─fail, give_back─┘  └──fail_for_good──▶ FAILED ────commit────┘
                          └─lose (its worker is gone)

    RUNNING ──join──▶ RUNNING (a second attempt begins beside the first) ──leave──▶ RUNNING (one of the two is out)

    PLANNED, QUEUED and RUNNING ──abort──▶ DROPPED: not run because the step run ended before

``fail`` is a failed attempt that has tries left, ``give_back`` one that was never begun. What had
succeeded or failed for good before an abort is still committed. Results of an attempt that was
given to somebody else meet a mini-batch that is not RUNNING under their token any more, and are
dropped by the judge before they get here.
"""

from __future__ import annotations

import enum

__all__ = ["TRANSITIONS", "Event", "IllegalTransition", "State", "after"]


class State(enum.IntEnum):
    """Where a mini-batch is."""

    PLANNED = 0
    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    COMMITTED = 5
    DROPPED = 6


class Event(enum.IntEnum):
    """What can happen to a mini-batch."""

    SUPPLY = 0
    CLAIM = 1
    SUCCEED = 2
    FAIL = 3
    FAIL_FOR_GOOD = 4
    GIVE_BACK = 5
    LOSE = 6
    COMMIT = 7
    ABORT = 8
    JOIN = 9
    LEAVE = 10


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.PLANNED: {Event.SUPPLY: State.QUEUED, Event.ABORT: State.DROPPED},
    State.QUEUED: {Event.CLAIM: State.RUNNING, Event.ABORT: State.DROPPED},
    State.RUNNING: {
        Event.SUCCEED: State.SUCCEEDED,
        Event.FAIL: State.QUEUED,
        Event.FAIL_FOR_GOOD: State.FAILED,
        Event.GIVE_BACK: State.QUEUED,
        Event.LOSE: State.QUEUED,
        Event.JOIN: State.RUNNING,
        Event.LEAVE: State.RUNNING,
        Event.ABORT: State.DROPPED,
    },
    State.SUCCEEDED: {Event.COMMIT: State.COMMITTED, Event.ABORT: State.SUCCEEDED},
    State.FAILED: {Event.COMMIT: State.COMMITTED, Event.ABORT: State.FAILED},
    State.COMMITTED: {Event.ABORT: State.COMMITTED},
    State.DROPPED: {Event.ABORT: State.DROPPED},
}


class IllegalTransition(ValueError):
    """An event that cannot happen to a mini-batch in this state; nothing was changed."""


_TABLE: list[list[State | None]] = [[TRANSITIONS[state].get(event) for event in Event] for state in State]


def after(state: State, event: Event) -> State:
    """The state that follows; raises `IllegalTransition` where the table has none."""
    following = _TABLE[state][event]
    if following is None:
        raise IllegalTransition(f"a mini-batch that is {state.name} cannot {event.name}")
    return following

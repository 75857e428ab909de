"""The life of a mini-batch: every (state, event) pair has an answer."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.lifecycle import TRANSITIONS, Event, IllegalTransition, State, after

LEGAL = {(state, event): to for state, events in TRANSITIONS.items() for event, to in events.items()}
ENDED = {State.SUCCEEDED, State.FAILED, State.COMMITTED, State.DROPPED}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_of_state_and_event_is_answered(state, event):
    if (state, event) in LEGAL:
        assert after(state, event) is LEGAL[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state.name} cannot {event.name}"):
            after(state, event)


def test_an_illegal_event_is_a_value_error():
    assert issubclass(IllegalTransition, ValueError)


def test_the_table_has_a_line_for_every_state():
    assert set(TRANSITIONS) == set(State)


def test_only_a_running_mini_batch_can_succeed_or_fail():
    for event in (Event.SUCCEED, Event.FAIL, Event.FAIL_FOR_GOOD, Event.GIVE_BACK, Event.LOSE):
        assert [state for state in State if (state, event) in LEGAL] == [State.RUNNING]


def test_only_a_waiting_mini_batch_can_be_claimed():
    assert [state for state in State if (state, Event.CLAIM) in LEGAL] == [State.QUEUED]


def test_an_abort_is_answered_in_every_state_and_keeps_what_has_ended():
    for state in State:
        assert after(state, Event.ABORT) is (state if state in ENDED else State.DROPPED)


def test_every_state_can_be_reached_and_every_life_can_end():
    reached, left = {State.PLANNED}, [State.PLANNED]
    while left:
        for to in TRANSITIONS[left.pop()].values():
            if to not in reached:
                reached.add(to)
                left.append(to)
    assert reached == set(State)


@given(st.lists(st.sampled_from(Event)))
def test_what_has_ended_never_runs_again(events):
    state = State.PLANNED
    ended = False
    for event in events:
        try:
            state = after(state, event)
        except IllegalTransition:
            continue
        assert not (ended and state in (State.PLANNED, State.QUEUED, State.RUNNING))
        ended = ended or state in ENDED


@given(st.lists(st.sampled_from(Event)))
def test_what_has_succeeded_never_fails_and_what_has_failed_never_succeeds(events):
    state, seen = State.PLANNED, {State.PLANNED}
    for event in events:
        try:
            state = after(state, event)
        except IllegalTransition:
            continue
        seen.add(state)
    assert not {State.SUCCEEDED, State.FAILED} <= seen
    assert not {State.COMMITTED, State.DROPPED} <= seen

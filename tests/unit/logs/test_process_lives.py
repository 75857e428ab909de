"""Lives of worker processes, from their events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.process_events import ENDED, FAILED, READY, STARTED, ProcessEvent
from prs_dask.logs.process_lives import BROKEN_OFF, Life, ProcessLives, Starts


def started(process: int, time: float = 10.0, node: int = 0) -> ProcessEvent:
    return ProcessEvent(time, node, process, STARTED, "10.0.0.1", 100 + process)


def ready(process: int, time: float = 12.0, seconds: float = 1.5) -> ProcessEvent:
    return ProcessEvent(time, 0, process, READY, "10.0.0.1", seconds=seconds)


def ended(process: int, time: float = 20.0, why: str = "it was killed by SIGSEGV", event: str = ENDED) -> ProcessEvent:
    return ProcessEvent(time, 0, process, event, "10.0.0.1", 100 + process, why=why)


def fed(*events: ProcessEvent, most: int = 100) -> ProcessLives:
    lives = ProcessLives(most)
    for event in events:
        lives.add(event)
    return lives


def test_a_life_is_filled_in_as_its_events_come() -> None:
    lives = fed(started(3), ready(3), ended(3), started(4), ended(4, 11, "ValueError: no model", FAILED))
    assert lives.lives == {
        (0, 3): Life(10, 12, 20, 1.5, False, "it was killed by SIGSEGV", "10.0.0.1", 103),
        (0, 4): Life(10, None, 11, 0.0, True, "ValueError: no model", "10.0.0.1", 104),
    }
    assert lives.starts == {0: Starts(processes=2, failed=1, seconds=2.0, init_seconds=1.5)}


@given(
    st.permutations([started(1), ready(1), ended(1), started(2), ended(2, 11, "no", FAILED)]),
    st.lists(st.integers(0, 4)),
    st.integers(0, 5),
)
def test_whatever_is_told_again_and_in_whatever_order_counts_once(order, again, later) -> None:
    lives = ProcessLives()
    news = [lives.add(event) for event in order[:later]]
    repeated = [lives.add(order[at]) for at in again if at < later]
    news += [lives.add(event) for event in order[later:]]
    assert news == [True] * 5
    assert not any(repeated)
    assert lives.lives.keys() == {(0, 1), (0, 2)}
    assert lives.lives[0, 1] == fed(started(1), ready(1), ended(1)).lives[0, 1]
    assert (lives.starts[0].processes, lives.starts[0].failed, lives.starts[0].init_seconds) == (2, 1, 1.5)


def test_the_first_end_stands() -> None:
    lives = fed(started(1), ended(1, 15, "its worker is gone"))
    assert not lives.add(ended(1, 40, "the step run is over"))
    assert (lives.lives[0, 1].ended, lives.lives[0, 1].why) == (15, "its worker is gone")


def test_memory_is_bounded_and_sums_are_not() -> None:
    lives = fed(*(event for number in range(1000) for event in (started(number), ready(number), ended(number))), most=5)
    assert len(lives.lives) == 5
    assert (lives.starts[0].processes, lives.starts[0].init_seconds) == (1000, 1500.0)


def test_what_lived_when_a_part_was_broken_off_has_an_end_that_nobody_knows() -> None:
    lives = fed(started(1), ready(1), started(2), ended(2))
    lives.break_off()
    assert [(life.ended, life.why) for life in lives.lives.values()] == [
        (None, BROKEN_OFF),
        (20, "it was killed by SIGSEGV"),
    ]
    lives.add(started(3))
    assert lives.lives[0, 3].why == ""

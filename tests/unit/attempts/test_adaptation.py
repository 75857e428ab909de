"""How many workers a step run asks a cluster for that adapts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.adaptation import workers_wanted
from prs_dask.attempts.places import Worker


def workers(*lanes: int) -> list[Worker]:
    return [Worker(f"tcp://w{number}", 0, max(1, each), each, 0.0) for number, each in enumerate(lanes)]


@pytest.mark.parametrize(
    ("mini_batches", "seconds", "lanes", "enough", "wanted"),
    [
        pytest.param(0, 1.0, (1, 1), None, 0, id="nothing to do"),
        pytest.param(1000, 1.0, (), None, 1, id="nobody knows how large a worker is"),
        pytest.param(1000, 1.0, (0,), 0, 1, id="nor where none can be used"),
        pytest.param(100, 1.0, (1,), None, 20, id="100 s of work in 5 s"),
        pytest.param(100, 1.0, (4,), None, 5, id="by workers with four lanes"),
        pytest.param(100, 1.0, (4, 2), None, 7, id="or three in the mean"),
        pytest.param(100, None, (1,), None, 10, id="half a second each, as Dask takes it"),
        pytest.param(3, 100.0, (1,), None, 3, id="no more than there are mini-batches"),
        pytest.param(5, 0.001, (1, 1), None, 1, id="next to nothing"),
        pytest.param(100, 1.0, (1, 1, 0), 2, 2, id="more would get no lane"),
    ],
)
def test_how_many_workers_end_what_there_is_in_five_seconds(
    mini_batches: int, seconds: float | None, lanes: tuple[int, ...], enough: int | None, wanted: int
) -> None:
    assert workers_wanted(mini_batches, seconds, 5.0, workers(*lanes), enough) == wanted


@given(
    st.integers(0, 10**7),
    st.none() | st.floats(0, 1e5),
    st.floats(0, 1e4),
    st.lists(st.integers(0, 64), max_size=5),
    st.none() | st.integers(1, 5),
)
def test_something_is_wanted_where_there_is_something_to_do_and_never_more_than_mini_batches(
    mini_batches: int, seconds: float | None, horizon: float, lanes: list[int], enough: int | None
) -> None:
    wanted = workers_wanted(mini_batches, seconds, horizon, workers(*lanes), enough)
    assert (wanted > 0) == (mini_batches > 0)
    assert wanted <= mini_batches
    assert enough is None or wanted <= enough

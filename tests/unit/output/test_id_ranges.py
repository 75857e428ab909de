"""Sets of ids as ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.output.id_ranges import IdSet, decode_ranges, encode_ranges, to_ranges

ids = st.sets(st.integers(0, 300))
spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted).map(tuple)


def test_text_of_ranges_includes_both_ends() -> None:
    assert encode_ranges([(0, 100), (105, 106)]) == "0-99,105"
    assert decode_ranges("0-99,105") == [(0, 100), (105, 106)]
    assert encode_ranges([]) == ""
    assert decode_ranges("") == []


@given(ids)
def test_ids_survive_ranges_and_text(numbers: set[int]) -> None:
    ranges = to_ranges(numbers)
    assert decode_ranges(encode_ranges(ranges)) == ranges
    assert list(IdSet(ranges)) == sorted(numbers)
    assert all(left[1] < right[0] for left, right in pairwise(ranges))


@given(st.lists(st.integers(0, 20)))
def test_an_id_that_stands_there_twice_is_refused(numbers: list[int]) -> None:
    if len(set(numbers)) == len(numbers):
        assert list(IdSet(to_ranges(numbers))) == sorted(numbers)
    else:
        with pytest.raises(ValueError, match="twice"):
            to_ranges(numbers)


def test_a_negative_id_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        to_ranges([3, -1])


@pytest.mark.parametrize("text", ["1-", "-1", "a", "5-3", "3,2", "1-4,4", "1,,2", "1 ", "٣", "1-2-3"])
def test_text_that_is_no_list_of_ranges_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        decode_ranges(text)


@given(st.lists(st.tuples(st.booleans(), spans)), spans)
def test_the_set_behaves_like_a_set(steps: list[tuple[bool, tuple[int, int]]], probe: tuple[int, int]) -> None:
    compact, plain = IdSet(), set[int]()
    for is_added, (start, stop) in steps:
        if is_added:
            compact.add(start, stop)
            plain |= set(range(start, stop))
        else:
            compact.discard(start, stop)
            plain -= set(range(start, stop))
        assert list(compact) == sorted(plain)
        assert len(compact) == len(plain)
        assert compact.ranges() == to_ranges(plain)
    hit = sorted(plain & set(range(*probe)))
    assert compact.overlap(*probe) == (hit[0] if hit else None)
    assert (probe[0] in compact) == (probe[0] in plain)


def test_a_million_ids_in_order_are_one_range() -> None:
    numbers = IdSet()
    for start in range(0, 1_000_000, 1000):
        numbers.add(start, start + 1000)
    assert numbers.ranges() == [(0, 1_000_000)]
    assert numbers == IdSet([(0, 1_000_000)])
    assert repr(numbers) == "IdSet('0-999999')"

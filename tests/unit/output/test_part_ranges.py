"""Items of a bisected mini-batch: each ends once, and what is left is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.mini_batches import Part
from prs_dask.output.part_ranges import ItemRanges


@given(st.integers(1, 30), st.data())
def test_what_is_left_is_what_has_not_ended(of, data):
    ranges = ItemRanges(of)
    finished, failed = set(), set()
    while data.draw(st.booleans()):
        start = data.draw(st.integers(0, of - 1))
        part = Part(3, start, data.draw(st.integers(start + 1, of)), of)
        items = set(range(part.start, part.stop))
        bad = data.draw(st.booleans())
        before = ranges.copy()
        if items & (finished | failed):
            with pytest.raises(ValueError, match="of mini-batch 3 was committed before"):
                ranges.add(part, failed=bad)
            assert ranges == before
            continue
        ranges.add(part, failed=bad)
        (failed if bad else finished).update(items)
        assert set(ranges.finished) == finished
        assert set(ranges.failed) == failed
        assert before != ranges
    left = [item for start, stop in ranges.left() for item in range(start, stop)]
    assert left == sorted(set(range(of)) - finished - failed)
    assert ranges.is_complete == (not left)


@pytest.mark.parametrize("part", [Part(3, 0, 2, 9), Part(3, 3, 3, 8), Part(3, 4, 9, 8), Part(3, -1, 2, 8)])
def test_a_part_of_another_size_is_refused(part):
    with pytest.raises(ValueError, match="no part of a mini-batch of 8 items"):
        ItemRanges(8).add(part, failed=False)

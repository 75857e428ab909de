"""Parts of mini-batches: their names, their halves, and what they hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.mini_batches import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    Part,
    PartMiniBatch,
    TextMiniBatch,
    decode,
    encode,
)


@given(st.integers(0, 1000), st.integers(2, 1000), st.data())
def test_halves_are_all_of_a_part_and_none_is_empty(number, of, data):
    start = data.draw(st.integers(0, of - 2))
    stop = data.draw(st.integers(start + 2, of))
    part = Part(number, start, stop, of)
    left, right = part.halves()
    assert (left.start, left.stop, right.stop) == (start, right.start, stop)
    assert left.items + right.items == part.items
    assert 0 <= right.items - left.items <= 1
    assert left.items >= 1


def test_a_part_is_shown_with_its_items():
    assert str(Part(7, 3, 5, 10)) == "7[3:5]"


@given(st.integers(2, 40), st.booleans(), st.data())
def test_files_of_a_part_of_a_part_are_those_of_the_whole(count, with_versions, data):
    paths = tuple(map(str, range(count)))
    versions = tuple(f"v{path}" for path in paths) if with_versions else ()
    one = BisectedMiniBatch.of(FileMiniBatch(0, paths, versions, ("key",)), Part(7, 0, count, count))
    while one.part.items > 1:
        half = data.draw(st.sampled_from(one.part.halves()))
        one = decode(encode(BisectedMiniBatch.of(one, half)))
        assert one.part == half
        items = slice(half.start, half.stop)
        assert one.source == FileMiniBatch(0, paths[items], versions[items], ("key",))
        assert (one.input, one.items, one.values) == (0, half.items, ("key",))


def test_of_a_table_a_part_reads_all():
    table = TextMiniBatch(2, "a.csv", 5, 9)
    half = BisectedMiniBatch.of(table, Part(7, 0, 4, 9))
    quarter = decode(encode(BisectedMiniBatch.of(half, Part(7, 2, 4, 9))))
    assert quarter == BisectedMiniBatch(table, Part(7, 2, 4, 9))
    assert type(quarter.source) is TextMiniBatch
    assert (quarter.input, quarter.items, quarter.values) == (2, 2, ())


def test_a_group_of_files_by_their_keys_stays_whole_in_its_parts():
    group = PartMiniBatch(0, (TextMiniBatch(0, "a", 0, 9), TextMiniBatch(0, "b", 0, 9)), ("x",), ("str",))
    assert decode(encode(BisectedMiniBatch.of(group, Part(1, 0, 1, 3)))).source == group


def test_the_detail_of_a_part_names_the_very_item():
    files = FileMiniBatch(0, ("a", "b", "c"))
    assert BisectedMiniBatch.of(files, Part(7, 1, 2, 3)).detail == "b"
    assert BisectedMiniBatch.of(files, Part(7, 1, 3, 3)).detail == "2 files: b .. c"
    table = TextMiniBatch(0, "a.csv", 5, 9)
    assert BisectedMiniBatch.of(table, Part(7, 3, 4, 10)).detail == "a.csv bytes 5..9, row 3"
    assert BisectedMiniBatch.of(table, Part(7, 3, 5, 10)).detail == "a.csv bytes 5..9, rows 3..5"
    frame = FrameMiniBatch(0, b"", 100, 10)
    assert BisectedMiniBatch.of(frame, Part(7, 3, 4, 10)).detail == "row 103"
    assert BisectedMiniBatch.of(frame, Part(7, 3, 5, 10)).detail == "rows 103..105"

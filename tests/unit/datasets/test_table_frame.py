"""A DataFrame of a table is that of ``Table.to_pandas``, and its own."""

from __future__ import annotations

import sys

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets.table_frame import to_frame

VALUES = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=4),
    pa.large_string(): st.text(max_size=4),
}


@st.composite
def tables(draw) -> pa.Table:
    count = draw(st.integers(0, 5))
    columns = []
    for kind in draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6)):
        missing = st.none() if draw(st.booleans()) else st.nothing()
        column = pa.array(draw(st.lists(missing | VALUES[kind], min_size=count, max_size=count)), kind)
        columns.append(pa.chunked_array([column[:2], column[2:]]) if draw(st.booleans()) else column)
    return pa.table(columns, names=[f"é {number}" for number in range(len(columns))])


@settings(max_examples=150)
@given(tables())
def test_a_frame_equals_that_of_to_pandas(table):
    pd.testing.assert_frame_equal(to_frame(table), table.to_pandas(use_threads=False), check_column_type="exact")


@settings(max_examples=60)
@given(tables())
def test_all_of_a_frame_can_be_written_to_and_the_table_stays_as_it_was(table):
    before, frame = table.to_pandas(), to_frame(table)
    if len(frame):
        for name in frame:
            frame.loc[0, name] = frame[name].iloc[-1]
    pd.testing.assert_frame_equal(table.to_pandas(), before)
    pd.testing.assert_frame_equal(to_frame(table), before)


def test_what_is_done_to_the_columns_of_one_frame_is_not_seen_in_the_next():
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    frame = to_frame(table)
    frame.columns.name = "mine"
    frame["c"] = 1
    del frame["a"]
    assert list(to_frame(table)) == ["a", "b"]
    assert to_frame(table).columns.name is None


def test_columns_of_one_type_lie_together():
    blocks = to_frame(pa.table({"a": [1.0], "b": [1], "c": [2.0]}))._mgr.blocks  # type: ignore[attr-defined]
    assert sorted(block.shape[0] for block in blocks) == [1, 2]


def test_before_pandas_3_a_frame_is_that_of_to_pandas(monkeypatch: pytest.MonkeyPatch):
    class Table:
        def to_pandas(self, *, use_threads: bool) -> str:
            return f"made by to_pandas with use_threads={use_threads}"

    monkeypatch.setitem(sys.modules, "pandas.api.internals", None)
    assert to_frame(Table()) == "made by to_pandas with use_threads=False"

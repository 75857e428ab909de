"""Values and types of delimited text: those of ``pandas.read_csv``, where both are defined."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets import delimited
from prs_dask.datasets.delimited import _NULLS, Block, infer_types, parse
from prs_dask.datasets.read_spec import ReadError, ReadSpec

NAMES = ("a", "b")
INTEGERS = st.integers(-(10**17), 10**17).map(str)  # longer ones keep their digits, unlike with pandas
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
WORDS = st.text(st.sampled_from('xyz é,"\n'), min_size=1, max_size=5)
NULLS = st.sampled_from(_NULLS)
TRUTH = st.sampled_from(["True", "False", "TRUE", "false"])
OTHERS = st.sampled_from(["2024-01-02", "007", "1e3", "inf", "-Infinity"])
CELLS = [INTEGERS, FLOATS, WORDS, TRUTH, OTHERS]


@st.composite
def columns(draw, count: int) -> list[str]:
    """Mostly of one kind; now and then another, or a missing value."""
    kind = draw(st.sampled_from(CELLS))
    cell = st.one_of(kind, kind, kind, NULLS, draw(st.sampled_from([kind, *CELLS])))
    return draw(st.lists(cell, min_size=count, max_size=count))


@st.composite
def texts(draw) -> bytes:
    count = draw(st.integers(1, 6))
    rows = zip(*[draw(columns(count)) for _ in NAMES], strict=True)
    frame = pd.DataFrame(list(rows), columns=NAMES)
    return frame.to_csv(header=False, index=False).encode()


@settings(max_examples=400)
@given(texts())
def test_a_block_read_by_itself_has_the_values_and_types_that_pandas_gives(data):
    spec = ReadSpec("delimited", names=NAMES)
    block = Block(data, NAMES, "t.csv", lambda: 1)
    found = parse(block, spec._replace(column_types=infer_types(block, spec)))
    expected = pd.read_csv(io.BytesIO(data), names=NAMES, header=None)
    for name in [name for name in found if str(found[name].dtype) == "object"]:
        # Truth values and missing ones, which are None here and NaN there.
        found[name] = found[name].where(found[name].notna(), float("nan"))
    pd.testing.assert_frame_equal(found, expected)


def test_a_large_block_is_read_in_pieces_and_a_row_too_large_for_one_is_an_error(monkeypatch):
    spec = ReadSpec("delimited", names=NAMES, column_types=(("a", "int64"), ("b", "str")))
    block = Block(b'1,"x\ny"\n2,y\n3,z\n' * 50, NAMES, "t.csv", lambda: 7)
    whole = parse(block, spec)
    monkeypatch.setattr(delimited, "_LARGEST", 20)
    pd.testing.assert_frame_equal(parse(block, spec), whole)
    monkeypatch.setattr(delimited, "_MOST", 60)
    assert len(parse(block, spec)) == 150
    large = Block(b"1,x\n" * 10 + b"2," + b"y" * 70 + b"\n", NAMES, "t.csv", lambda: 7)
    with pytest.raises(ReadError, match=r"t.csv, from line 13 on: found a row of up to \d+ bytes"):
        parse(large, spec)

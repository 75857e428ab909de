"""What comes out equals what went in, wherever it is cut."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets.frames import check_columns, from_bytes, pieces, rows_of_pieces, to_bytes
from prs_dask.errors import InputError

COLUMNS: dict[str, Any] = {
    "text as object": pd.Series(["a", None, "ü\n,"], dtype=object),
    "text as str": pd.Series(["a", None, "c"], dtype="str"),
    "text as string": pd.array(["a", None, "c"], dtype="string"),
    "numbers as object": pd.Series([1, None, 2**60 + 1], dtype=object),
    "truth as object": pd.Series([True, None, False], dtype=object),
    "nullable": pd.array([1, None, 2**60 + 1], dtype="Int64"),
    "nullable truth": pd.array([True, None, False], dtype="boolean"),
    "small": np.array([1, 2, 3], "int8"),
    "float": [0.1, float("nan"), float("inf")],
    "float32": np.array([0.1, 2, 3], "float32"),
    "categories": pd.Categorical(["u", None, "v"], categories=["w", "v", "u"], ordered=True),
    "number categories": pd.Categorical([3, 1, 3]),
    "time zone": pd.date_range("2026-03-29", periods=3, freq="h", tz="Europe/Berlin"),
    "seconds": np.array(["2020-01-01", "1700-01-01", "NaT"], "datetime64[s]"),
    "time delta": pd.to_timedelta([1, None, 3], unit="s"),
    "period": pd.period_range("2020", periods=3, freq="M"),
    "interval": pd.interval_range(0, 3),
    "dates": [dt.date(2020, 1, 1), None, dt.date(1, 1, 1)],
    "decimals": [Decimal("1.10"), None, Decimal("2.00")],
    "bytes": [b"\xff", b"", None],
    "arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
    "nothing": pd.Series([None, None, None], dtype=object),
}


def again(frame: pd.DataFrame, size: int = 1 << 20) -> list[pd.DataFrame]:
    return [from_bytes(to_bytes(piece)) for piece in pieces(frame, size)]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_column_keeps_its_values_and_its_dtype(name: str, size: int) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]})
    found = again(frame, size)
    assert len(found) == (3 if size == 1 and name != "nothing" else 1)
    place = 0
    for one in found:
        pd.testing.assert_frame_equal(one, frame.iloc[place : place + len(one)], check_index_type="exact")
        place += len(one)
    assert [value is None for one in found for value in one[name]] == [value is None for value in frame[name]]


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(10, 40, 10),
        pd.Index(["a", "b", "a"], dtype=object, name="key"),
        pd.Index(["a", "b", "c"]),
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["n", None]),
        pd.CategoricalIndex(["x", "y", "x"]),
    ],
    ids=repr,
)
def test_so_does_the_index(index: pd.Index[Any]) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=index)
    pd.testing.assert_frame_equal(pd.concat(again(frame, 8)), frame, check_freq=False, check_index_type=False)
    for number, one in enumerate(again(frame, 8)):
        pd.testing.assert_frame_equal(one, frame.iloc[number : number + 1], check_freq=False)


@pytest.mark.parametrize(
    "columns", [[1, 2], ["a", "a"], [0, "0"], [("a", 1), ("b", 2)], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])]
)
def test_so_do_column_names_of_any_kind(columns: Any) -> None:
    frame = pd.DataFrame([[1, "x"], [2, "y"]])
    frame.columns = columns
    pd.testing.assert_frame_equal(again(frame)[0], frame)
    check_columns(frame)


def test_lists_come_as_arrays() -> None:
    [frame] = again(pd.DataFrame({"a": [[1, 2], []]}))
    assert [list(value) for value in frame["a"]] == [[1, 2], []]
    assert isinstance(frame["a"][0], np.ndarray)


@pytest.mark.parametrize(
    "values",
    [[1, "a"], [1j], [object()], [2**70], [pd.Timestamp("2020"), "x"], pd.arrays.SparseArray([0, 0, 1])],
    ids=["mixed", "complex", "object", "huge", "times and text", "sparse"],
)
def test_what_arrow_cannot_carry_is_refused_with_the_column_named(values: Any) -> None:
    frame = pd.DataFrame({"good": range(len(values)), "bad one": values, ("also", "good"): 1.5, "worse": values})
    with pytest.raises(InputError) as caught:
        check_columns(frame)
    assert [fault.name for fault in caught.value.faults] == ["column 'bad one'", "column 'worse'"]


def test_an_index_that_arrow_cannot_carry_is_named_too() -> None:
    with pytest.raises(InputError, match="^index: "):
        check_columns(pd.DataFrame({"a": [1, 2]}, index=pd.Index([1, "a"], dtype=object)))


@settings(max_examples=60)
@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=40),
    st.integers(1, 200),
)
def test_pieces_are_as_large_as_they_may_and_hold_every_row_once_in_order(texts: list[str], size: int) -> None:
    frame = pd.DataFrame({"text": texts, "number": range(len(texts))})
    found = list(pieces(frame, size))
    frames = [from_bytes(to_bytes(piece)) for piece in found]
    assert [number for one in frames for number in one["number"]] == list(range(len(texts)))
    assert [piece.first for piece in found] == [one["number"].iloc[0] for one in frames]
    assert all(piece.table.num_rows == 1 or piece.table.nbytes <= size for piece in found)
    assert all(piece.table.nbytes + one.table.slice(0, 1).nbytes > size for piece, one in pairwise(found))
    assert rows_of_pieces(frame, size) == rows_of_pieces(frame.copy(), size)


def test_where_it_is_cut_does_not_depend_on_how_much_is_converted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"text": ["x" * (number * 7 % 50) for number in range(500)], "n": range(500)})
    whole = rows_of_pieces(frame, 700)
    monkeypatch.setattr("prs_dask.datasets.frames._first_block", lambda frame, size: 3)
    assert rows_of_pieces(frame, 700) == whole
    assert len(whole) > 20


def test_categories_do_not_count_against_the_size() -> None:
    frame = pd.DataFrame({"c": pd.Categorical(["x" * 10_000] * 100)})
    assert rows_of_pieces(frame, 200) == [(0, 100)]

"""Records of places and their external sort."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.errors import EngineError, OutputError
from prs_dask.output.order_file import OrderFile, Place


@settings(max_examples=50)
@given(ids=st.lists(st.integers(0, 2**40), unique=True, max_size=60), run_records=st.integers(1, 20))
def test_places_come_back_in_input_order(ids: list[int], run_records: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        order = OrderFile(Path(folder) / "order", run_records=run_records)
        order.append(ids, range(len(ids)), [1] * len(ids))
        assert [place.mini_batch for place in order.sorted_places()] == sorted(ids)
        assert {(place.mini_batch, place.offset) for place in order.sorted_places()} == set(
            zip(ids, range(len(ids)), strict=True)
        )
        assert order.is_in_order() == (ids == sorted(ids))
        order.close()


def test_mini_batches_without_rows_have_no_record(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order")
    order.append([1, 2, 3], [0, 4, 4, 8], [4, 0, 4])
    assert order.count == 2
    assert list(order.sorted_places()) == [Place(1, 0, 0, 4), Place(3, 0, 4, 4)]
    order.close()


def test_a_mini_batch_that_stands_there_twice_is_a_fault_of_ours(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order", run_records=1)
    order.append([1, 2, 1], [0, 1, 2], [1, 1, 1])
    with pytest.raises(EngineError, match=r"mini-batch 1 .* twice"):
        list(order.sorted_places())
    order.close()


def test_what_the_journal_does_not_know_is_cut_off(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order")
    order.append([1, 2, 3], [0, 1, 2], [1, 1, 1])
    order.close()
    order = OrderFile(tmp_path / "order", count=2)
    assert [place.mini_batch for place in order.sorted_places()] == [1, 2]
    order.close()


def test_records_that_the_journal_knows_and_are_gone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="0 records; allowed: at least the 2"):
        OrderFile(tmp_path / "order", count=2)

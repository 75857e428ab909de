"""DataFrames in memory as inputs: where they are cut, what is refused, and that they are never all held twice."""

from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask import delayed

from prs_dask import InputError, SettingsError, TabularDataset
from prs_dask.datasets.reading import read
from prs_dask.mini_batches import FrameMiniBatch, decode, encode

FRAME = pd.DataFrame(
    {"n": range(100), "text": [f"row {n}" for n in range(100)], "kind": pd.Categorical(["a", "b"] * 50)},
    index=pd.Index(range(1000, 1100), name="key"),
)


def frames(dataset: TabularDataset, size: int) -> list[pd.DataFrame]:
    mini_batches = [decode(encode(one)) for one in dataset.mini_batches(size, 3)]
    assert all(isinstance(one, FrameMiniBatch) and one.input == 3 for one in mini_batches)
    found = [read(one, dataset.reader()) for one in mini_batches]
    assert [one.items for one in mini_batches] == [len(one) for one in found]
    return found  # type: ignore[return-value]


def test_a_frame_is_cut_into_slices_of_itself() -> None:
    dataset = TabularDataset.from_pandas(FRAME)
    dataset.check()
    found = frames(dataset, 400)
    assert len(found) > 5
    pd.testing.assert_frame_equal(pd.concat(found), FRAME)
    place = 0
    for one, mini_batch in zip(found, dataset.mini_batches(400), strict=True):
        pd.testing.assert_frame_equal(one, FRAME.iloc[place : place + len(one)])
        assert mini_batch.detail == f"rows {place}..{place + len(one)}"
        place += len(one)
    assert list(dataset.files()) == []


def test_each_reading_gives_a_frame_of_its_own() -> None:
    dataset = TabularDataset.from_pandas(FRAME)
    [mini_batch] = dataset.plan()
    one = read(mini_batch, dataset.reader())
    one.loc[1000, "n"] = -1  # type: ignore[union-attr]
    pd.testing.assert_frame_equal(read(mini_batch, dataset.reader()), FRAME)  # type: ignore[arg-type]


def test_what_is_done_to_the_frame_afterwards_changes_nothing() -> None:
    frame = FRAME.copy()
    dataset = TabularDataset.from_pandas(frame)
    frame["n"] = 0
    frame["new"] = 1
    pd.testing.assert_frame_equal(pd.concat(frames(dataset, 1 << 20)), FRAME)


def test_its_texts_show_no_rows() -> None:
    dataset = TabularDataset.from_pandas(FRAME)
    assert "row 1" not in repr(dataset) + repr(dataset.plan())
    assert dataset == TabularDataset.from_pandas(FRAME.head())  # rows are not compared
    assert hash(dataset)


@pytest.mark.parametrize("frame", [FRAME.head(0), pd.DataFrame(index=[1, 2])])
def test_a_frame_with_nothing_in_it_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="a DataFrame with no (rows|columns)"):
        TabularDataset.from_pandas(frame).check()


def test_what_arrow_cannot_carry_is_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="column 'mixed': found dtype object"):
        TabularDataset.from_pandas(pd.DataFrame({"n": range(50_000), "mixed": [1] * 49_999 + ["a"]})).check()


@pytest.mark.parametrize("wrong", [FRAME["n"], {"a": [1]}, "data.csv", dd.from_pandas(FRAME, 2)])
def test_what_is_no_frame_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match="df: found a"):
        TabularDataset.from_pandas(wrong)  # type: ignore[arg-type]
    if not isinstance(wrong, dd.DataFrame):
        with pytest.raises(SettingsError, match="ddf: found a"):
            TabularDataset.from_dask(wrong)


def test_partitions_of_dask_are_mini_batches_and_large_ones_are_cut() -> None:
    dataset = TabularDataset.from_dask(dd.from_pandas(FRAME, npartitions=4))
    dataset.check()
    whole, small = frames(dataset, 1 << 20), frames(dataset, 500)
    assert [len(one) for one in whole] == [25, 25, 25, 25]
    assert len(small) > 4
    assert [one.detail for one in dataset.mini_batches(1 << 20)][1] == "rows 25..50"
    for found in (whole, small):
        pd.testing.assert_frame_equal(pd.concat(found).astype({"text": "str"}), FRAME)


def test_partitions_are_computed_as_they_are_asked_for_and_empty_ones_give_none() -> None:
    computed: list[int] = []

    def part(number: int) -> pd.DataFrame:
        computed.append(number)
        return pd.DataFrame({"n": np.arange(number)})

    parts = [delayed(part)(number) for number in (2, 0, 3, 1)]
    dataset = TabularDataset.from_dask(dd.from_delayed(parts, meta={"n": "int64"}, verify_meta=False))
    dataset.check()
    assert computed == []
    mini_batches = dataset.mini_batches(1 << 20)
    assert next(mini_batches).items == 2
    assert computed == [2]
    assert [one.items for one in mini_batches] == [3, 1]
    assert computed == [2, 0, 3, 1]


def test_a_partition_that_arrow_cannot_carry_is_told_when_its_turn_comes() -> None:
    parts = [delayed(pd.DataFrame)({"good": [1], "mixed": values}) for values in ([1], ["a"], [1j])]
    meta = pd.DataFrame({"good": [1], "mixed": pd.Series([1], dtype=object)})
    dataset = TabularDataset.from_dask(dd.from_delayed(parts, meta=meta, verify_meta=False))
    mini_batches = dataset.mini_batches(1 << 20)
    assert [next(mini_batches).items, next(mini_batches).items] == [1, 1]
    with pytest.raises(InputError, match="column 'mixed': found dtype complex128"):
        next(mini_batches)


@pytest.mark.parametrize("dataset", ["pandas", "dask"])
@pytest.mark.parametrize("size", [500, 1 << 20])
def test_partition_i_of_to_dask_is_mini_batch_i(dataset: str, size: int) -> None:
    made = TabularDataset.from_pandas(FRAME)
    if dataset == "dask":
        made = TabularDataset.from_dask(dd.from_pandas(FRAME, npartitions=3))
    collection = made.to_dask(size)
    expected = frames(made, size)
    assert collection.npartitions == len(expected)
    for number, one in enumerate(expected):
        found = collection.partitions[number].compute(scheduler="threads")
        pd.testing.assert_frame_equal(found, one)


def test_to_pandas_and_take() -> None:
    dataset = TabularDataset.from_pandas(FRAME)
    pd.testing.assert_frame_equal(dataset.to_pandas(), FRAME.reset_index(drop=True))
    assert len(dataset.take(7)) == 7

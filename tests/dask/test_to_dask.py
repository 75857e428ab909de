"""to_dask: partition i is what run() would get of mini-batch i, read where it is computed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets.reading import read

FRAME = pd.DataFrame(
    {
        "id": range(300),
        "text": [f"a, {n}" for n in range(300)],
        "part": pd.Series([f"{n}" for n in range(300)], dtype=object),
        "value": [n / 7 for n in range(300)],
    }
)


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with Client(processes=request.param == "processes", **settings) as client:
        yield client


def delimited(folder: Path) -> TabularDataset:
    for name in ("a", "b"):
        FRAME.to_csv(folder / f"{name}.csv", index=False)
    return TabularDataset.from_delimited_files(folder / "*.csv", include_path=True)


def json_lines(folder: Path) -> TabularDataset:
    FRAME.to_json(folder / "a.jsonl", orient="records", lines=True)
    return TabularDataset.from_json_lines_files(folder / "a.jsonl")


def parquet(folder: Path) -> TabularDataset:
    FRAME.to_parquet(folder / "a.parquet", row_group_size=70)
    return TabularDataset.from_parquet_files(folder / "a.parquet")


def query(folder: Path) -> TabularDataset:
    connection = sqlite3.connect(folder / "a.db")
    FRAME.to_sql("t", connection, index=False)
    connection.close()
    return TabularDataset.from_sql_query(f"sqlite:///{folder}/a.db", "select * from t")


def in_memory(folder: Path) -> TabularDataset:
    return TabularDataset.from_pandas(FRAME)


def of_dask(folder: Path) -> TabularDataset:
    return TabularDataset.from_dask(dd.from_pandas(FRAME, npartitions=3))


def mltable(folder: Path) -> TabularDataset:
    FRAME.to_csv(folder / "a.csv", index=False)
    (folder / "MLTable").write_text(
        "paths: [{file: a.csv}]\ntransformations: [read_delimited, keep_columns: [value, id]]\n"
    )
    return TabularDataset.from_mltable(folder)


@pytest.mark.parametrize("make", [delimited, json_lines, parquet, query, in_memory, of_dask, mltable])
def test_partition_i_is_mini_batch_i(make: Callable[[Path], TabularDataset], tmp_path: Path, client: Client) -> None:
    dataset = make(tmp_path)
    expected = [read(one, dataset.reader()) for one in dataset.mini_batches(2000)]
    frame = dataset.to_dask(2000)
    assert frame.npartitions == len(expected)
    assert len(expected) == (1 if make is query else len(expected)) > (0 if make is query else 1)
    for found, one in zip(client.gather(client.compute(list(frame.partitions))), expected, strict=True):
        pd.testing.assert_frame_equal(found, one)
    assert frame["id"].sum().compute() == sum(one["id"].sum() for one in expected)


def test_files_become_a_bag_of_paths(tmp_path: Path, client: Client) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("x" * number)
    dataset = FileDataset.from_files(tmp_path)
    bag = dataset.to_dask(3)
    assert bag.npartitions == 3
    assert bag.map_partitions(lambda part: [list(part)]).compute() == [list(one.paths) for one in dataset.plan(3)]
    assert bag.map(os.path.getsize).sum().compute() == 21


def test_data_is_read_when_it_is_computed_and_not_before(tmp_path: Path, client: Client) -> None:
    dataset = delimited(tmp_path)
    frame = dataset.to_dask()
    (tmp_path / "b.csv").write_text("id,text,part,value\n1,a,b,0.5\n" + " " * 0)
    os.truncate(tmp_path / "b.csv", 10)
    with pytest.raises(Exception, match=r"b\.csv"):
        frame.partitions[1].compute()
    assert len(frame.partitions[0].compute()) == 300


def test_nothing_gives_an_empty_frame(tmp_path: Path, client: Client) -> None:
    (tmp_path / "empty.csv").write_text("a,b\n")
    assert len(TabularDataset.from_delimited_files(tmp_path / "empty.csv").to_dask().compute()) == 0

"""How a dataset was read is kept without its secrets, and is the same when it is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets.dataset import Dataset
from prs_dask.datasets.kept_reader import kept_reader, reader_as_kept

SECRET = "canary-5f3a9b"


def make(folder: Path, kind: str) -> Dataset:
    frame = pd.DataFrame({"a": [1, 2], "b ü": ["x", None], "c": pd.Categorical(["u", "v"])})
    day = folder / "2024/05/01"
    day.mkdir(parents=True)
    frame.to_csv(day / "0.csv", index=False)
    frame.to_parquet(day / "0.parquet")
    frame[["a"]].to_json(day / "0.jsonl", orient="records", lines=True)
    keys = {"partition_format": "{day:yyyy/MM/dd}/{name}"}
    match kind:
        case "files":
            return FileDataset.from_files(folder).grouped_by([])
        case "grouped files":
            return FileDataset.from_files(folder, **keys).grouped_by(["name", "day"])
        case "delimited":
            return TabularDataset.from_delimited_files(folder / "**/*.csv", dtype={"a": "Int64"}, include_path=True)
        case "delimited with keys":
            return TabularDataset.from_delimited_files(folder / "**/*.csv", **keys).grouped_by(["day"])
        case "one header":
            return TabularDataset.from_delimited_files(folder / "**/*.csv", header="only_first_file")
        case "json lines":
            return TabularDataset.from_json_lines_files(folder / "**/*.jsonl")
        case "parquet":
            return TabularDataset.from_parquet_files(folder / "**/*.parquet", **keys)
        case "rows":
            return TabularDataset.from_pandas(frame)
    return TabularDataset.from_sql_query(
        f"sqlite:///{folder}/sales.db?password={SECRET}", "select :key", parameters={"key": SECRET}
    )


KINDS = [
    "files",
    "grouped files",
    "delimited",
    "delimited with keys",
    "one header",
    "json lines",
    "parquet",
    "rows",
    "query",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    dataset = make(tmp_path, kind)
    text = json.dumps(kept_reader(dataset.reader()))
    assert reader_as_kept(dataset, json.loads(text)) == dataset.reader()
    assert SECRET not in text


@pytest.mark.parametrize(
    "kept",
    [{}, {"kind": "parquet"}, {"kind": "delimited", "names": 7}, {"kind": "delimited", "column_types": [1]},
     {"kind": "delimited", "path_format": {"other": 1}}, {"kind": "delimited", "first_file": {}}],
)  # fmt: skip
def test_one_of_another_kind_and_a_damaged_one_are_refused(tmp_path: Path, kept: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="reader"):
        reader_as_kept(make(tmp_path, "delimited"), kept)


def test_one_of_a_table_is_none_of_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a reader of 'delimited', not of 'files'"):
        reader_as_kept(make(tmp_path, "files"), {"kind": "delimited"})

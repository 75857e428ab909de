"""MLTable folders, with files as Azure Machine Learning writes them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, SettingsError, TabularDataset
from prs_dask.datasets.mltable import read_mltable
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.reading import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a table, in a folder whose name looks like a pattern."""
    folder = tmp_path / "da[t]a"
    folder.mkdir()
    (folder / "a.csv").write_text("id,code,day,ok\n1,007,31/12/2025,yes\n2,008,,no\n")
    (folder / "b.csv").write_text("id,code,day,ok\n3,010,01.02.2026,1\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "c.csv").write_text("id,code,day,ok\n4,011,02/02/2026,\n")
    return folder


def written(folder: Path, text: str) -> Path:
    (folder / "MLTable").write_text(textwrap.dedent(text))
    return folder


def table(folder: Path, text: str) -> pd.DataFrame:
    return TabularDataset.from_mltable(written(folder, text)).to_pandas()


AUTHORED = """
$schema: https://azuremlschemas.azureedge.net/latest/MLTable.schema.json

type: mltable
paths:
    - pattern: ./*.csv
    - folder: ./sub

transformations:
    - read_delimited:
        delimiter: ','
        encoding: ascii
        header: all_files_same_headers
        include_path_column: true
        empty_as_string: false
"""

SAVED = """
metadata:
  infer_column_types: 'False'
paths:
- file: a.csv
- pattern: b.*
transformations:
- read_delimited:
    delimiter: ','
    empty_as_string: false
    encoding: utf8
    header: all_files_same_headers
    include_path_column: false
    infer_column_types: false
    partition_size: 20971520
    path_column: Path
    support_multi_line: false
- convert_column_types:
  - column_type: int
    columns: id
  - column_type:
      datetime:
        formats:
        - '%d/%m/%Y'
        - '%d.%m.%Y'
    columns:
    - day
  - column_type: boolean
    columns: ok
- drop_columns: code
type: mltable
"""


def test_a_file_as_people_write_it(folder: Path) -> None:
    frame = table(folder, AUTHORED)
    assert frame["id"].tolist() == [1, 2, 3, 4]
    assert frame["Path"].tolist() == [str(folder / name) for name in ("a.csv", "a.csv", "b.csv", "sub/c.csv")]


def test_a_file_as_the_sdk_saves_it(folder: Path) -> None:
    frame = table(folder, SAVED)
    assert list(frame.columns) == ["id", "day", "ok"]
    assert frame["id"].tolist() == [1, 2, 3]
    assert str(frame["id"].dtype) == "Int64"
    assert frame["day"].tolist() == [pd.Timestamp("2025-12-31"), pd.NaT, pd.Timestamp("2026-02-01")]
    assert frame["ok"].tolist() == [True, False, True]


def test_the_folder_may_be_named_by_its_file_and_files_come_block_by_block(folder: Path) -> None:
    dataset = TabularDataset.from_mltable(written(folder, AUTHORED) / "MLTable")
    assert len(dataset.plan(8)) == 4
    dataset.check()


def test_columns_are_kept_in_the_order_asked_for(folder: Path) -> None:
    frame = table(folder, "paths: [{file: a.csv}]\ntransformations: [read_delimited, keep_columns: [code, id]]")
    assert list(frame.columns) == ["code", "id"]


def test_text_stays_text_where_it_is_converted_to_text(folder: Path) -> None:
    conversion = "convert_column_types: [{columns: code, column_type: string}]"
    frame = table(folder, f"paths: [{{file: a.csv}}]\ntransformations: [read_delimited, {conversion}]")
    assert frame["code"].tolist() == ["007", "008"]


def test_large_integers_keep_their_digits(folder: Path) -> None:
    (folder / "d.csv").write_text('id\n9007199254740993\n""\n')
    conversion = "convert_column_types: [{columns: [id], column_type: int}]"
    frame = table(folder, f"paths: [{{file: d.csv}}]\ntransformations: [read_delimited, {conversion}]")
    assert frame["id"][0] == 9007199254740993
    assert frame["id"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("int", "column 'day'.*31/12/2025"),
        ("boolean", "column 'day': found '31/12/2025'; allowed: boolean"),
        ("{datetime: {formats: ['%Y']}}", "column 'day': found '31/12/2025'; allowed: a date like %Y"),
    ],
)
def test_a_value_that_does_not_fit_its_type_fails_its_mini_batch(folder: Path, kind: str, told: str) -> None:
    conversion = f"convert_column_types:\n  - columns: day\n    column_type: {kind}"
    text = f"paths: [{{file: a.csv}}]\ntransformations:\n- read_delimited\n- {conversion}"
    dataset = TabularDataset.from_mltable(written(folder, text))
    with pytest.raises(ReadError, match=told):
        read(dataset.plan()[0], dataset.reader())


def test_a_column_that_is_not_there_fails_its_mini_batch_and_says_which_are(folder: Path) -> None:
    dataset = TabularDataset.from_mltable(
        written(folder, "paths: [{file: a.csv}]\ntransformations: [read_delimited, drop_columns: [nope]]")
    )
    with pytest.raises(ReadError, match=r"a\.csv: found no column 'nope'; there are: id, code, day, ok"):
        read(dataset.plan()[0], dataset.reader())


def test_json_lines_and_parquet(folder: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "t": ["a", "b"]})
    frame.to_json(folder / "x.jsonl", orient="records", lines=True)
    frame.to_parquet(folder / "x.parquet")
    lines = "paths: [{file: ./x.jsonl}]\ntransformations: [read_json_lines: {encoding: utf8, invalid_lines: error}]"
    pd.testing.assert_frame_equal(table(folder, lines), frame)
    parquet = "paths: [{file: ./x.parquet}]\ntransformations: [{read_parquet: {include_path_column: false}}]"
    pd.testing.assert_frame_equal(table(folder, parquet), frame)


def test_without_a_reader_it_means_files_and_the_mltable_file_is_none(folder: Path) -> None:
    dataset = FileDataset.from_mltable(written(folder, "type: mltable\npaths:\n- folder: ./\n"))
    names = [os.path.relpath(path, folder) for path in dataset.files()]
    assert names == ["a.csv", "b.csv", "sub/c.csv"]
    assert [path for batch in dataset.plan(2) for path in batch.paths] == list(dataset.files())  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match=r"FileDataset\.from_mltable"):
        TabularDataset.from_mltable(folder)
    assert isinstance(read_mltable(folder), FileDataset)
    with pytest.raises(SettingsError, match=r"TabularDataset\.from_mltable"):
        FileDataset.from_mltable(written(folder, AUTHORED))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "MLTable: found no mapping"),
        ("[1, 2]", "MLTable: found no mapping"),
        ("paths: [{file: a.csv}]\nversion: 2", "MLTable: version: found an unknown key"),
        ("type: uri_folder\npaths: [{file: a.csv}]", "MLTable: type: found 'uri_folder'; allowed: mltable"),
        ("transformations: [read_parquet]", "paths: found nothing"),
        ("paths: [a.csv]", "paths: found 'a.csv'"),
        ("paths: [{file: a.csv, folder: b}]", "paths: found {'file'"),
        (
            "paths: [{file: a.csv}]\ntransformations: [take: 5]",
            "transformations: found 'take'; allowed: one of read_delim",
        ),
        ("paths: [{file: a.csv}]\ntransformations: [filter: 'col(1)']", "transformations: found 'filter'"),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_parquet, read_delimited]",
            "a second reader after read_parquet",
        ),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_parquet: {version: 1}]",
            "read_parquet: version: found an unknown",
        ),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_delimited: {header: some}]",
            "read_delimited: header: found 'some'",
        ),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_delimited: {encoding: x}]",
            "encoding: found 'x'; allowed: utf8",
        ),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_delimited: {empty_as_string: true}]",
            "empty_as_string: found True",
        ),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_json_lines: {invalid_lines: drop}]",
            "invalid_lines: found 'drop'",
        ),
        ("paths: [{file: a.csv}]\ntransformations: [keep_columns: a]", "changes of columns without a reader"),
        (
            "paths: [{file: a.csv}]\ntransformations: [read_parquet, convert_column_types: "
            "[{columns: a, column_type: datetime}]]",
            "datetime: found no formats",
        ),
        ("paths: [{file: a.csv}]\npaths: [{file: b.csv}]", "paths stands there twice"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_what_is_not_understood_is_refused(folder: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_mltable(written(folder, text))
    assert told in str(caught.value)


def test_all_faults_are_told_at_once(folder: Path) -> None:
    text = "paths: [{fil: a.csv}]\ntransformations: [read_delimited: {delimeter: x}, sort: id]\nextra: 1"
    with pytest.raises(SettingsError) as caught:
        read_mltable(written(folder, text))
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize("place", ["nowhere", "", "s3://bucket/table"])
def test_where_there_is_no_mltable_file_it_says_so(tmp_path: Path, place: str) -> None:
    with pytest.raises(SettingsError, match="folder: found"):
        read_mltable(tmp_path / place if place == "nowhere" else place or tmp_path)


@pytest.mark.parametrize(
    "given",
    ["'{day:yyyy/MM/dd}/{name}.csv'", "{'partition_format': '{day:yyyy/MM/dd}/{name}.csv'}"],
)
def test_a_partition_format_is_passed_on(folder: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(TabularDataset, "from_parquet_files", lambda paths, **options: asked.update(options) or _none())
    text = f"paths: [{{file: a.csv}}]\ntransformations: [read_parquet, extract_columns_from_partition_format: {given}]"
    read_mltable(written(folder, text))
    assert asked["partition_format"] == "{day:yyyy/MM/dd}/{name}.csv"


def test_a_partition_format_without_quotes_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(TabularDataset, "from_parquet_files", lambda paths, **options: asked.update(options) or _none())
    text = """
    paths: [{file: a.csv}]
    transformations:
      - read_parquet
      - extract_columns_from_partition_format: {day:yyyy/MM/dd}
    """
    read_mltable(written(folder, text))
    assert asked["partition_format"] == "{day:yyyy/MM/dd}"


def _none() -> FileDataset:
    return FileDataset.from_files(__file__)

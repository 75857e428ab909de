"""Row groups of Parquet files: what types become, what differing files and damaged ones do."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prs_dask.datasets import ReadError, TabularDataset
from prs_dask.datasets.reading import read


def outcomes(folder, size=1 << 20):
    """By file name, the frame or the error of its mini-batch."""
    dataset = TabularDataset.from_parquet_files(folder)
    spec = dataset.reader()
    found = {}
    for batch in dataset.mini_batches(size):
        try:
            found[batch.path.rpartition("/")[2]] = read(batch, spec)
        except ReadError as error:
            found[batch.path.rpartition("/")[2]] = error
    return found


def test_types_of_parquet_reach_run_as_what_they_mean(tmp_path):
    far = datetime.datetime(9999, 1, 1)
    table = pa.table(
        {
            "list": [[1, 2], None],
            "struct": [{"x": 1}, {"x": 2}],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "decimal": pa.array([Decimal("1.10"), None]),
            "category": pa.array(["u", "v"]).dictionary_encode(),
            "utc": pa.array([datetime.datetime(2024, 1, 1), None], pa.timestamp("us", "UTC")),
            "far": pa.array([far, far], pa.timestamp("us")),
            "bytes": [b"\xff", b""],
            "large": pa.array([2**64 - 1, 0], pa.uint64()),
            "nothing": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    frame = outcomes(tmp_path)["a.parquet"]
    assert isinstance(frame, pd.DataFrame), frame
    assert [frame["list"][0].tolist(), frame["list"][1]] == [[1, 2], None]
    assert frame["struct"].tolist() == [{"x": 1}, {"x": 2}]
    assert frame["map"].tolist() == [[("k", 1)], []]
    assert frame["decimal"].tolist() == [Decimal("1.10"), None]
    assert str(frame["category"].dtype) == "category"
    assert frame["utc"][0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert frame["far"][0] == far
    assert frame["bytes"].tolist() == [b"\xff", b""]
    assert frame["large"].tolist() == [2**64 - 1, 0]
    assert frame["nothing"].isna().all()


def test_columns_in_another_order_are_put_in_the_first_files(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": pa.array(["y"], pa.large_string()), "a": [2]}), tmp_path / "2.parquet")
    found = outcomes(tmp_path)
    assert [list(frame) for frame in found.values()] == [["a", "b"]] * 2
    assert found["2.parquet"].to_dict("list") == {"a": [2], "b": ["y"]}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"a": [1.5], "b": ["x"]}, "column 'a' is double, but int64 in .*1.parquet"),
        ({"a": [1]}, "no column 'b', but .*1.parquet has"),
        ({"a": [1], "b": ["x"], "c": [1]}, "a column 'c', but .*1.parquet has none"),
    ],
)
def test_a_file_with_another_schema_fails_alone_naming_both_files_and_the_column(tmp_path, other, told):
    for name in ("1", "3"):
        pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table(other), tmp_path / "2.parquet")
    found = outcomes(tmp_path)
    assert len(found["1.parquet"]) == len(found["3.parquet"]) == 1
    with pytest.raises(ReadError, match=rf"2.parquet: .*{told}"):
        raise found["2.parquet"]


def test_a_column_with_nothing_in_it_has_the_type_of_the_first_file(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [2], "b": pa.nulls(1)}), tmp_path / "2.parquet")
    found = outcomes(tmp_path)
    assert found["1.parquet"].dtypes.equals(found["2.parquet"].dtypes)


def test_a_first_file_without_rows_decides_nothing(tmp_path):
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": [1]}), tmp_path / "2.parquet")
    assert outcomes(tmp_path)["2.parquet"]["b"].tolist() == [1]


def damaged(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "not parquet": b"a,b\n1,2\n" * 100,
        "only magic": b"PAR1",
        "cut": data[: len(data) // 2],
        "without its end": data[:-8],
        "footer's length wrong": data[:-8] + b"\xff\xff\xff\x7f" + data[-4:],
        "encrypted": data[:-4] + b"PARE",
        "damaged pages": data[:20] + b"\xff" * 30 + data[50:],
        "unknown codec": data[:-300] + data[-300:].replace(b"\x15\x02\x16", b"\x15\x06\x16", 1),
    }


@pytest.mark.parametrize("name", damaged(b""))
def test_a_damaged_file_is_an_error_of_its_own_mini_batch(tmp_path, name):
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "1.parquet", store_schema=False)
    data = (tmp_path / "1.parquet").read_bytes()
    bad = damaged(data)[name]
    assert bad != data
    (tmp_path / "0.parquet").write_bytes(bad)
    found = outcomes(tmp_path)
    assert isinstance(found["0.parquet"], ReadError)
    assert "0.parquet: not a readable Parquet file" in str(found["0.parquet"])
    assert len(found["1.parquet"]) == 1000

"""Row groups of Parquet files: what types become, what differing files and damaged ones do."""

from __future__ import annotations

import datetime
import errno
import io
import time
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prs_dask.datasets import ReadError, TabularDataset, parquet
from prs_dask.datasets.parquet_schema import FirstFile, as_in_first_file
from prs_dask.datasets.reading import read
from prs_dask.stores.failures import StoreFailed


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


def struct_of(nullable):
    return pa.struct([pa.field("x", pa.int64(), nullable=nullable)])


def list_of(name, nullable):
    return pa.list_(pa.field(name, pa.int64(), nullable=nullable))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([{"x": 1}], struct_of(nullable=True)), pa.array([{"x": 1}], struct_of(nullable=False))),
        (pa.array([[1]], list_of("item", nullable=True)), pa.array([[1]], list_of("of", nullable=False))),
        (pa.array([[1]], pa.list_(pa.int64())), pa.array([[1]], pa.large_list(pa.int64()))),
        (pa.array([[1]]), pa.array([[]])),
        (pa.array([[{"x": None}]]), pa.array([[{"x": 1}]])),
        (pa.array(["x"]), pa.array(["x"]).dictionary_encode()),
        (pa.array(["x"]), pa.array(["x"], pa.large_string()).dictionary_encode()),
        (pa.array(["x"]).dictionary_encode(), pa.DictionaryArray.from_arrays(pa.array([0]), ["x"], ordered=True)),
    ],
    ids=[
        "nullable member",
        "nullable item",
        "large list",
        "empty list",
        "null inside",
        "dictionary",
        "large",
        "ordered",
    ],
)
def test_schemas_that_differ_in_notes_and_encodings_only_are_one(tmp_path, one, other):
    for order in ([one, other], [other, one]):
        for name, column in zip("12", order, strict=True):
            pq.write_table(pa.table({"a": column}), tmp_path / f"{name}.parquet")
        found = outcomes(tmp_path)
        errors = [outcome for outcome in found.values() if isinstance(outcome, ReadError)]
        assert not errors, errors[0]
        first, second = (frame["a"] for frame in found.values())
        assert str(first.dtype) == str(second.dtype)
        assert getattr(first.dtype, "ordered", None) == getattr(second.dtype, "ordered", None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([{"x": 1}]), pa.array([{"x": "1"}])),
        (pa.array([{"x": 1}]), pa.array([{"y": 1}])),
        (pa.array([[1]]), pa.array([["1"]])),
        (pa.array([[1]]), pa.array([1])),
        (pa.array(["1"]).dictionary_encode(), pa.array([1])),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), pa.array([[("k", 1.5)]], pa.map_("str", "double"))),
    ],
)
def test_types_that_hold_other_values_are_other_schemas(tmp_path, one, other):
    pq.write_table(pa.table({"a": one}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": other}), tmp_path / "2.parquet")
    with pytest.raises(ReadError, match=r"2.parquet: column 'a' is .*, but .* in .*1.parquet"):
        raise outcomes(tmp_path)["2.parquet"]


def test_files_of_pandas_and_of_others_give_the_same_index_and_types(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], "Int64"), "i": [9, 5, 6]}).set_index("i")
    table = pa.table({"a": [3, 4, 5], "i": [1, 7, 2]})
    for first, second in (("1", "2"), ("2", "1")):
        frame.to_parquet(tmp_path / f"{first}.parquet")
        pq.write_table(table, tmp_path / f"{second}.parquet")
        one, other = outcomes(tmp_path).values()
        assert one.dtypes.equals(other.dtypes)
        assert one.index.names == other.index.names


def test_each_file_of_pandas_keeps_its_own_range_as_index(tmp_path):
    frame = pd.DataFrame({"a": range(5)})
    frame[:2].to_parquet(tmp_path / "1.parquet")
    frame[2:].to_parquet(tmp_path / "2.parquet")
    assert [list(found.index) for found in outcomes(tmp_path).values()] == [[0, 1], [2, 3, 4]]


class Failing(io.BytesIO):
    """A file whose reads fail after some."""

    def __init__(self, data, error, reads):
        super().__init__(data)
        self._error, self._reads = error, reads

    def read(self, *size):
        self._reads -= 1
        if self._reads < 0:
            raise self._error
        return super().read(*size)


@pytest.mark.parametrize("reads", [0, 1, 3])
@pytest.mark.parametrize(
    "error", [StoreFailed(errno.EIO, "the store failed"), TimeoutError("late"), OSError(errno.EIO, "of the disk")]
)
def test_a_fault_of_the_disk_or_store_is_told_as_it_is(tmp_path, monkeypatch, error, reads):
    pq.write_table(pa.table({"a": range(5000)}), tmp_path / "1.parquet", row_group_size=1000)
    data = (tmp_path / "1.parquet").read_bytes()
    monkeypatch.setattr(parquet, "open_bytes", lambda *_, **__: Failing(data, error, reads))
    with pytest.raises(type(error)) as caught:
        parquet.read_row_groups(str(tmp_path / "1.parquet"), 0, 5)
    assert caught.value is error


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


def test_a_hundred_thousand_columns_are_compared_once_not_each_with_each(tmp_path):
    table = pa.table({f"c{number}": pa.array([1], pa.int8()) for number in range(100_000)})
    first = FirstFile("1.parquet", table.schema.serialize().to_pybytes())
    begun = time.process_time()
    found = as_in_first_file(table.select(list(reversed(table.column_names))), "2.parquet", first)
    assert found.schema.equals(table.schema)
    assert time.process_time() - begun < 20  # each with each takes minutes

"""partition_by: every row comes back once, as it was, from the folder of its keys."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dask
import fsspec
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prs_dask import TabularDataset
from prs_dask.datasets import partition_by, tabular_dataset
from prs_dask.datasets.path_keys import KEYS_FILE
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.reading import read
from prs_dask.datasets.store_target import StoreTarget
from prs_dask.errors import InputError, OutputError, SettingsError
from prs_dask.stores import StorageOptions, store_of

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    [
        "",
        "a/b",
        "a=b",
        "100%",
        "%2F",
        ".",
        "..",
        "__HIVE_DEFAULT_PARTITION__",
        "007",
        "1",
        "1.50",
        "True",
        "None",
        "nan",
    ]
)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-3, 3) | st.integers(-(1 << 63), (1 << 63) - 1),
    "int8": st.integers(-2, 2),
    "uint64": st.integers(0, (1 << 64) - 1),
    "float64": st.floats() | st.sampled_from([0.1, 1.0, float("inf"), None]),
    "float32": st.floats(width=32),
    "bool": st.booleans(),
    "boolean": st.booleans() | st.none(),
    "Int64": st.integers(-2, 2) | st.none(),
    "str": TEXTS | st.none(),
    "category": st.sampled_from(["x", "y/z", None]),
    "object": st.dates() | st.none(),
    "datetime64[us]": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)) | st.none(),
    "datetime64[ns]": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)) | st.none(),
    "datetime64[us, Europe/Berlin]": st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)) | st.none(),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3))
    size = draw(st.integers(1, 12))
    columns: dict[str, pd.Series[Any]] = {
        "row": pd.Series(range(size)),
        "note": pd.Series([f"n{n}" for n in range(size)]),
    }
    for name, kind in zip(("a", "_b", "c d=é"), kinds, strict=False):
        values = draw(st.lists(COLUMNS[kind], min_size=size, max_size=size))
        if "Berlin" in kind:  # local times that come twice or never are pytz' own subject
            series = pd.Series(pd.to_datetime(pd.Series(values, dtype="datetime64[us]")).dt.tz_localize("UTC"))
            columns[name] = series.dt.tz_convert("Europe/Berlin")
        else:
            columns[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    numbers = iter(range(100_000))
    parent = tmp_path_factory.mktemp("targets")
    return (parent / f"t{number}" for number in numbers)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(), st.integers(1, 3), st.data())
def test_every_row_comes_back_once_with_all_its_values_and_types(folders, frame, pieces, data):
    import dask.dataframe as dd

    keys = data.draw(st.permutations([name for name in frame if name not in ("row", "note")]))
    with dask.config.set({"dataframe.convert-string": False}):
        source = TabularDataset.from_dask(dd.from_pandas(frame, npartitions=pieces, sort=False))
    with dask.config.set(scheduler="synchronous"):
        written = source.partition_by(keys, next(folders))
    back = written.to_pandas().sort_values("row", ignore_index=True)[list(frame.columns)]
    for name in frame:
        for found, expected in zip(back[name], frame[name], strict=True):
            assert (pd.isna(found) and pd.isna(expected)) or found == expected, name
    assert written.partition_keys == tuple(keys)
    grouped = written.grouped_by(keys)
    spec, plan = grouped.reader(), grouped.plan()
    assert len({batch.values for batch in plan}) == len(plan) == len(frame.groupby(keys, dropna=False, observed=True))
    rows = []
    for batch in plan:
        table = read(batch, spec)
        assert list(table.columns) == ["row", "note", *keys]
        for place, key in enumerate(keys):
            value = batch.values[place]
            assert all(pd.isna(one) if value is None else one == value for one in table[key])
            if not frame[key].isna().any():
                assert table[key].dtype == frame[key].dtype or str(frame[key].dtype) == "category"
        assert table["row"].dtype == "int64"
        rows += table["row"].tolist()
    assert sorted(rows) == list(range(len(frame)))


@pytest.fixture
def sales(tmp_path: Path) -> TabularDataset:
    (tmp_path / "sales.csv").write_text("n,store,brand\n" + "".join(f"{n},{n % 3},{'xy'[n % 2]}\n" for n in range(60)))
    return TabularDataset.from_delimited_files(tmp_path / "sales.csv")


def test_a_table_in_files_is_written_into_a_folder_for_each_combination(sales, tmp_path):
    written = sales.partition_by(["store", "brand"], tmp_path / "by" / "store", name="sales")
    assert written.name == "sales"
    assert sorted(path.relative_to(tmp_path / "by" / "store").as_posix() for path in tmp_path.rglob("*.parquet")) == [
        f"store={store}/brand={brand}/part-00000.parquet" for store in range(3) for brand in "xy"
    ]
    batches = written.grouped_by(["brand"]).plan()
    assert [batch.values for batch in batches] == [("x",), ("y",)]
    assert written.to_pandas().sort_values("n", ignore_index=True).equals(sales.to_pandas()[["n", "store", "brand"]])


def test_large_tables_are_written_partition_by_partition(sales, tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 100)
    written = sales.partition_by(["store"], tmp_path / "t")
    assert len(list(tmp_path.rglob("store=1/*.parquet"))) > 2
    assert sorted(written.to_pandas()["n"]) == list(range(60))
    assert len(written.grouped_by(["store"]).plan()) == 3


def test_keys_of_other_types_in_later_partitions_get_one_type(tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 40)
    values = ["1"] * 20 + ["1.5"] * 20 + ["x"] * 20
    for name, count, kind in (("i", 40, "float64"), ("m", 60, "str")):
        (tmp_path / f"{name}.csv").write_text("n,k\n" + "".join(f"{n},{k}\n" for n, k in enumerate(values[:count])))
        spec_of_head = TabularDataset.from_delimited_files(tmp_path / f"{name}.csv")
        monkeypatch.setattr(tabular_dataset, "column_types", lambda *_: ())  # as if the head had told nothing
        written = spec_of_head.partition_by(["k"], tmp_path / name)
        groups = {batch.values[0]: len(read(batch, written.reader())) for batch in written.grouped_by(["k"]).plan()}
        assert set(map(type, groups)) == {float if kind == "float64" else str}
        assert sum(groups.values()) == count
        monkeypatch.undo()
        monkeypatch.setattr(partition_by, "PARTITION_BYTES", 40)
        assert str(written.to_pandas()["k"].dtype) == kind


def test_the_types_of_keys_are_known_to_who_opens_the_folder_later(tmp_path):
    frame = pd.DataFrame({"n": [1, 2], "zip": ["007", "8"], "day": [date(2024, 1, 1)] * 2})
    TabularDataset.from_pandas(frame).partition_by(["zip", "day"], tmp_path / "t")
    table = TabularDataset.from_parquet_files(tmp_path / "t").to_pandas()
    assert table["zip"].tolist() == ["007", "8"]
    assert table["day"].tolist() == [date(2024, 1, 1)] * 2
    (tmp_path / "t" / KEYS_FILE).write_text("{}")  # without it texts are what they look like
    assert TabularDataset.from_parquet_files(tmp_path / "t").to_pandas()["day"].tolist() == ["2024-01-01"] * 2


def test_categories_and_nested_columns_stay_what_they_are(tmp_path):
    frame = pd.DataFrame(
        {"k": [1, 2], "c": pd.Categorical(["x", "y"]), "l": [[1], [2, 3]], "i": pd.array([1, None], "Int64")}
    )
    table = TabularDataset.from_pandas(frame).partition_by(["k"], tmp_path / "t").to_pandas()
    assert table["l"].map(list).tolist() == [[1], [2, 3]]
    assert table["i"].dtype == "Int64"


@pytest.mark.parametrize("keys", [[], "store", ["store", "store"], [""], [1]])
def test_keys_that_can_be_none_are_refused(sales, tmp_path, keys):
    with pytest.raises(SettingsError, match="partition_keys"):
        sales.partition_by(keys, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_unknown_keys_are_refused_with_the_known_columns(sales, tmp_path):
    with pytest.raises(InputError, match="'shop'; allowed: n, store, brand"):
        sales.partition_by(["shop"], tmp_path / "t")
    with pytest.raises(InputError, match="all columns"):
        sales.partition_by(["brand", "store", "n"], tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == ["sales.csv"]


def test_a_target_that_is_not_empty_is_refused_and_an_empty_one_taken(sales, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "x").touch()
    for target in (tmp_path / "t", tmp_path / "sales.csv"):
        with pytest.raises(SettingsError, match="a new or empty folder"):
            sales.partition_by(["store"], target)
    with pytest.raises(OutputError, match="sales.csv/t.*a folder that can be written"):
        sales.partition_by(["store"], tmp_path / "sales.csv" / "t")
    (tmp_path / "t" / "x").unlink()
    assert len(sales.partition_by(["store"], tmp_path / "t").to_pandas()) == 60


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1], [2]], "list; allowed"),
        ([1, "x"], "int and str in one column"),
        ([True, 1], "bool and int in one column"),
        (["x" * 300, "y"], "allowed: 255"),
    ],
)
def test_values_that_no_folder_can_hold_are_refused_and_nothing_is_left(tmp_path, column, message):
    frame = pd.DataFrame({"n": [1, 2], "k": pd.Series(column, dtype=object)})
    with pytest.raises((ReadError, InputError), match=message):
        partition_by._write(frame, 0, str(tmp_path), ("k",))
    assert os.listdir(tmp_path) == []


def test_a_partition_that_cannot_be_read_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 40)
    (tmp_path / "x.csv").write_text("n,k\n" + "1,2\n" * 30 + "1,2,3\n")
    with pytest.raises(ReadError, match="line 32: found 3 fields"):
        TabularDataset.from_delimited_files(tmp_path / "x.csv").partition_by(["k"], tmp_path / "by" / "t")
    assert list((tmp_path / "by").iterdir()) == []


def test_tasks_that_still_write_leave_nothing_either(tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 40)
    late, begun = threading.Event(), threading.Event()

    def slow(table: object, folder: str, name: str) -> None:
        if name == "part-00000.parquet":
            begun.wait(10)
            raise ReadError("broken")
        begun.set()
        late.wait(10)
        try:
            write(table, folder, name)
        finally:
            ended.set()

    write, ended = partition_by._write_file, threading.Event()
    monkeypatch.setattr(partition_by, "_write_file", slow)
    (tmp_path / "x.csv").write_text("n,k\n" + "1,2\n" * 20)
    with dask.config.set(scheduler="threads", num_workers=2), pytest.raises(ReadError, match="broken"):
        TabularDataset.from_delimited_files(tmp_path / "x.csv").partition_by(["k"], tmp_path / "by" / "t")
    late.set()
    assert ended.wait(10)
    assert list((tmp_path / "by").iterdir()) == []


def test_what_was_not_written_where_the_driver_looks_is_told(sales, tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "_write_file", lambda *_: None)  # a worker on another machine
    with pytest.raises(OutputError, match="0 files in.*the workers have written 3.*share"):
        sales.partition_by(["store"], tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == ["sales.csv"]


def test_a_target_that_was_filled_meanwhile_is_left_alone(sales, tmp_path, monkeypatch):
    def filled(path: Path, *rest: Any) -> None:
        (tmp_path / "t").mkdir(exist_ok=True)
        (tmp_path / "t" / "other").touch()
        write(path, *rest)

    write = partition_by._write_file
    monkeypatch.setattr(partition_by, "_write_file", filled)
    with pytest.raises(OutputError, match="new or empty"):
        sales.partition_by(["store"], tmp_path / "t")
    assert os.listdir(tmp_path / "t") == ["other"]


def test_a_task_that_is_run_again_writes_nothing_twice(tmp_path):
    frame = pd.DataFrame({"n": [1, 2], "k": [1, 2]})
    assert partition_by._write(frame, 0, str(tmp_path), ("k",)) == partition_by._write(frame, 0, str(tmp_path), ("k",))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    with pytest.raises(FileNotFoundError):  # one that comes late finds nothing to write to
        partition_by._write(frame, 0, str(tmp_path / "gone"), ("k",))
    assert not (tmp_path / "gone").exists()


def test_many_values_have_a_folder_each(tmp_path):
    frame = pd.DataFrame({"n": range(3000), "k": [f"id {n}" for n in range(3000)]})
    written = TabularDataset.from_pandas(frame).partition_by(["k"], tmp_path / "t")
    assert len(written.grouped_by(["k"]).plan()) == 3000
    assert json.loads((tmp_path / "t" / KEYS_FILE).read_text()) == {
        "partition_keys": [{"name": "k", "type": "str", "dtype": "str"}]
    }


# -------------------------------------------------------------------- targets in stores


@pytest.fixture(params=["memory", "s3", "azure"])
def shelf(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """An empty bucket and its options."""
    if request.param == "memory":
        yield "memory://by", None
        fsspec.filesystem("memory").store.clear()
    else:
        server = request.getfixturevalue(request.param)
        yield server.bucket(), server.options


def names(shelf) -> list[str]:
    url, options = shelf
    found = store_of(url, StorageOptions(options) if options else None).list(url)
    return sorted(re.sub("[0-9a-f]{12}", "T", info.path.removeprefix(f"{url}/")) for info in found)


def to_store(dataset: TabularDataset, keys: list[str], shelf, folder: str = "t") -> TabularDataset:
    return dataset.partition_by(keys, f"{shelf[0]}/{folder}", storage_options=shelf[1])


@pytest.fixture
def oddities() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": range(6),
            "text": ["a/b", "", "007", "100%", "ü b", None],
            "day": pd.to_datetime(["2024-01-01 10:00:00.000001", None, *["2024-02-03"] * 4], format="ISO8601"),
        }
    )


def test_a_table_is_written_into_a_store_and_read_back_as_it_was(shelf, oddities, tmp_path):
    written = to_store(TabularDataset.from_pandas(oddities), ["text", "day"], shelf)
    local = TabularDataset.from_pandas(oddities).partition_by(["text", "day"], tmp_path / "t")
    found, expected = (one.to_pandas().sort_values("n", ignore_index=True) for one in (written, local))
    pd.testing.assert_frame_equal(found, expected)
    assert written.grouped_by(["day"]).plan()[0].values == local.grouped_by(["day"]).plan()[0].values
    mine = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "t").rglob("*") if path.is_file())
    assert [name.replace("-T.parquet", ".parquet") for name in names(shelf)] == mine


def test_each_partition_is_written_into_the_store_by_itself(shelf, sales, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 100)
    written = to_store(sales, ["store"], shelf)
    assert len(written.to_pandas()) == 60
    assert len([name for name in names(shelf) if "part-" in name]) > 3


def test_a_target_in_a_store_that_is_not_empty_is_refused(shelf, sales):
    to_store(sales, ["store"], shelf)
    for folder in ("t", "t/", "t/_partition_keys.json"):
        with pytest.raises(SettingsError, match="a new or empty folder"):
            to_store(sales, ["store"], shelf, folder)
    assert len(to_store(sales, ["store"], shelf, "other").to_pandas()) == 60


def test_a_target_in_a_store_that_cannot_be_is_refused(s3, sales):
    with pytest.raises(SettingsError, match="bucket or container does not exist"):
        sales.partition_by(["store"], "s3://no-such-bucket-here/t", storage_options=s3.options)
    with pytest.raises(SettingsError, match="HTTP servers take no files"):
        sales.partition_by(["store"], "https://example.org/t")
    with pytest.raises(SettingsError, match="chained"):
        sales.partition_by(["store"], "zip://t::s3://bucket/a.zip")


def test_a_partition_that_cannot_be_read_leaves_nothing_in_the_store(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(partition_by, "PARTITION_BYTES", 40)
    (tmp_path / "x.csv").write_text("n,k\n" + "1,2\n" * 30 + "1,2,3\n")
    with pytest.raises(ReadError, match="line 32: found 3 fields"):
        to_store(TabularDataset.from_delimited_files(tmp_path / "x.csv"), ["k"], shelf)
    end = time.monotonic() + 30
    while names(shelf):  # a task that was under way removes its own files
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_task_that_writes_when_all_was_given_up_leaves_nothing(shelf):
    url, options = shelf
    target = StoreTarget(f"{url}/t", StorageOptions(options) if options else None, "0123456789ab")
    frame = pd.DataFrame({"n": [1, 2], "k": [1, 2]})
    target.begin()
    assert partition_by._write(frame, 0, target, ("k",)) == partition_by._write(frame, 0, target, ("k",))
    assert names(shelf) == ["t/.writing-T", "t/k=1/part-00000-T.parquet", "t/k=2/part-00000-T.parquet"]
    target.give_up()
    assert names(shelf) == []
    with pytest.raises(OutputError, match="given up"):
        partition_by._write(frame, 1, target, ("k",))
    assert names(shelf) == []


def test_what_others_have_written_into_the_store_meanwhile_is_left_alone(shelf, sales, monkeypatch):
    url, options = shelf
    store = store_of(url, StorageOptions(options) if options else None)
    finish = StoreTarget.finish
    monkeypatch.setattr(
        StoreTarget, "finish", lambda self, *rest: (store.write(f"{url}/t/other", b"x"), finish(self, *rest))
    )
    with pytest.raises(OutputError, match="others have written meanwhile"):
        to_store(sales, ["store"], shelf)
    assert names(shelf) == ["t/other"]


def test_what_was_not_written_where_the_driver_looks_in_the_store_is_told(sales, monkeypatch):
    monkeypatch.setattr(StoreTarget, "write", lambda *_: 0)  # memory:// of another process
    with pytest.raises(OutputError, match="0 files in 'memory://by/t', where the workers have written 3.*share"):
        sales.partition_by(["store"], "memory://by/t")


def test_a_store_that_lets_nobody_write_is_told_before_anything_is_read(s3, faulty_s3, sales):
    faulty_s3.fault = lambda method, path, _: 403 if method == "PUT" else None
    with pytest.raises(OutputError, match=r"refuses access \(HTTP 403"):
        sales.partition_by(["store"], f"{s3.bucket()}/t", storage_options=s3.through(faulty_s3.port))


def test_credentials_in_the_url_of_a_target_are_options(s3, sales):
    bucket = s3.bucket().removeprefix("s3://")
    options = {"endpoint_url": s3.options["endpoint_url"]}
    written = sales.partition_by(["store"], f"s3://canary:canary-pw@{bucket}/t", storage_options=options)
    assert written.paths == (f"s3://{bucket}/t",)
    assert "canary" not in repr(written)
    assert len(written.to_pandas()) == 60

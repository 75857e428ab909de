"""Keys of a dataset's paths: as columns, and as what mini-batches are made by."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets.path_format import PathFormat
from prs_dask.datasets.path_keys import Group, group_files
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.reading import read
from prs_dask.errors import InputError, SettingsError


def make(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def make_parquet(folder: Path, files: Mapping[str, pd.DataFrame]) -> Path:
    for name, frame in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    return folder


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return make(
        tmp_path / "music",
        {f"{user}/{season}/{genre}.wav": "" for user in "ab" for season in (1, 2) for genre in ("pop", "rock")},
    )


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """Two stores with two brands each, in a file a month."""
    return make(
        tmp_path / "sales",
        {
            f"{store}/{brand}/2024-{month:02}.csv": f"n\n{store * 100 + month}\n"
            for store in (1, 2)
            for brand in ("x", "y")
            for month in (1, 2)
        },
    )


SALES = "{store}/{brand}/{month:yyyy-MM}.csv"
GROUP_PATHS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "02", "a b", "é", "\udcff", "x%2Fy"]),
        st.sampled_from(["1", "1.5", "x"]),
        st.integers(),
    ).map(lambda parts: "/r/{}/{}/{}".format(*parts))
)


def groups_of(dataset: FileDataset) -> dict[tuple[Any, ...], list[str]]:
    return {batch.values: [path.rpartition("/")[2] for path in batch.paths] for batch in dataset.plan()}  # type: ignore[union-attr]


def tables(dataset: TabularDataset, size: int | None = None) -> list[pd.DataFrame]:
    spec = dataset.reader()
    return [read(batch, spec) for batch in dataset.plan(size)]  # type: ignore[misc]


# -------------------------------------------------------------------- files


def test_the_known_keys_are_those_of_the_format_and_files_are_handed_out_as_ever(music):
    dataset = FileDataset.from_files(music, partition_format="{user}/{season}/{genres}.wav")
    assert dataset.partition_keys == ("user", "season", "genres")
    plan = dataset.plan(3)
    assert [len(batch.paths) for batch in plan] == [3, 3, 2]
    assert {batch.values for batch in plan} == {()}


def test_every_combination_is_a_mini_batch_in_the_order_of_its_first_file(music):
    dataset = FileDataset.from_files(music, partition_format="{user}/{season}/{genres}.wav")
    assert groups_of(dataset.grouped_by(["user", "season"])) == {
        ("a", 1): ["pop.wav", "rock.wav"],
        ("a", 2): ["pop.wav", "rock.wav"],
        ("b", 1): ["pop.wav", "rock.wav"],
        ("b", 2): ["pop.wav", "rock.wav"],
    }
    assert list(groups_of(dataset.grouped_by(["genres", "user"]))) == [
        ("pop", "a"), ("rock", "a"), ("pop", "b"), ("rock", "b"),
    ]  # fmt: skip
    assert [len(batch.paths) for batch in dataset.grouped_by(["season"]).plan()] == [4, 4]
    assert dataset.grouped_by(["season", "user"]).reader().keys == ("season", "user")


def test_the_type_of_a_key_is_decided_over_all_files(tmp_path):
    folder = make(tmp_path, {f"{number}/x": "" for number in (*range(1200), "007")})
    dataset = FileDataset.from_files(folder, partition_format="{number}/x")
    values = [value for (value,) in groups_of(dataset.grouped_by(["number"]))]
    assert set(values) == {*map(str, range(1200)), "007"}


def test_hive_folders_are_found_without_being_told(tmp_path):
    folder = make(
        tmp_path / "data",
        {
            "Store=2/Brand=a%2Fb/f": "",
            "Store=2/Brand=a%2Fb/g": "",
            "Store=3/Brand=__HIVE_DEFAULT_PARTITION__/f": "",
            "Store=3/Brand=/f": "",
        },
    )
    dataset = FileDataset.from_files(folder)
    assert dataset.partition_keys == ("Store", "Brand")
    assert groups_of(dataset.grouped_by(["Brand", "Store"])) == {
        ("a/b", 2): ["f", "g"],
        ("", 3): ["f"],
        (None, 3): ["f"],
    }
    assert FileDataset.from_files(folder / "Store=2").partition_keys == ("Brand",)
    assert FileDataset.from_files(f"{folder}/Store=*/Brand=*/f").partition_keys == ("Store", "Brand")
    assert FileDataset.from_files(folder / "Store=3/Brand=/f").partition_keys[-2:] == ("Store", "Brand")


def test_a_pattern_counts_from_the_folder_before_its_first_wildcard(music):
    dataset = FileDataset.from_files(f"{music}/*/1/*.wav", partition_format="{user}/{season}/{genres}.wav")
    assert list(groups_of(dataset.grouped_by(["user", "season"]))) == [("a", 1), ("b", 1)]
    with pytest.raises(InputError, match=r"1/pop.wav.*allowed: paths that end in \{user\}/\{season\}/\{genres\}.wav"):
        FileDataset.from_files(f"{music}/a/*/*.wav", partition_format="{user}/{season}/{genres}.wav").check()


def test_a_file_that_does_not_fit_is_refused_with_its_name(music):
    dataset = FileDataset.from_files(music, partition_format="{user}/{season}/{genres}.wav")
    dataset.check()
    (music / "zzz.txt").touch()
    for one in (dataset, dataset.grouped_by(["user"])):
        with pytest.raises(InputError, match=r"zzz.txt.*\{user\}/\{season\}"):
            one.plan()
    with pytest.raises(InputError, match="zzz.txt"):  # it is the first of the listing
        dataset.check()


def test_unknown_keys_are_refused_and_the_known_ones_listed(music):
    dataset = FileDataset.from_files(music, partition_format="{user}/{season}/{genres}.wav")
    for call in (dataset.grouped_by(["User", "season", "year"]).check, dataset.grouped_by(["User"]).plan):
        with pytest.raises(InputError, match=r"'User'.*allowed: user, season, genres") as caught:
            call()
        assert {fault.name for fault in caught.value.faults} == {"partition_keys"}


def test_keys_of_paths_that_tell_none_are_refused_and_it_is_said_what_to_do(sales):
    with pytest.raises(InputError, match=r"tell no keys.*Store=2/.*partition_format=\"\{user\}/...\"$"):
        FileDataset.from_files(sales).grouped_by(["user"]).check()
    with pytest.raises(InputError, match=r"partition_by\(\['n'\], target\)"):
        TabularDataset.from_delimited_files(sales).grouped_by(["n"]).check()


def test_rows_without_paths_are_refused_keys():
    with pytest.raises(InputError, match=r"no paths.*partition_by\(\['a'\], target\)"):
        TabularDataset.from_pandas(pd.DataFrame({"a": [1]})).grouped_by(["a"])


def test_a_path_without_the_folder_of_a_key_is_refused_when_grouping(tmp_path):
    folder = make(tmp_path / "data", {"Store=1/x": "", "y": ""})
    with pytest.raises(InputError, match=r"/data/y'.*no folder Store="):
        FileDataset.from_files(folder).grouped_by(["Store"]).plan()


def test_a_format_that_cannot_work_is_refused_at_once(tmp_path):
    for make_it in (FileDataset.from_files, TabularDataset.from_delimited_files, TabularDataset.from_parquet_files):
        with pytest.raises(SettingsError, match="twice"):
            make_it(tmp_path, partition_format="{a}/{a}")


@given(GROUP_PATHS)
def test_every_file_is_in_exactly_one_group_and_groups_differ(paths):
    keys = ("a", "b")
    groups = list(group_files(iter(paths), PathFormat(("a", "b", "n"), ("/r/",), "{a}/{b}/{n}"), keys))
    assert sorted(path for group in groups for path in group.paths) == sorted(paths)
    assert len({group.values for group in groups}) == len(groups)
    assert len({path.rpartition("/")[0] for path in paths}) == len(groups)
    first = [paths.index(group.paths[0]) for group in groups]
    assert first == sorted(first)
    for place in (0, 1):
        assert len({type(group.values[place]) for group in groups}) <= 1
    for group in groups:
        assert list(group.paths) == [path for path in paths if path in group.paths]


def test_grouping_many_files_holds_little_more_than_their_paths():
    count = 20_000

    def paths() -> Iterator[str]:
        for number in range(count):
            yield f"/data/store={number % 100}/{number:040}.csv"

    size = sum(map(len, paths()))
    path_format = PathFormat(("store",), ("/data/",))
    tracemalloc.start()
    try:
        groups: Iterator[Group] = group_files(paths(), path_format, ["store"])
        first = next(groups)
        kept = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(first.paths) == count / 100
    assert kept < 1.6 * size


# -------------------------------------------------------------------- tables


def test_key_columns_come_last_and_have_types(sales):
    dataset = TabularDataset.from_delimited_files(sales, partition_format=SALES, include_path=True)
    frame = dataset.to_pandas()
    assert list(frame.columns) == ["Path", "n", "store", "brand", "month"]
    assert [str(dtype) for dtype in frame.dtypes[2:]] == ["int64", "str", "datetime64[us]"]
    assert frame["n"].tolist() == [101, 102, 101, 102, 201, 202, 201, 202]
    assert frame.loc[5, ["store", "brand", "month"]].tolist() == [2, "x", datetime(2024, 2, 1)]


def test_every_combination_is_a_table_with_the_rows_of_all_its_files(sales):
    dataset = TabularDataset.from_delimited_files(sales, partition_format=SALES).grouped_by(["brand"])
    plan = dataset.plan()
    assert [batch.values for batch in plan] == [("x",), ("y",)]
    x, y = tables(dataset)
    assert x["n"].tolist() == [101, 102, 201, 202]
    assert x["store"].tolist() == [1, 1, 2, 2]
    assert list(x.columns) == ["n", "store", "brand", "month"]
    assert y["brand"].tolist() == ["y"] * 4
    assert dataset.take(5)["n"].tolist() == [101, 102, 201, 202, 101]


def test_to_dask_has_a_partition_for_every_combination(sales):
    dataset = TabularDataset.from_delimited_files(sales, partition_format=SALES).grouped_by(["store"])
    collection = dataset.to_dask()
    assert collection.npartitions == 2
    assert collection.compute(scheduler="synchronous")["n"].tolist() == [101, 102, 101, 102, 201, 202, 201, 202]
    bag = FileDataset.from_files(sales).grouped_by([]).to_dask(3)
    assert bag.npartitions == 3


def test_the_one_header_is_that_of_the_first_file_that_is_not_empty(tmp_path):
    folder = make(
        tmp_path / "d",
        {"k=1/a.csv": "", "k=1/b.csv": "n,m\n", "k=1/c.csv": "3,4\n", "k=2/d.csv": "5,6", "k=3/e.csv": ""},
    )
    dataset = TabularDataset.from_delimited_files(folder, header="only_first_file").grouped_by(["k"])
    assert [(table.columns.tolist(), table.values.tolist()) for table in tables(dataset)] == [
        (["n", "m", "k"], [[3, 4, 1]]),
        (["n", "m", "k"], [[5, 6, 2]]),
        (["k"], []),
    ]


@pytest.mark.parametrize("header", ["all_files_same_headers", "no_headers"])
def test_empty_files_add_nothing_to_their_combination(tmp_path, header):
    first = "n\n" if header == "all_files_same_headers" else ""
    folder = make(tmp_path / "d", {"k=1/a.csv": "", "k=1/b.csv": f"{first}1\n", "k=1/c.csv": first, "k=2/d.csv": ""})
    one, two = tables(TabularDataset.from_delimited_files(folder, header=header).grouped_by(["k"]))
    assert one.values.tolist() == [[1, 1]]
    assert one.dtypes.astype(str).tolist() == ["int64", "int64"]
    assert len(two) == 0


def test_json_lines_are_grouped_too_and_a_column_that_a_file_lacks_is_missing(tmp_path):
    folder = make(tmp_path / "d", {"k=1/a.json": '{"n": 1}\n', "k=1/b.json": '{"n": 2, "m": "x"}\n'})
    dataset = TabularDataset.from_json_lines_files(folder)
    assert "k" not in dataset.to_pandas()
    (table,) = tables(dataset.grouped_by(["k"]))
    assert table.columns.tolist() == ["n", "m", "k"]
    assert table["m"].isna().tolist() == [True, False]


def test_a_quote_that_is_never_closed_fails_its_combination(tmp_path):
    folder = make(tmp_path / "d", {"k=1/a.csv": 'n,m\n1,"x\n2,y\n', "k=2/b.csv": 'n,m\n1,"x\n2,y"\n'})
    dataset = TabularDataset.from_delimited_files(folder).grouped_by(["k"])
    bad, good = dataset.plan()
    with pytest.raises(ReadError, match=r"a.csv, byte 6 of its text: a quote that is never closed"):
        read(bad, dataset.reader())
    assert len(read(good, dataset.reader())) == 1


def test_files_of_one_combination_with_different_columns_are_an_error_that_names_both(tmp_path):
    folder = make(tmp_path / "d", {"k=1/a.csv": "n\n1\n", "k=1/b.csv": "m\n1\n"})
    with pytest.raises(ReadError, match=r"b.csv and .*a.csv.*different columns: m, n"):
        tables(TabularDataset.from_delimited_files(folder).grouped_by(["k"]))


def test_a_clash_of_key_and_column_is_refused_before_anything_starts(sales):
    dataset = TabularDataset.from_delimited_files(sales, partition_format="{n}/{month:yyyy-MM}.csv")
    with pytest.raises(InputError, match="the key 'n', which is a column"):
        dataset.reader()


def test_a_key_named_as_the_column_of_paths_is_refused(tmp_path):
    folder = make_parquet(tmp_path / "d", {"Path=1/a.parquet": pd.DataFrame({"n": [1]})})
    assert TabularDataset.from_parquet_files(folder).to_pandas()["Path"].tolist() == [1]
    with pytest.raises(InputError, match="the key 'Path'"):
        TabularDataset.from_parquet_files(folder, include_path=True).reader()


def test_a_clash_that_only_a_later_file_has_fails_its_mini_batch(tmp_path):
    folder = make(tmp_path / "d", {"1.csv": "n\n1\n", "2.csv": "k\n1\n"})
    with pytest.raises(ReadError, match=r"2.csv: has a column 'k' of its own.*rename the key"):
        tables(TabularDataset.from_delimited_files(folder, partition_format="{k}.csv"))


def test_hive_folders_of_parquet_are_columns_and_win_over_the_files_own(tmp_path):
    frame = pd.DataFrame({"Store": [9, 9], "n": [1, 2]})
    folder = make_parquet(
        tmp_path / "d", {"Store=1/Size=1.5/a.parquet": frame, "Store=2/Size=3/b.parquet": frame[["n"]]}
    )
    table = TabularDataset.from_parquet_files(folder).to_pandas()
    assert list(table.columns) == ["n", "Store", "Size"]
    assert table["Store"].tolist() == [1, 1, 2, 2]
    assert table["Size"].tolist() == [1.5, 1.5, 3.0, 3.0]
    assert table.dtypes.astype(str).tolist() == ["int64", "int64", "float64"]


def test_of_hive_folders_that_a_parquet_file_lacks_the_values_are_missing(tmp_path):
    frame = pd.DataFrame({"n": [1]})
    names = ("Store=1/a", "Store=__HIVE_DEFAULT_PARTITION__/b", "c")
    folder = make_parquet(tmp_path / "d", {f"{name}.parquet": frame for name in names})
    table = TabularDataset.from_parquet_files(folder).to_pandas()
    assert table["Store"].isna().tolist() == [True, False, True]  # files of a folder come before its folders
    assert table["Store"].dtype == "float64"


def test_other_kinds_do_not_look_at_hive_folders_unless_keys_are_asked_for(tmp_path):
    folder = make(tmp_path / "d", {"k=1/a.csv": "k\n5\n"})
    dataset = TabularDataset.from_delimited_files(folder)
    assert dataset.partition_keys == ("k",)
    assert dataset.to_pandas()["k"].tolist() == [5]
    with pytest.raises(InputError, match="the key 'k', which is a column"):
        dataset.grouped_by(["k"]).reader()


def test_a_value_that_does_not_fit_the_type_of_the_first_files_is_text(tmp_path):
    folder = make(tmp_path, {f"{number:05}/x.csv": "n\n1\n" for number in range(10000, 11000)} | {"x7/x.csv": "n\n1\n"})
    dataset = TabularDataset.from_delimited_files(folder, partition_format="{k}/x.csv")
    plan, spec = dataset.plan(), dataset.reader()
    assert read(plan[0], spec)["k"].tolist() == [10000]
    assert read(plan[-1], spec)["k"].tolist() == ["x7"]
    assert tables(dataset.grouped_by(["k"]))[0]["k"].tolist() == ["10000"]


def test_categories_of_several_files_stay_categories(tmp_path):
    frames = {f"k=1/{text}.parquet": pd.DataFrame({"c": pd.Categorical([text])}) for text in "ab"}
    (table,) = tables(TabularDataset.from_parquet_files(make_parquet(tmp_path / "d", frames)).grouped_by(["k"]))
    assert table["c"].dtype == "category"
    assert table["c"].tolist() == ["a", "b"]

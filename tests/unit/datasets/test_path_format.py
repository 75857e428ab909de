"""Keys are found at the end of a path below its root, and everything else is literal."""

from __future__ import annotations

import pickle
import re
from datetime import datetime
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prs_dask.datasets.path_format import KeysNotFound, PathFormat, check_format, hive_pairs, outermost, path_below
from prs_dask.errors import SettingsError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/{}\0") | st.sampled_from("*?[]()+.^$|\\-=%#\n"),
    min_size=1,
    max_size=6,
)
LEAP_DAY = datetime(2024, 2, 29, 23, 59, 58)


def keys_of(template: str, path: str, *roots: str) -> dict[str, object]:
    keys = check_format(template)
    return dict(zip(keys, PathFormat(keys, outermost(roots), template).texts_of()(path), strict=True))


@pytest.mark.parametrize("root", ["/data", "/data/", "s3://bucket/data", "s3://bucket/data/", "https://host/data"])
@pytest.mark.parametrize(
    ("template", "below", "expected"),
    [
        ("{user}/{season}/{genres}.wav", "ann/2023/pop.wav", {"user": "ann", "season": "2023", "genres": "pop"}),
        ("/{user}/{season}/{genres}.wav", "ann/2023/pop.wav", {"user": "ann", "season": "2023", "genres": "pop"}),
        ("{user}/data.csv", "deep/deeper/ann/data.csv", {"user": "ann"}),
        ("users/{user}/data.csv", "x/users/ann/data.csv", {"user": "ann"}),
        ("u-{user}.csv", "x/u-ann.csv", {"user": "ann"}),
        ("{name}", "x/a.csv", {"name": "a.csv"}),
        ("{a}-{b}.csv", "x-y-z.csv", {"a": "x", "b": "y-z"}),
        ("{a}.csv", ".csv.csv", {"a": ".csv"}),
        ("{{{a}}}.csv", "{x}.csv", {"a": "x"}),
        ("[{a}]*?.csv", "[1]*?.csv", {"a": "1"}),
        ("{a}", "100%25", {"a": "100%25"}),
        ("Store={a}/x", "Store=2/x", {"a": "2"}),
        ("{d:yyyy/MM/dd/HH/mm/ss}/data.csv", "2024/02/29/23/59/58/data.csv", {"d": LEAP_DAY}),
        ("/{who}/{d:yyyy/MM/dd}/data.csv", "HR/2019/01/01/data.csv", {"who": "HR", "d": datetime(2019, 1, 1)}),
        ("{d:ddMMyyyy}.csv", "31122024.csv", {"d": datetime(2024, 12, 31)}),
        ("{d:yyyyMMddTHHmm}.csv", "20241231T2359.csv", {"d": datetime(2024, 12, 31, 23, 59)}),
        ("{d:yyyy}.csv", "2024.csv", {"d": datetime(2024, 1, 1)}),
        ("{d:yyyy_MM}.csv", "2024_12.csv", {"d": datetime(2024, 12, 1)}),
        ("{store}{d:yyyyMMdd}.csv", "north20241231.csv", {"store": "north", "d": datetime(2024, 12, 31)}),
    ],
)  # fmt: skip
def test_a_format_describes_the_end_of_a_path_below_its_root(root, template, below, expected):
    found = keys_of(template, root.rstrip("/") + "/" + below, root)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{user}/{season}/{genres}.wav", "/data/2023/pop.wav"),  # a key never lies above the dataset's folder
        ("{user}/{season}/{genres}.wav", "/data/ann/2023/pop.mp3"),
        ("{user}/{season}/{genres}.wav", "/data/ann//pop.wav"),
        ("users/{user}/x.csv", "/data/allusers/ann/x.csv"),  # literal folders are whole ones
        ("u-{user}.csv", "/data/xu-ann.csv"),
        ("{a}.csv", "/data/xXcsv"),
        ("{a}.csv", "/data/.csv"),
        ("{a}.csv", "/data/x.csv\n"),
        ("{d:yyyy/MM/dd}/x", "/data/2023/02/29/x"),
        ("{d:yyyy/MM/dd}/x", "/data/2023/2/9/x"),
        ("{d:yyyy}/x", "/data/\u0662\u0660\u0662\u0664/x"),
    ],
)
def test_a_path_that_does_not_fit_is_an_error_that_names_path_and_format(template, path):
    with pytest.raises(KeysNotFound) as caught:
        keys_of(template, path, "/data")
    assert path in str(caught.value)
    assert template in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "at least one key"),
        ("/", "at least one key"),
        (None, "at least one key"),
        (5, "at least one key"),
        ("data.csv", "has no key"),
        ("{{a}}", "has no key"),
        ("{}/x", "no name"),
        ("{:yyyy}/x", "no name"),
        ("{a}/{b}/{a}", "the key 'a' twice"),
        ("{a}/{a:yyyy}", "the key 'a' twice"),
        ("{a}{b}", "nothing between"),
        ("{a", "brace"),
        ("a}/{b}", "brace"),
        ("{a{b}}", "brace"),
        ("{a}/", "ends with '/'"),
        ("{d:}", "date format ''"),
        ("{d:MM}", "date format 'MM'"),
        ("{d:yyyy-dd}", "date format"),
        ("{d:yyyy-yyyy}", "date format"),
        ("{d:yy}", "date format"),
        ("{d:yyyy-M}", "date format"),
        ("{d:%Y}", "date format"),
    ],
)
def test_a_format_that_cannot_work_is_refused_with_a_reason(template, reason):
    with pytest.raises(SettingsError, match=re.escape(reason)) as caught:
        check_format(template)
    assert {fault.name for fault in caught.value.faults} == {"partition_format"}


@given(NAMES, NAMES, NAMES, NAMES)
def test_everything_but_the_keys_is_literal(folder, first, between, last):
    assume(between not in first + between[:-1])
    assert keys_of(f"{folder}/{{a}}{between}{{b}}", f"/r/x/{folder}/{first}{between}{last}", "/r") == {
        "a": first,
        "b": last,
    }


@given(
    st.lists(st.tuples(NAMES.filter(lambda name: "=" not in name), NAMES), unique_by=lambda pair: pair[0], max_size=4)
)
def test_hive_folders_give_back_what_was_encoded(pairs):
    below = "".join(f"{quote(name, safe='')}={quote(value, safe='')}/x/" for name, value in pairs) + "file=1.parquet"
    assert hive_pairs("p", below) == dict(pairs)


def test_hive_folders_are_decoded_and_the_default_partition_is_a_missing_value():
    below = "Store=2/Brand=a%2Fb/x=__HIVE_DEFAULT_PARTITION__/e=/%5Fy=%zz=1/=2/z/f=1"
    assert hive_pairs("p", below) == {"Store": "2", "Brand": "a/b", "x": None, "e": "", "_y": "%zz=1"}
    with pytest.raises(KeysNotFound, match="Store twice"):
        hive_pairs("p", "Store=1/x/Store=2/f")


def test_a_hive_key_that_the_first_files_lacked_is_an_error_and_one_that_is_not_there_is_missing():
    texts = PathFormat(("Store", "Brand"), ("/data/",)).texts_of()
    assert texts("/data/Brand=x/Store=1/f") == ("1", "x")
    assert texts("/data/f") == (None, None)
    with pytest.raises(KeysNotFound, match="the key Size"):
        texts("/data/Store=1/Size=2/f")


def test_keys_are_looked_for_below_the_outermost_root_and_in_the_whole_path_of_a_named_file():
    roots = frozenset(outermost(["/data/b", "/data/b/c/", "/data/bc", "/x/y.csv"]))
    assert roots == {"/data/b/", "/data/bc/", "/x/y.csv/"}
    assert path_below("/data/b/c/d", roots) == "c/d"
    assert path_below("/data/bc/d", roots) == "d"
    assert path_below("/x/y.csv", roots) == "/x/y.csv"
    assert path_below("/etc/d", frozenset(outermost(["/"]))) == "etc/d"

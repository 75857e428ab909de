"""Which files a path means, and in which order."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.datasets.listing import check_paths, list_files
from prs_dask.errors import InputError


def make(folder, *names):
    for name in names:
        path = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass


def listed(folder, pattern="", **options):
    path = os.path.join(folder, pattern) if pattern else str(folder)
    return [os.path.relpath(found, folder) for found in list_files([path], **options)]


def test_a_folder_gives_its_files_sorted_by_bytes_and_then_its_folders(tmp_path):
    make(tmp_path, "b", "a/z", "a/b/c", "a.txt", "c/x", "Z", "é", "a-b/x", b"\xff")
    assert listed(tmp_path) == ["Z", "a.txt", "b", "é", "\udcff", "a/z", "a/b/c", "a-b/x", "c/x"]


@given(st.lists(st.binary(min_size=1, max_size=3).filter(lambda name: not set(name) & set(b"/\0")), max_size=8))
def test_any_name_works_and_the_order_is_that_of_bytes(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    names = sorted({name for name in names if name not in (b".", b"..")})
    make(folder, *names)
    assert [os.fsencode(name) for name in listed(folder, include_hidden=True)] == names
    assert [os.fsencode(name) for name in listed(folder)] == [name for name in names if name[:1] not in (b".", b"_")]


def test_hidden_entries_are_left_out_unless_named_or_asked_for(tmp_path):
    make(tmp_path, ".a", "_SUCCESS", "b", ".git/x", "_log/y")
    assert listed(tmp_path) == ["b"]
    assert listed(tmp_path, ".a") == [".a"]
    assert listed(tmp_path, ".git") == [".git/x"]
    assert listed(tmp_path, "_*") == ["_SUCCESS", "_log/y"]
    assert listed(tmp_path, "**") == ["b"]
    assert len(listed(tmp_path, include_hidden=True)) == 5
    assert len(listed(tmp_path, "*", include_hidden=True)) == 5


def test_a_path_that_exists_is_literal_whatever_characters_it_holds(tmp_path):
    make(tmp_path, "[a]*?.txt", "a1.txt", "d*/x", "dd/y", "new\nline", " ")
    assert listed(tmp_path, "[a]*?.txt") == ["[a]*?.txt"]
    assert listed(tmp_path, "d*") == ["d*/x"]
    assert listed(tmp_path, "new\nline") == ["new\nline"]


def test_patterns_match_within_names_and_across_folders(tmp_path):
    make(tmp_path, "1.csv", "2.txt", "a/3.csv", "a/b/4.csv", "c/b/5.csv", "x.csv/6")
    assert listed(tmp_path, "*.csv") == ["1.csv", "x.csv/6"]
    assert listed(tmp_path, "**/*.csv") == ["1.csv", "a/3.csv", "a/b/4.csv", "c/b/5.csv"]
    assert listed(tmp_path, "**/b/*") == ["a/b/4.csv", "c/b/5.csv"]
    assert listed(tmp_path, "**/b/**") == ["a/b/4.csv", "c/b/5.csv"]
    assert listed(tmp_path, "?/[0-9].csv") == ["a/3.csv"]
    assert listed(tmp_path, "**") == listed(tmp_path)
    assert listed(tmp_path, "[ac]") == ["a/3.csv", "a/b/4.csv", "c/b/5.csv"]
    assert listed(tmp_path, "*.nothing") == []
    assert listed(tmp_path, "nowhere/*") == []


def test_paths_come_in_the_order_given_and_twice_if_given_twice(tmp_path):
    make(tmp_path, "a", "b/c")
    paths = [str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path)]
    assert [os.path.basename(found) for found in list_files(paths)] == ["c", "a", "a", "c"]


def test_a_link_to_a_folder_above_itself_ends_and_other_links_are_followed(tmp_path):
    make(tmp_path, "a/b/x", "other/y")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/z").symlink_to(tmp_path / "other")
    assert listed(tmp_path / "a") == ["b/x", "z/y"]


def test_a_link_to_nowhere_is_listed_and_pipes_are_not(tmp_path):
    make(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    assert listed(tmp_path) == ["a", "link"]


def test_listing_hands_out_files_of_a_folder_before_it_looks_into_the_next(tmp_path):
    make(tmp_path, "a", "b/c")
    files = list_files([str(tmp_path)])
    assert next(files).endswith("/a")
    (tmp_path / "b/c").rename(tmp_path / "b/d")
    assert next(files).endswith("/b/d")


def test_everything_that_is_missing_or_empty_is_told_at_once_naming_the_path(tmp_path):
    make(tmp_path, "full/a", "hidden/.a")
    (tmp_path / "empty/deeper").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    names = ["full", "missing", "empty", "hidden", "*.csv", "pipe", "x" * 300, "full/a/b"]
    with pytest.raises(InputError) as raised:
        check_paths([str(tmp_path / name) for name in names])
    faults = raised.value.faults
    assert len(faults) == len(names) - 1
    assert all(repr(str(tmp_path / name)) in fault.found for name, fault in zip(names[1:], faults, strict=True))
    assert "include_hidden=True" in faults[2].try_this
    check_paths([str(tmp_path / "full"), str(tmp_path / "fu*"), str(tmp_path / "full/a")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path):
    make(tmp_path, "file", "folder/x")
    for name in ("file", "folder"):
        (tmp_path / name).chmod(0)
        with pytest.raises(InputError, match=name):
            check_paths([str(tmp_path / name)])
        (tmp_path / name).chmod(0o700)

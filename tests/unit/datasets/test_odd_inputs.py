"""Odd names, odd entries of folders and odd tables, which no rule forbids: each has an outcome that is known."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets import ReadError
from prs_dask.datasets.reading import read
from prs_dask.errors import InputError


def tables(path: Path, data: bytes, size: int = 1 << 20) -> list[dict[str, list[object]]]:
    path.write_bytes(data)
    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    return [read(batch, spec).to_dict("list") for batch in dataset.mini_batches(size)]


def test_a_backslash_is_an_ordinary_character_and_escapes_nothing(tmp_path):
    path = tmp_path / "a.csv"
    assert tables(path, b'a,b\n1,"x\\"\n2,"\\"\n3,\\n\n', 1) == [
        {"a": [1], "b": ["x\\"]},
        {"a": [2], "b": ["\\"]},
        {"a": [3], "b": ["\\n"]},
    ]
    with pytest.raises(ReadError, match="a.csv, line 2: found 3 fields"):
        tables(path, b'a,b\n1,"x\\",y"\n')


def test_a_separator_in_a_quoted_name_of_a_column_is_part_of_the_name(tmp_path):
    assert tables(tmp_path / "a.csv", b'"a,b",c\n1,2\n3,4\n', 1) == [{"a,b": [1], "c": [2]}, {"a,b": [3], "c": [4]}]


def test_a_column_without_any_value_is_missing_in_every_block(tmp_path):
    frames = tables(tmp_path / "a.csv", b"a,b\n1,\n2,\n3,NA\n", 1)
    assert [frame["a"] for frame in frames] == [[1], [2], [3]]
    assert all(frame["b"][0] != frame["b"][0] for frame in frames)


def test_leading_zeros_are_lost_to_inference_as_in_pandas_and_kept_as_text(tmp_path):
    path = tmp_path / "a.csv"
    assert tables(path, b"a\n007\n010\n") == [{"a": [7, 10]}]
    assert TabularDataset.from_delimited_files(path, dtype={"a": str}).to_pandas()["a"].tolist() == ["007", "010"]


def test_sockets_pipes_and_devices_are_no_files_and_refused_where_they_are_named(tmp_path):
    (tmp_path / "a").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        folder = os.getcwd()
        os.chdir(tmp_path)  # a socket's name may have some hundred characters only
        try:
            one.bind("socket")
        finally:
            os.chdir(folder)
        assert list(FileDataset.from_files(tmp_path).files()) == [str(tmp_path / "a")]
        for path in (tmp_path / "socket", tmp_path / "pipe", "/dev/null"):
            with pytest.raises(InputError, match="a pipe, socket or device"):
                FileDataset.from_files(path).check()


def test_names_may_end_in_a_dot_or_a_space(tmp_path):
    for name in ("b.", "t. /a ", "t. /..x..", "z /z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(path, tmp_path) for path in FileDataset.from_files(tmp_path, include_hidden=True).files()]
    assert found == ["b.", "t. /..x..", "t. /a ", "z /z"]


@pytest.mark.parametrize("path", ["a\0b", "/x" * 5000])
def test_what_can_be_no_path_of_this_system_is_refused(path):
    for look in (FileDataset.from_files(path).check, FileDataset.from_files(path).plan):
        with pytest.raises(InputError, match="path: found"):
            look()


def test_a_very_deep_folder_is_listed_and_one_too_deep_for_the_system_named(tmp_path):
    folder, here = os.getcwd(), "d" * 100
    try:
        os.chdir(tmp_path)
        for depth in range(45):  # paths may have 4096 bytes
            os.mkdir(here)
            os.chdir(here)
            Path("file").touch()
            if depth == 35:
                assert len(list(FileDataset.from_files(tmp_path).files())) == 36
        with pytest.raises(InputError, match="too long"):
            list(FileDataset.from_files(tmp_path).files())
    finally:
        os.chdir(folder)


def as_nobody(look: Callable[[], None]) -> None:
    """Run it as a user without rights, in a process of its own."""
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            look()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else; test_listing does it for others")
def test_what_may_not_be_read_is_refused_also_where_tests_are_roots():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0)
        (folder / "secret.csv").write_text("a\n1\n")
        (folder / "secret.csv").chmod(0)
        (folder / "open.csv").write_text("a\n1\n")

        def look() -> None:
            for path in ("closed", "secret.csv"):
                with pytest.raises(InputError, match=f"{path}.*(Permission denied|may not read)"):
                    FileDataset.from_files(folder / path).check()
            FileDataset.from_files(folder / "*.csv").check()
            with pytest.raises(InputError, match="closed.*Permission denied"):
                list(FileDataset.from_files(folder).files())

        as_nobody(look)

"""Log files that never fail the job."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from prs_dask.logs.log_files import LogFiles


def test_pieces_are_appended_and_the_first_line_comes_once(tmp_path: Path) -> None:
    for _ in range(2):
        files = LogFiles(tmp_path)
        files.append("a/b.csv", b"1\n", b"head\n")
        files.append("a/b.csv", b"2\n", b"head\n")
        files.close()
    assert (tmp_path / "a" / "b.csv").read_bytes() == b"head\n1\n2\n1\n2\n"


def test_thousands_of_files_need_few_descriptors(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, most_open=8)
    before = len(os.listdir("/proc/self/fd"))
    for round_number in range(2):
        for number in range(500):
            files.append(f"{number % 7}/{number}.txt", b"%d\n" % round_number)
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(path.read_bytes() == b"0\n1\n" for path in tmp_path.rglob("*.txt"))


@pytest.mark.parametrize(("soft", "most"), [(4096, 512), (1024, 256), (400, 100)])
def test_hundreds_of_files_stay_open_but_no_more_than_a_quarter_of_what_may_be(
    tmp_path: Path, soft: int, most: int
) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        files = LogFiles(tmp_path)
        already = len(os.listdir("/proc/self/fd"))
        for number in range(600):
            files.append(f"{number}.txt", b"x\n")
        assert len(os.listdir("/proc/self/fd")) - already == most
        files.close()
        assert not files.failures
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_what_cannot_be_written_is_counted_and_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    files = LogFiles(tmp_path, told.append)
    files.append("file/x.txt", b"lost")
    files.rewrite("file/y.txt", b"lost")
    files.append("good.txt", b"kept")
    files.close()
    assert files.failures == 2
    assert len(told) == 1
    assert "file/x.txt: Not a directory" in told[0]
    assert (tmp_path / "good.txt").read_bytes() == b"kept"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.append("a.txt", b"whole\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        files.append("a.txt", b"x" * 200)
        files.rewrite("b.txt", b"x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    files.append("a.txt", b"again\n")
    files.close()
    assert files.failures == 2
    assert (tmp_path / "a.txt").read_bytes() == b"whole\nagain\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_rewritten_file_is_replaced_whole(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.rewrite("a/e.txt", b"one")
    files.rewrite("a/e.txt", b"2")
    assert (tmp_path / "a/e.txt").read_bytes() == b"2"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["e.txt"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"torn", b""),
        (b"one\n", b"one\n"),
        (b"one\ntw", b"one\n"),
        (b"one\n" + b"x" * 200_000, b"one\n"),
        (b"y" * 70_000 + b"\n" + b"x" * 65_536, b"y" * 70_000 + b"\n"),
    ],
    ids=["empty", "one torn line", "whole", "torn", "long", "to the byte"],
)
def test_a_last_line_without_its_end_is_cut_off(tmp_path: Path, before: bytes, after: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(before)
    files = LogFiles(tmp_path)
    files.cut_torn_line("a.csv")
    files.cut_torn_line("none.csv")
    assert (tmp_path / "a.csv").read_bytes() == after
    assert not files.failures
    assert not (tmp_path / "none.csv").exists()


def test_lines_that_hold_no_more_are_dropped_and_what_comes_next_is_added_to_the_rest(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.append("a.txt", b"1\n2\n3\n")
    files.keep_lines("a.txt", lambda line: line != b"2\n")
    files.append("a.txt", b"4\n")
    assert (tmp_path / "a.txt").read_bytes() == b"1\n3\n4\n"
    files.keep_lines("a.txt", lambda _: False)
    files.keep_lines("none.txt", lambda _: True)
    assert list(tmp_path.iterdir()) == []
    assert files.failures == 0
    files.append("a.txt", b"5\n", first=b"head\n")
    assert (tmp_path / "a.txt").read_bytes() == b"head\n5\n"


def test_a_file_may_lie_deeper_than_calls_can_be_nested(tmp_path: Path) -> None:
    names = [f"{top}/" + "d/" * 1100 + "f.txt" for top in "abc"]
    files = LogFiles(tmp_path)
    files.append(names[0], b"appended")
    files.rewrite(names[1], b"rewritten")
    files.append("came", b"replaced")
    files.replace(names[2], "came")
    files.close()
    assert not files.failures
    assert [(tmp_path / name).read_bytes() for name in names] == [b"appended", b"rewritten", b"replaced"]
    (tmp_path / "stays").touch()
    for name in names:  # what removes temporary folders calls itself too
        (tmp_path / name).unlink()
        os.removedirs((tmp_path / name).parent)


@pytest.mark.parametrize(
    "error",
    [MemoryError("no more"), RecursionError("too deep"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")],
    ids=["memory", "recursion", "encoding"],
)
def test_whatever_goes_wrong_with_a_log_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    files = LogFiles(tmp_path)
    files.append("a.txt", b"one\n")
    for module, name in ((os, "fstat"), (Path, "write_bytes"), (Path, "replace"), (Path, "rename"), (Path, "unlink")):
        monkeypatch.setattr(module, name, fails)
    files.append("a.txt", b"lost\n")
    files.rewrite("b.txt", b"lost")
    files.replace("c.txt", "a.txt")
    files.set_aside("a.txt")
    files.remove("a.txt")
    monkeypatch.undo()
    files.append("a.txt", b"two\n")
    files.close()
    assert files.failures == 5
    assert f"a.txt: {type(error).__name__}: " in files.first_failure
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\n"


def test_a_file_that_the_disk_fails_to_close_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LogFiles(tmp_path)
    files.append("a.txt", b"one\n")
    files.append("b.txt", b"one\n")
    close = os.close

    def fails(descriptor: int) -> None:
        close(descriptor)
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "close", fails)
    files.remove("a.txt")
    files.set_aside("b.txt")
    monkeypatch.undo()
    assert files.failures == 2
    assert "Disk quota exceeded" in files.first_failure

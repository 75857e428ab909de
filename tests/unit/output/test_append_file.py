"""The one output file: nobody's file is overwritten, no row is lost on the way to its name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from prs_dask.errors import EngineError, OutputError
from prs_dask.output.append_file import AppendFile
from prs_dask.output.order_file import OrderFile

NAME = "rows.txt"


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_the_file_has_its_name_only_at_the_end(tmp_path: Path) -> None:
    file = AppendFile.create(tmp_path / "a" / "b", NAME, "/runs/one")
    assert file.append(b"one\n") == 0
    assert file.append(b"two\n") == 4
    file.sync()
    assert names(tmp_path / "a" / "b") == {"rows.txt.partial", "rows.txt.partial.owner"}
    assert file.finish().read_bytes() == b"one\ntwo\n"
    assert names(tmp_path / "a" / "b") == {NAME}


def test_every_name_that_it_uses_in_its_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    link, unlink = os.link, Path.unlink

    def noted(path: Path, **how: Any) -> None:
        seen.update(path.name for path in tmp_path.iterdir())
        unlink(path, **how)

    def linked(*paths: Path) -> None:
        link(*paths)
        seen.update(path.name for path in paths)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(Path, "unlink", noted)
    file = AppendFile.create(tmp_path, "rows.txt", "run")
    order = OrderFile(tmp_path.with_suffix(".order"))
    for number in (1, 0):
        order.append([number], [file.append(b"x\n")], [2])
    order.sync()
    file.finish(order)
    assert len(seen) == 5
    assert seen == set(file.own_names)


def test_an_existing_file_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(OutputError, match=r"rows\.txt exists; allowed: .* try: "):
        AppendFile.create(tmp_path, NAME, "/runs/one")
    assert names(tmp_path) == {NAME}


def test_the_partial_file_of_another_step_run_is_refused_by_its_name(tmp_path: Path) -> None:
    AppendFile.create(tmp_path, NAME, "/runs/one").keep_partial()
    with pytest.raises(OutputError, match=r"step run in /runs/one.*resume /runs/one"):
        AppendFile.create(tmp_path, NAME, "/runs/two")
    with pytest.raises(OutputError, match="step run in /runs/one"):
        AppendFile.resume(tmp_path, NAME, "/runs/two", 0)


def test_a_partial_file_of_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_text("whose?")
    with pytest.raises(OutputError, match="unknown step run"):
        AppendFile.create(tmp_path, NAME, "/runs/two")
    assert names(tmp_path) == {f"{NAME}.partial"}


@pytest.mark.parametrize("killed_in", ["pwrite", "fsync", "link", "unlink"])
def test_a_kill_while_the_owner_is_written_leaves_nothing_that_a_resume_stumbles_over(
    tmp_path: Path, killed_in: str
) -> None:
    child = os.fork()
    if not child:
        try:
            setattr(os, killed_in, lambda *_: os._exit(9))
            AppendFile.create(tmp_path, NAME, "/runs/one")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    file = AppendFile.resume(tmp_path, NAME, "/runs/one", 0)
    assert names(tmp_path) == {f"{NAME}.partial", f"{NAME}.partial.owner"}
    file.append(b"rows\n")
    assert file.finish().read_bytes() == b"rows\n"
    assert names(tmp_path) == {NAME}


def test_where_there_are_no_hard_links_one_step_run_owns_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    file = AppendFile.create(tmp_path, NAME, "/runs/one")
    assert names(tmp_path) == {f"{NAME}.partial", f"{NAME}.partial.owner"}
    with pytest.raises(OutputError, match="step run in /runs/one"):
        AppendFile(tmp_path, NAME, "/runs/two")._claim()
    file.append(b"rows\n")
    assert file.finish().read_bytes() == b"rows\n"
    assert names(tmp_path) == {NAME}


def test_of_two_that_claim_the_file_at_once_one_is_refused(tmp_path: Path) -> None:
    AppendFile(tmp_path, NAME, "/runs/one")._claim()
    with pytest.raises(OutputError, match="step run in /runs/one"):
        AppendFile(tmp_path, NAME, "/runs/two")._claim()
    assert names(tmp_path) == {f"{NAME}.partial.owner"}


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a folder that can be written"):
        AppendFile.create(tmp_path / "file" / "output", NAME, "/runs/one")


def test_a_file_that_appears_while_the_step_run_goes_is_not_overwritten(tmp_path: Path) -> None:
    file = AppendFile.create(tmp_path, NAME, "/runs/one")
    file.append(b"rows\n")
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(OutputError, match="has appeared"):
        file.finish()
    assert (tmp_path / NAME).read_text() == "precious"
    (tmp_path / NAME).unlink()
    assert file.finish().read_bytes() == b"rows\n"


def test_a_resume_cuts_back_to_the_journalled_length(tmp_path: Path) -> None:
    file = AppendFile.create(tmp_path, NAME, "/runs/one")
    file.append(b"committed\nnot committed\n")
    file.keep_partial()
    file = AppendFile.resume(tmp_path, NAME, "/runs/one", 10)
    file.append(b"more\n")
    assert file.finish().read_bytes() == b"committed\nmore\n"


def test_a_partial_file_shorter_than_the_journal_says_is_refused(tmp_path: Path) -> None:
    AppendFile.create(tmp_path, NAME, "/runs/one").keep_partial()
    with pytest.raises(OutputError, match=r"0 bytes; allowed: at least the 10"):
        AppendFile.resume(tmp_path, NAME, "/runs/one", 10)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_crash_while_the_file_gets_its_name_is_put_right(tmp_path: Path, steps: int) -> None:
    file = AppendFile.create(tmp_path, NAME, "/runs/one")
    file.append(b"rows\n")
    file.keep_partial()
    if steps >= 1:
        os.link(file.partial, file.path)
    if steps >= 2:
        file.partial.unlink()
    if steps >= 4:
        (tmp_path / f"{NAME}.partial.owner").unlink()
    file = AppendFile.resume(tmp_path, NAME, "/runs/one", 5, complete=True)
    assert file.is_finished == (steps >= 2)
    assert file.finish().read_bytes() == b"rows\n"
    assert names(tmp_path) == {NAME}


@pytest.mark.parametrize("owner", [True, False])
def test_a_partial_output_that_somebody_has_given_the_name_is_not_taken_for_a_whole_one(
    tmp_path: Path, owner: bool
) -> None:
    file = AppendFile.create(tmp_path, NAME, "/runs/one")
    file.append(b"rows\n")
    file.keep_partial().rename(file.path)
    if not owner:
        (tmp_path / f"{NAME}.partial.owner").unlink()
    with pytest.raises(OutputError, match="it is not complete|no owner beside it"):
        AppendFile.resume(tmp_path, NAME, "/runs/one", 5)
    assert file.path.read_bytes() == b"rows\n"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_crash_while_the_ordered_file_gets_its_name_is_put_right(tmp_path: Path, steps: int) -> None:
    order = OrderFile(tmp_path / "order")
    file = AppendFile.create(tmp_path / "output", NAME, "/runs/one")
    order.append([2, 1], [file.append(b"two\n"), file.append(b"one\n")], [4, 4])
    file.keep_partial()
    ordered = tmp_path / "output" / f"{NAME}.partial.ordered"
    ordered.write_bytes(b"one\ntwo\n" if steps else b"on")
    if steps >= 1:
        os.link(ordered, file.path)
    if steps >= 2:
        file.partial.unlink()
    file = AppendFile.resume(tmp_path / "output", NAME, "/runs/one", 8, complete=True)
    assert file.finish(order).read_bytes() == b"one\ntwo\n"
    assert names(tmp_path / "output") == {NAME}
    order.close()


def test_rows_that_lie_in_order_are_not_copied(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order")
    file = AppendFile.create(tmp_path / "output", NAME, "/runs/one")
    order.append([1, 2], [file.append(b"one\n"), file.append(b"two\n")], [4, 4])
    inode = file.partial.stat().st_ino
    assert file.finish(order).stat().st_ino == inode
    order.close()


def test_no_room_for_the_ordered_copy_is_told_before_it_is_begun(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order")
    file = AppendFile.create(tmp_path / "output", NAME, "/runs/one")
    order.append([2, 1], [file.append(b"two\n"), file.append(b"one\n")], [4, 4])
    file.length = 1 << 60
    with pytest.raises(OutputError, match=r"bytes free.*free some and resume /runs/one"):
        file.finish(order)
    assert names(tmp_path / "output") == {f"{NAME}.partial", f"{NAME}.partial.owner"}
    order.close()


def test_a_disk_that_fills_up_during_the_ordered_copy_leaves_the_partial(tmp_path: Path, file_size_limit: Any) -> None:
    order = OrderFile(tmp_path / "order")
    file = AppendFile.create(tmp_path / "output", NAME, "/runs/one")
    order.append([2, 1], [file.append(b"2" * 5000), file.append(b"1" * 5000)], [5000, 5000])
    with file_size_limit(6000), pytest.raises(OSError, match="too large"):
        file.finish(order)
    assert names(tmp_path / "output") == {f"{NAME}.partial", f"{NAME}.partial.owner"}
    assert file.finish(order).read_bytes() == b"1" * 5000 + b"2" * 5000
    order.close()


def test_records_that_do_not_cover_the_file_are_a_fault_of_ours(tmp_path: Path) -> None:
    order = OrderFile(tmp_path / "order")
    file = AppendFile.create(tmp_path / "output", NAME, "/runs/one")
    order.append([2, 1], [file.append(b"two\n"), file.append(b"one\n")], [4, 4])
    file.append(b"of nobody\n")
    with pytest.raises(EngineError, match="8 bytes of 18"):
        file.finish(order)
    file.close()
    order.close()


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    AppendFile.create(tmp_path, NAME, "/runs/one").discard()
    assert names(tmp_path) == set()

"""What was written to below a folder is told, whether the kernel watches or the folder is walked."""

import os
import shutil

import pytest

from prs_dask.worker_process import folder_watch
from prs_dask.worker_process.folder_watch import FolderWatch


@pytest.fixture(params=["the kernel tells", "it is walked"])
def watch(request, tmp_path, monkeypatch):
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "there").write_text("x")
    if request.param == "it is walked":

        def no_more(name, *arguments):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(folder_watch, "_call", no_more)
    watch = FolderWatch(str(tmp_path))
    yield watch
    watch.close()


def test_what_is_there_already_is_told_first_and_then_nothing(watch):
    assert watch.changed() == {b"before/there"}
    assert watch.changed() == set()


def test_new_files_appended_ones_replaced_ones_and_those_of_new_folders_are_told(watch, tmp_path):
    watch.changed()
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9\n"), "wb") as file:
        file.write(b"x")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "deep").write_text("x")
    assert watch.changed() >= {b"caf\xe9\n", b"a/b/c/deep"}
    with (tmp_path / "before" / "there").open("a") as stream:
        stream.write("y")
    (tmp_path / "a" / "new").write_text("longer")
    (tmp_path / "a" / "new").replace(tmp_path / "a" / "b" / "c" / "deep")
    (tmp_path / "a" / "b" / "c" / "later").touch()
    assert watch.changed() >= {b"before/there", b"a/b/c/deep", b"a/b/c/later"}
    assert watch.changed() == set()


def test_a_folder_that_gets_another_name_has_its_files_there_and_is_watched_there(watch, tmp_path):
    watch.changed()
    (tmp_path / "before").rename(tmp_path / "after")
    assert b"after/there" in watch.changed()
    (tmp_path / "after" / "later").touch()
    assert b"after/later" in watch.changed()


def test_a_folder_that_gets_another_name_makes_it_look_at_no_other_files(watch, tmp_path):
    (tmp_path / "other").write_text("x")
    watch.changed()
    (tmp_path / "before").rename(tmp_path / "after")
    assert watch.changed() == {b"after/there"}


def test_folders_that_change_their_names_with_each_other_are_watched_under_the_last(watch, tmp_path):
    (tmp_path / "other" / "deep").mkdir(parents=True)
    watch.changed()
    (tmp_path / "before").rename(tmp_path / "between")
    (tmp_path / "other").rename(tmp_path / "before")
    (tmp_path / "between").rename(tmp_path / "other")
    assert watch.changed() == {b"other/there"}
    for name in ("before/a", "before/deep/b", "other/c"):
        (tmp_path / name).touch()
    assert watch.changed() == {b"before/a", b"before/deep/b", b"other/c"}


def test_a_folder_that_leaves_and_comes_back_is_watched(watch, tmp_path):
    watch.changed()
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    (tmp_path / "before").rename(away)
    watch.changed()
    (away / "elsewhere").touch()
    away.rename(tmp_path / "again")
    assert watch.changed() >= {b"again/there", b"again/elsewhere"}
    (tmp_path / "again" / "later").touch()
    assert watch.changed() == {b"again/later"}


def test_a_folder_that_is_removed_and_made_anew_is_watched(watch, tmp_path):
    watch.changed()
    (tmp_path / "before" / "there").unlink()
    (tmp_path / "before").rmdir()
    watch.changed()
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "again").touch()
    assert b"before/again" in watch.changed()


def test_more_events_than_the_kernel_keeps_make_it_look_at_everything(tmp_path, monkeypatch):
    watch = FolderWatch(str(tmp_path))
    for number in range(10):
        (tmp_path / str(number)).touch()
    read = os.read
    overflow = folder_watch._EVENT.pack(-1, folder_watch._OVERFLOW, 0, 0)
    answers = [overflow]
    monkeypatch.setattr(os, "read", lambda *arguments: answers.pop() if answers else read(*arguments))
    assert watch.changed() == {str(number).encode() for number in range(10)}
    (tmp_path / "3").write_text("x")
    assert watch.changed() == {b"3"}
    watch.close()


def test_what_was_told_when_a_signal_handler_raised_is_told_again(watch, tmp_path, monkeypatch):
    watch.changed()
    (tmp_path / "new").write_text("x")

    def interrupted(*_):
        raise TimeoutError

    with monkeypatch.context() as patch:
        for name in ("_take", "_walk"):
            patch.setattr(watch, name, interrupted)
        with pytest.raises(TimeoutError):
            watch.changed()
    assert watch.changed() >= {b"new"}


def test_a_watch_that_user_code_has_closed_is_begun_anew(tmp_path):
    watch = FolderWatch(str(tmp_path))
    (tmp_path / "a").touch()
    os.close(watch._descriptor)
    assert watch.changed() == {b"a"}
    (tmp_path / "b").touch()
    assert watch.changed() == {b"b"}
    watch.close()


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_is_made_anew_is_watched_again(watch, tmp_path, how):
    watch.changed()
    if how == "removed":
        shutil.rmtree(tmp_path)
    else:
        tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-old"))
    watch.changed()
    assert watch.changed() == set()
    (tmp_path / "a").mkdir(parents=True)
    (tmp_path / "a" / "first").write_text("x")
    assert watch.changed() == {b"a/first"}
    (tmp_path / "a" / "second").write_text("x")
    assert watch.changed() == {b"a/second"}


def test_a_folder_that_is_made_anew_between_two_looks_is_watched_again(watch, tmp_path):
    watch.changed()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert watch.changed() <= {b"before/there"}
    (tmp_path / "first").write_text("x")
    assert watch.changed() == {b"first"}

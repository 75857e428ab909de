"""Files of scripts take their places with attempts that count, whenever a driver is killed; none is overwritten."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from prs_dask.errors import OutputError
from prs_dask.output import stored_files
from prs_dask.output.stored_files import StoredFiles


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def stored(output):
    files = StoredFiles(output, "run-1", ("rows.txt",))
    files.begin(0)
    return files


def add(stored, key, name, data, *, whose="process000 of node 0", offset=0, first=True, again=False):
    stored.add(key, whose, name, offset, data, first=first, again=again)


def commit(stored, *keys, journal=100):
    stored.prepare(keys, journal)
    stored.publish()


def content(output):
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and not path.relative_to(output).parts[0].startswith(".prs-dask")
    }


def test_files_stand_under_their_names_when_their_attempt_is_committed_and_not_before(stored, output):
    add(stored, (7, "1"), b"a/caf\xe9\n", b"one ")
    add(stored, (7, "1"), b"a/caf\xe9\n", b"two", first=False)
    add(stored, (7, "1"), b"empty", b"")
    add(stored, (8, "1"), b"of another", b"x")
    assert content(output) == {}
    assert (7, "1") in stored
    commit(stored, (7, "1"))
    assert content(output) == {"a/" + os.fsdecode(b"caf\xe9\n"): b"one two", "empty": b""}
    assert (7, "1") not in stored
    stored.drop((8, "1"))
    stored.close()
    assert sorted(os.listdir(output)) == ["a", "empty"]


def test_attempts_that_do_not_count_leave_nothing(stored, output):
    add(stored, (7, "1"), b"a", b"x")
    stored.drop((7, "1"))
    stored.drop((7, "2"))
    add(stored, (9, "1"), b"a", b"x")
    stored.close()
    assert os.listdir(output) == []


def test_pieces_that_go_on_with_what_is_forgotten_are_left_out(stored, output):
    add(stored, (7, "1"), b"a", b"one")
    stored.drop((7, "1"))
    add(stored, (7, "1"), b"a", b"two", first=False)
    assert (7, "1") not in stored
    add(stored, (7, "1"), b"b", b"one")
    add(stored, (7, "1"), b"a", b"two", first=False)
    commit(stored, (7, "1"))
    assert content(output) == {"b": b"one"}


def test_the_process_that_stored_a_file_adds_to_it_and_stores_it_anew(stored, output):
    add(stored, (1, "1"), b"a", b"one")
    commit(stored, (1, "1"))
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    add(stored, (3, "1"), b"a", b" three", offset=7, again=True)
    commit(stored, (2, "1"), (3, "1"))
    assert content(output) == {"a": b"one two three"}
    add(stored, (4, "1"), b"a", b"anew", again=True)
    commit(stored, (4, "1"))
    assert content(output) == {"a": b"anew"}


@pytest.mark.parametrize("at_once", [True, False])
def test_another_that_stores_other_content_under_the_name_is_refused_and_the_same_content_is_not(
    stored, output, at_once
):
    add(stored, (1, "1"), b"a", b"one")
    add(stored, (1, "1"), b"same", b"the same")
    if not at_once:
        commit(stored, (1, "1"))
    add(stored, (2, "1"), b"same", b"the same", whose="process001 of node 3")
    commit(stored, *([(1, "1")] if at_once else []), (2, "1"))
    add(stored, (3, "1"), b"a", b"two", whose="process001 of node 3")
    with pytest.raises(OutputError, match=r"'a', stored by process001 of node 3, .*agent_name"):
        stored.prepare([(3, "1")], 100)
    add(stored, (4, "1"), b"b", b"1")
    add(stored, (5, "1"), b"b", b"2")
    with pytest.raises(OutputError, match="'b', stored by"):
        stored.prepare([(4, "1"), (5, "1")], 100)
    assert content(output) == {"a": b"one", "same": b"the same"}


@pytest.mark.parametrize(("whole", "more"), [(b"", b"rows"), (b"a,b\n", b"1,2\n"), (b"old", b"")])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_has_stored_the_same_as_another_may_not_go_on_with_it(stored, output, whole, more, at_once):
    for number in (1, 2):
        add(stored, (number, "1"), b"a", whole)
        if not at_once:
            commit(stored, (number, "1"))
    both = [(1, "1"), (2, "1")] if at_once else []
    if more:
        add(stored, (3, "1"), b"a", more, offset=len(whole), again=True, whose="process001 of node 3")
    else:
        add(stored, (3, "1"), b"a", b"new", again=True, whose="process001 of node 3")
    with pytest.raises(OutputError, match="'a', stored by process001 of node 3, while another"):
        stored.prepare([*both, (3, "1")], 100)
    assert content(output) == ({} if at_once else {"a": whole})


def test_who_has_stored_the_same_as_another_may_store_just_that_again(stored, output):
    for number in range(4):
        add(stored, (number, "1"), b"a", b"same", again=number > 1)
    commit(stored, (0, "1"), (1, "1"), (2, "1"))
    commit(stored, (3, "1"))
    assert content(output) == {"a": b"same"}


def test_what_another_has_only_added_is_not_the_same_as_a_file_of_that_content(stored, output):
    add(stored, (1, "1"), b"a", b"one")
    commit(stored, (1, "1"))
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    add(stored, (3, "1"), b"a", b" two", whose="process001 of node 3")
    with pytest.raises(OutputError, match="'a', stored by process001 of node 3"):
        stored.prepare([(2, "1"), (3, "1")], 100)
    assert content(output) == {"a": b"one"}


@pytest.mark.parametrize("name", [b"rows.txt", b".prs-dask-run-1/here-1", b"../a", b"/a", b"a/../../b", b""])
def test_names_that_lead_elsewhere_and_those_of_the_step_run_itself_are_refused(stored, output, name):
    with pytest.raises(OutputError):
        add(stored, (1, "1"), name, b"x")
    assert content(output) == {}


def test_what_a_process_stores_at_its_end_needs_no_commit(stored, output):
    add(stored, (-1, "end"), b"a", b"x")
    stored.store((-1, "end"))
    stored.store((-1, "none"))
    assert content(output) == {"a": b"x"}


def prepared(stored, journal):
    add(stored, (1, "1"), b"a", b"one")
    commit(stored, (1, "1"), journal=journal)
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    add(stored, (2, "1"), b"new", b"x")
    stored.prepare([(2, "1")], journal)


def test_a_driver_that_was_killed_before_the_line_has_stored_nothing(stored, output):
    prepared(stored, 100)
    StoredFiles(output, "run-1").begin(100)
    assert content(output) == {"a": b"one"}


@pytest.mark.parametrize("done", ["nothing", "half of what was to be added", "all but one"])
def test_where_the_line_was_written_a_resume_ends_what_the_killed_driver_had_begun(stored, output, done):
    prepared(stored, 100)
    if done == "half of what was to be added":
        (output / "a").write_bytes(b"one t")
    elif done == "all but one":
        (stored.folder / "ready-100" / "0" / "3" / "a").unlink()
        (output / "a").write_bytes(b"one two")
    again = StoredFiles(output, "run-1")
    again.begin(150)
    assert content(output) == {"a": b"one two", "new": b"x"}
    again.close()
    assert sorted(os.listdir(output)) == ["a", "new"]


def test_where_the_line_could_not_be_written_nothing_waits_for_a_resume(stored, output):
    prepared(stored, 100)
    stored.take_back()
    stored.close()
    StoredFiles(output, "run-1").begin(150)
    assert content(output) == {"a": b"one"}


def test_what_is_ready_outlives_the_end_and_waits_for_a_resume(stored, output):
    prepared(stored, 100)
    stored.close()
    StoredFiles(output, "run-1").begin(150)
    assert content(output) == {"a": b"one two", "new": b"x"}


def test_a_file_that_somebody_has_cut_is_not_added_to(stored, output):
    prepared(stored, 100)
    (output / "a").write_bytes(b"o")
    with pytest.raises(OSError, match="shorter than when it was stored"):
        stored.publish()


def test_who_sees_the_mark_shares_the_folder_and_it_goes_with_the_end(stored, output):
    assert os.path.isfile(stored.token)
    other = StoredFiles(output, "run-2")
    other.begin(0)
    assert other.token != stored.token
    for files in (stored, other):
        files.close()
    assert os.listdir(output) == []


def test_workers_that_share_the_folder_find_the_mark_also_where_something_of_an_earlier_driver_stays(
    stored, output, monkeypatch
):
    (stored.folder / "coming").mkdir()
    monkeypatch.setattr("prs_dask.output.stored_files.shutil.rmtree", lambda *_, **__: None)
    again = StoredFiles(output, "run-1")
    again.begin(0)
    assert os.path.isfile(again.token)


def test_where_files_cannot_be_made_ready_nothing_waits_for_a_resume(stored, output, monkeypatch):
    add(stored, (1, "1"), b"a", b"one")
    add(stored, (1, "1"), b"b", b"two")

    def full(path):
        if path.is_dir():
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("prs_dask.output.stored_files.sync", full)
    with pytest.raises(OSError, match="No space"):
        stored.prepare([(1, "1")], 100)
    StoredFiles(output, "run-1").begin(150)
    assert content(output) == {}


def test_what_cannot_be_removed_when_it_is_taken_back_is_not_published_all_the_same(stored, output, monkeypatch):
    prepared(stored, 100)
    monkeypatch.setattr("prs_dask.output.stored_files.shutil.rmtree", lambda *_, **__: None)
    stored.take_back()
    monkeypatch.undo()
    StoredFiles(output, "run-1").begin(150)
    assert content(output) == {"a": b"one"}


def test_what_can_neither_be_removed_nor_taken_back_is_told(stored, output, monkeypatch):
    prepared(stored, 100)
    ready = stored.folder / "ready-100"
    monkeypatch.setattr("pathlib.Path.replace", lambda path, _: (_ for _ in ()).throw(OSError(30, "Read-only", path)))
    with pytest.raises(OutputError, match=f"{ready}.*remove"):
        stored.take_back()


@pytest.mark.parametrize(("first", "second"), [(b"a", b"a/b"), (b"a/b", b"a"), (b"a/b", b"a/b/c/d")])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_name_that_is_a_file_of_one_and_a_folder_of_another_is_refused_before_the_line(
    stored, output, first, second, at_once
):
    add(stored, (1, "1"), first, b"x")
    if not at_once:
        commit(stored, (1, "1"))
    add(stored, (2, "1"), second, b"x", whose="process001 of node 3", again=True)
    with pytest.raises(OutputError, match=r"process001 of node 3, .*folder"):
        stored.prepare([*([(1, "1")] if at_once else []), (2, "1")], 100)
    assert not list(stored.folder.glob("ready-*"))


@pytest.mark.parametrize(("there", "found"), [(b"o", "1 byte "), (b"one and more", "12 bytes ")])
def test_an_addition_to_what_has_another_length_is_refused_before_the_line(stored, output, there, found):
    add(stored, (1, "1"), b"a", b"one")
    commit(stored, (1, "1"))
    (output / "a").write_bytes(there)
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    with pytest.raises(OutputError, match=f"'a'.*{found}"):
        stored.prepare([(2, "1")], 100)
    add(stored, (3, "1"), b"none", b" two", offset=3, again=True)
    with pytest.raises(OutputError, match="'none'.*not there"):
        stored.prepare([(3, "1")], 100)
    assert not list(stored.folder.glob("ready-*"))


def test_additions_of_one_commit_build_on_each_other(stored, output):
    add(stored, (1, "1"), b"a", b"one")
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    add(stored, (2, "1"), b"a", b" and", first=False, offset=3)
    add(stored, (3, "1"), b"a", b" three", offset=11, again=True)
    commit(stored, (1, "1"), (2, "1"), (3, "1"))
    assert content(output) == {"a": b"one two and three"}


def test_what_has_no_place_at_a_resume_is_told_with_the_folder_where_it_waits(stored, output):
    prepared(stored, 100)
    (output / "a").unlink()
    (output / "a").mkdir()
    with pytest.raises(OutputError, match=f"{stored.folder / 'ready-100'}"):
        StoredFiles(output, "run-1").begin(150)


@pytest.mark.parametrize("calls", range(9))
def test_a_driver_that_is_killed_anywhere_while_files_take_their_places_leaves_nothing_torn(
    stored, output, monkeypatch, calls
):
    add(stored, (1, "1"), b"a", b"one")
    add(stored, (1, "1"), b"b", b"one")
    commit(stored, (1, "1"))
    add(stored, (2, "1"), b"a", b" two", offset=3, again=True)
    add(stored, (3, "1"), b"a", b"anew and long", again=True)
    add(stored, (4, "1"), b"a", b" more", offset=13, again=True)
    add(stored, (5, "1"), b"a", b" and more", offset=18, again=True)
    add(stored, (5, "1"), b"b", b" two", offset=3, again=True)
    stored.prepare([(number, "1") for number in (2, 3, 4, 5)], 100)
    left = calls

    def counted(act):
        def wrapped(*arguments, **more):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return act(*arguments, **more)

        return wrapped

    for name in ("replace", "unlink"):
        monkeypatch.setattr(f"pathlib.Path.{name}", counted(getattr(Path, name)))
    monkeypatch.setattr("prs_dask.output.stored_files._append_at", counted(stored_files._append_at))
    monkeypatch.setattr("prs_dask.output.stored_files.shutil.rmtree", counted(shutil.rmtree))
    with contextlib.suppress(KeyboardInterrupt):
        stored.publish()
    monkeypatch.undo()
    StoredFiles(output, "run-1").begin(150)
    assert content(output) == {"a": b"anew and long more and more", "b": b"one two"}

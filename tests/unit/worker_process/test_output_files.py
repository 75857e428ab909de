"""What a script has stored leaves with the attempt that wrote it, once, and what a failed one has made does not."""

import errno
import itertools
import mmap
import os
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.worker_process import output_files
from prs_dask.worker_process.output_files import AGAIN, FIRST, OutputFiles, unpack_file_piece


@pytest.fixture
def outputs(tmp_path):
    made = OutputFiles(str(tmp_path))
    yield made
    made._watch.close()


def sent(outputs, **how):
    """One attempt that succeeds: (name, flags, offset, data) of its pieces."""
    pieces = [unpack_file_piece(piece) for piece in outputs.pieces(**how) if piece]
    outputs.sent()
    return [(piece.name, piece.flags, piece.offset, piece.data) for piece in pieces]


def test_each_file_leaves_once_whole_and_an_empty_one_too(outputs, tmp_path):
    (tmp_path / "a").write_text("content")
    (tmp_path / "empty").touch()
    assert sent(outputs) == [(b"a", FIRST, 0, b"content"), (b"empty", FIRST, 0, b"")]
    assert sent(outputs) == []


def test_of_a_file_that_grows_what_is_new_leaves_and_of_a_rewritten_one_all(outputs, tmp_path):
    (tmp_path / "a").write_text("one")
    sent(outputs)
    with (tmp_path / "a").open("a") as stream:
        stream.write(" two")
        stream.flush()
        assert sent(outputs) == [(b"a", FIRST | AGAIN, 3, b" two")]
    (tmp_path / "a").write_text("another that is longer")
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 0, b"another that is longer")]
    (tmp_path / "a").write_text("short")
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 0, b"short")]


def test_large_files_leave_in_pieces(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "MAX_PIECE", 10)
    (tmp_path / "a").write_bytes(b"0123456789" * 2 + b"x")
    assert sent(outputs) == [(b"a", FIRST, 0, b"0123456789"), (b"a", 0, 0, b"0123456789"), (b"a", 0, 0, b"x")]


def test_what_a_failed_attempt_has_made_is_removed_but_for_what_was_there_or_is_open(outputs, tmp_path):
    (tmp_path / "of init").write_text("i")
    outputs.attempt_begins()
    (tmp_path / "before").write_text("b")
    sent(outputs)
    outputs.attempt_begins()
    (tmp_path / "new").write_text("n")
    with (tmp_path / "open").open("w") as kept, (tmp_path / "before").open("a") as grown:
        kept.write("k")
        grown.write("g")
        kept.flush()
        grown.flush()
        outputs.failed()
        assert sorted(os.listdir(tmp_path)) == ["before", "of init", "open"]
        kept.write("k")
    assert sent(outputs) == [(b"before", FIRST | AGAIN, 1, b"g"), (b"open", FIRST, 0, b"kk")]


def test_what_init_has_made_outlives_a_first_attempt_that_fails(outputs, tmp_path):
    (tmp_path / "of init").write_text("i")
    outputs.attempt_begins()
    outputs.failed()
    assert sent(outputs) == [(b"of init", FIRST, 0, b"i")]


def test_an_attempt_that_fails_while_its_files_leave_has_sent_nothing(outputs, tmp_path):
    (tmp_path / "a").write_text("one")
    sent(outputs)
    outputs.attempt_begins()
    (tmp_path / "a").write_text("one two")
    (tmp_path / "b").write_text("b")
    next(outputs.pieces())
    outputs.failed()
    assert not (tmp_path / "b").exists()
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 3, b" two")]


def test_links_and_pipes_are_no_files(outputs, tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    assert sent(outputs) == []


def test_a_large_file_that_was_changed_in_its_middle_leaves_whole_when_the_process_ends(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "COMPARED_BYTES", 10)
    monkeypatch.setattr(output_files, "_END_BYTES", 4)
    (tmp_path / "a").write_text("0123456789abcdef")
    sent(outputs)
    (tmp_path / "a").write_text("01234-----abcdef and more")
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 16, b" and more")]
    assert sent(outputs, last=True) == [(b"a", FIRST | AGAIN, 0, b"01234-----abcdef and more")]


def test_a_change_in_the_middle_of_a_large_file_that_leaves_its_size_leaves_at_once(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "COMPARED_BYTES", 10)
    monkeypatch.setattr(output_files, "_END_BYTES", 4)
    (tmp_path / "a").write_text("0123456789abcdef")
    sent(outputs)
    (tmp_path / "a").write_text("01234-----abcdef")
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 0, b"01234-----abcdef")]


def settle(folder):
    """As if what lies there had been written a while ago."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, 0))
    time.sleep(2 * output_files.SETTLED_NS / 1e9)  # no call sets the time of the last change of an inode


def read_from(outputs, monkeypatch):
    """Names of files of which anything is read while an attempt succeeds."""
    read = set()
    with monkeypatch.context() as patch:
        pread = os.pread
        patch.setattr(os, "pread", lambda file, *at: read.add(os.readlink(f"/proc/self/fd/{file}")) or pread(file, *at))
        sent(outputs)
    return {os.path.basename(path) for path in read}


def test_a_large_file_that_was_only_opened_is_not_read_again_before_the_process_ends(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "COMPARED_BYTES", 10)
    for name in ("opened", "written"):
        (tmp_path / name).write_text("0123456789abcdef")
    settle(tmp_path)
    sent(outputs)
    (tmp_path / "opened").open("a").close()
    (tmp_path / "written").write_text("0123456789abcdef")
    assert read_from(outputs, monkeypatch) == {"written"}
    assert outputs._in_parts == {b"opened"}


def test_of_more_files_than_are_remembered_those_that_have_not_changed_are_not_sent_again(
    outputs, tmp_path, monkeypatch
):
    monkeypatch.setattr(output_files, "MOST_REMEMBERED", 2)
    for name in "abcd":
        (tmp_path / name).write_text(name)
    settle(tmp_path)
    sent(outputs)
    (tmp_path / "b").write_text("B")
    outputs._watch.close()  # as where the kernel has more to tell than it keeps
    assert sent(outputs) == [(b"b", FIRST | AGAIN, 0, b"B")]


def test_what_one_attempt_keeps_in_memory_does_not_grow_with_its_files(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "MOST_REMEMBERED", 2)
    (tmp_path / "a").write_text("one")
    sent(outputs)
    for name in "abcd":
        (tmp_path / name).write_text("longer")
    for _ in outputs.pieces():
        assert len(outputs._new) <= 2
    outputs.sent()
    with (tmp_path / "a").open("a") as stream:
        stream.write(" still")
    assert sent(outputs) == [(b"a", FIRST | AGAIN, 0, b"longer still")]  # it does not go on from what was sent first


def test_many_files_that_are_compared_are_a_sign_of_life_together(outputs, tmp_path, monkeypatch):
    for number in range(10):
        (tmp_path / str(number)).write_text("x")
    sent(outputs)
    for number in range(10):
        (tmp_path / str(number)).open("a").close()
    clock = itertools.count(0.0, output_files.STILL_HERE_SECONDS / 4)
    monkeypatch.setattr(output_files, "monotonic", lambda: next(clock))
    assert len(list(outputs.pieces())) == 5  # each file is looked at, and compared


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT])
def test_where_it_cannot_be_told_what_is_open_all_that_a_failed_attempt_has_made_is_kept(
    outputs, tmp_path, monkeypatch, number
):
    (tmp_path / "a").write_text("x")

    def refused(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "listdir", refused)
    outputs.failed()
    monkeypatch.undo()
    assert sent(outputs) == [(b"a", FIRST, 0, b"x")]


steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "rewrite", "remove", "rename", "succeed", "fail"]),
        st.sampled_from(["a", "b", "c"]),
        st.binary(max_size=30),
    ),
    max_size=20,
)


@given(steps)
def test_whatever_a_script_does_what_has_left_is_what_stands_there_in_the_end(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("any")
    outputs, there = OutputFiles(str(folder)), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_files, "MAX_PIECE", 7)
        patch.setattr(output_files, "MOST_REMEMBERED", 2)

        def leave(**how):
            coming = {}
            for piece in filter(None, outputs.pieces(**how)):
                flags, offset, name, data = unpack_file_piece(piece)
                if flags & FIRST:
                    assert bool(flags & AGAIN) == (name.decode() in there)
                    coming[name.decode()] = there.get(name.decode(), b"")[:offset]
                coming[name.decode()] += data
            outputs.sent()
            there.update(coming)

        outputs.attempt_begins()
        for what, name, content in steps:
            path = folder / name
            if what == "append":
                with path.open("ab") as stream:
                    stream.write(content)
            elif what == "rewrite":
                path.write_bytes(content)
            elif what == "remove":
                path.unlink(missing_ok=True)
            elif what == "rename" and path.exists():
                path.replace(folder / "d")
            elif what == "succeed":
                leave()
                outputs.attempt_begins()
            elif what == "fail":
                outputs.failed()
                outputs.attempt_begins()
        leave(last=True)
    outputs._watch.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()}.items() <= there.items()


def test_a_file_whose_folder_has_become_a_file_is_gone(outputs, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    outputs.attempt_begins()
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("a file")
    assert sent(outputs) == [(b"a", FIRST, 0, b"a file")]


def test_a_file_that_cannot_be_opened_fails_one_attempt_and_not_each_one_after_it(outputs, tmp_path, monkeypatch):
    (tmp_path / "closed").write_text("x")
    outputs.attempt_begins()
    opened = os.open

    def refused(path, *arguments, **more):
        if os.fsdecode(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        list(outputs.pieces())
    outputs.failed()
    outputs.attempt_begins()
    (tmp_path / "other").write_text("y")
    assert sent(outputs) == [(b"other", FIRST, 0, b"y")]
    monkeypatch.undo()
    (tmp_path / "closed").write_text("open now")
    assert sent(outputs) == [(b"closed", FIRST, 0, b"open now")]


def test_at_the_end_only_large_files_that_were_changed_are_read_again_and_a_sign_of_life_leaves(
    outputs, tmp_path, monkeypatch
):
    monkeypatch.setattr(output_files, "COMPARED_BYTES", 10)
    monkeypatch.setattr(output_files, "_END_BYTES", 4)
    for name in ("changed", "left"):
        (tmp_path / name).write_text("0123456789abcdef")
    sent(outputs)
    (tmp_path / "changed").write_text("01234-----abcdef and more")
    assert sent(outputs) == [(b"changed", FIRST | AGAIN, 16, b" and more")]
    monkeypatch.setattr(output_files, "STILL_HERE_SECONDS", 0.0)
    read = []
    pread = os.pread
    monkeypatch.setattr(
        os, "pread", lambda file, *at: read.append(os.readlink(f"/proc/self/fd/{file}")) or pread(file, *at)
    )
    *empty, piece = outputs.pieces(last=True)
    assert set(empty) == {b""}
    assert unpack_file_piece(piece).data == b"01234-----abcdef and more"
    assert {os.path.basename(path) for path in read} == {"changed"}


def test_what_is_written_into_a_mapping_leaves_when_it_is_closed_or_the_process_ends(outputs, tmp_path):
    for name in ("a b\n", "closed"):
        (tmp_path / name).write_bytes(bytes(4096))
    sent(outputs)
    kept, closed = (tmp_path / "a b\n").open("r+b"), (tmp_path / "closed").open("r+b")
    with kept, mmap.mmap(kept.fileno(), 0) as one:
        with closed, mmap.mmap(closed.fileno(), 0) as other:
            sent(outputs)
            one[:1] = other[:1] = b"x"
        assert [name for name, *_ in sent(outputs)] == [b"closed"]
        assert [name for name, *_ in sent(outputs, last=True)] == [b"a b\n"]


def test_what_is_remembered_of_many_files_takes_little_memory(outputs, tmp_path):
    for number in range(10):
        (tmp_path / str(number)).write_bytes(os.urandom(1 << 17))
    sent(outputs)
    kept = sum(len(one._first) + len(one._last) for one in outputs._sent.values())
    assert kept / 10 * output_files.MOST_REMEMBERED < 10 << 20

"""What arrives of a file is what it holds, whether it grows or is written anew, and whoever is killed meanwhile."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.engine import changing_file, log_shipping
from prs_dask.engine.changing_file import ChangingFile
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.sent_files import SentFiles


@pytest.fixture
def file(tmp_path):
    return ChangingFile(tmp_path / "a.txt", "log_dir", 3, 7, b"a.txt")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)


@pytest.fixture
def unhurried(monkeypatch):
    """Files may be rewritten as often as one likes."""
    monkeypatch.setattr(changing_file, "REWRITTEN_BYTES_A_SECOND", 1 << 60)


def drain(file, **how):
    pieces = []
    while (piece := file.next_piece(**how)) is not None:
        pieces.append(piece)
    return pieces


def told(pieces):
    return [(piece["data"], piece.get("whole", False), piece.get("more", False)) for piece in pieces]


def test_what_is_appended_comes_once_and_says_whose_it_is(file):
    assert drain(file) == []
    file.path.write_bytes(b"one")
    assert drain(file) == [{"stream": "log_dir", "node": 3, "process": 7, "name": b"a.txt", "data": b"one"}]
    with file.path.open("ab") as stream:
        stream.write(b" two")
    assert told(drain(file)) == [(b" two", False, False)]
    assert drain(file) == []


def test_an_empty_file_comes_too(file):
    file.path.touch()
    assert told(drain(file)) == [(b"", False, False)]
    assert drain(file, ended=True) == []


@pytest.mark.parametrize("content", [b"", b"o", b"two", b"and something longer"])
def test_a_file_that_is_rewritten_comes_whole(file, unhurried, content):
    file.path.write_bytes(b"one")
    drain(file)
    file.path.write_bytes(content)
    os.utime(file.path, ns=(0, 0))  # clocks of file systems are coarse
    assert told(drain(file)) == [(content, True, False)]


def test_a_file_that_another_has_replaced_comes_whole_and_in_pieces_the_last_of_which_is_told(file, small, unhurried):
    file.path.write_bytes(b"one")
    drain(file)
    new = file.path.with_name("new")
    new.write_bytes(b"0123456789" * 3)
    new.replace(file.path)
    assert told(drain(file)) == [
        (b"0123456789", True, True),
        (b"0123456789", False, True),
        (b"0123456789", False, False),
    ]


def test_what_is_only_touched_or_replaced_by_the_same_does_not_come_again(file):
    file.path.write_bytes(b"one")
    drain(file)
    os.utime(file.path, ns=(0, 0))
    assert drain(file) == []
    new = file.path.with_name("new")
    new.write_bytes(b"one")
    new.replace(file.path)
    assert drain(file) == []


def test_a_large_file_that_is_rewritten_all_the_time_is_not_sent_all_the_time_but_in_the_end(file):
    file.path.write_bytes(b"x" * 1_000_000)
    drain(file)
    file.path.write_bytes(b"y" * 1_000_000)
    assert len(drain(file)) == 1
    file.path.write_bytes(b"z" * 1_000_001)
    assert drain(file) == []
    assert b"".join(piece["data"] for piece in drain(file, ended=True)) == b"z" * 1_000_001


def test_a_large_file_is_looked_at_where_it_begins_and_where_it_was_left(file, monkeypatch, unhurried):
    monkeypatch.setattr(changing_file, "COMPARED_BYTES", 20_000)
    file.path.write_bytes(b"x" * 30_000)
    drain(file)
    with file.path.open("ab") as stream:
        stream.write(b"appended")
    assert told(drain(file)) == [(b"appended", False, False)]
    with file.path.open("r+b") as stream:
        stream.write(b"begins anew")
    os.utime(file.path, ns=(0, 0))
    assert told(drain(file))[0][1:] == (True, False)


def test_links_and_pipes_that_stand_in_its_place_are_left_alone(file, tmp_path):
    (tmp_path / "elsewhere").write_text("secret")
    file.path.symlink_to(tmp_path / "elsewhere")
    assert file.may_have_news()
    assert drain(file) == []
    file.path.unlink()
    os.mkfifo(file.path)
    assert drain(file) == []


def test_of_a_flood_head_and_tail_come(file, monkeypatch):
    for name, size in {"PIECE_BYTES": 200, "BACKLOG_BYTES": 1000, "HEAD_BYTES": 200, "TAIL_BYTES": 100}.items():
        monkeypatch.setattr(log_shipping, name, size)
    file.path.write_bytes(b"h" * 200 + b"m" * 4700 + b"t" * 100)
    data = b"".join(piece["data"] for piece in drain(file))
    assert data == b"h" * 200 + b"\n[prs_dask: 4700 bytes left out here]\n" + b"t" * 100
    assert drain(file, ended=True) == []


@pytest.fixture
def large(file, monkeypatch, unhurried):
    """A file that has come whole, and is larger than a flood may be."""
    monkeypatch.setattr(changing_file, "COMPARED_BYTES", 500)
    monkeypatch.setattr(changing_file, "_END_BYTES", 50)
    for name, size in {"PIECE_BYTES": 400, "BACKLOG_BYTES": 1000, "HEAD_BYTES": 200, "TAIL_BYTES": 100}.items():
        monkeypatch.setattr(log_shipping, name, size)
    for _ in range(2):
        with file.path.open("ab") as stream:
            stream.write(b"0123456789" * 80)
        drain(file)
    return file


def came(pieces):
    return b"".join(piece["data"] for piece in pieces)


def test_a_large_file_that_is_looked_at_in_the_middle_of_a_write_does_not_come_anew(large):
    os.utime(large.path, ns=(0, 0))  # a write sets the time before the size
    assert drain(large) == []
    assert large.may_have_news()
    with large.path.open("ab") as stream:
        stream.write(b"appended")
    assert told(drain(large)) == [(b"appended", False, False)]


@pytest.mark.parametrize("how", [{}, {"ended": True}])
def test_a_large_file_that_stood_whole_and_was_touched_stands_whole_again(large, how):
    os.utime(large.path, ns=(0, 0))
    large.next_piece()
    pieces = drain(large, **how)
    assert (pieces[0]["whole"], came(pieces)) == (True, large.path.read_bytes())
    assert drain(large) == []


def test_what_replaces_a_file_that_stood_whole_is_cut_only_where_it_is_much_larger(large):
    large.path.write_bytes(b"x" * 3000)
    assert came(drain(large)) == b"x" * 3000
    large.path.write_bytes(b"y" * 7000)
    assert b"bytes left out here" in came(drain(large))


def test_who_takes_a_large_file_over_does_not_send_it_again(large):
    large.note_call(7)
    again = ChangingFile(large.path, "log_dir", 3, 7, b"a.txt")
    number, end = again.resume()
    assert (number, end) == (7, 1600)
    again.go_on_at(end)
    assert drain(again, ended=True) == []


contents = st.binary(max_size=35)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("append"), contents),
        st.tuples(st.just("rewrite"), contents),
        st.tuples(st.just("replace"), contents),
        st.tuples(st.just("ship"), st.integers(1, 3)),
        st.tuples(st.just("killed"), st.booleans()),
    ),
    max_size=12,
)


@given(changes)
def test_whatever_happens_the_driver_has_in_the_end_what_the_file_holds(tmp_path_factory, changes):
    """With calls as the shipper numbers them: a repeated one is dropped where it had come."""
    folder = tmp_path_factory.mktemp("any")
    path, note = folder / "a", folder / "note"
    files = LogFiles(folder / "logs")
    sent = SentFiles(files)
    file, number, heard = ChangingFile(path, "log_dir", 0, 0, b"a", note), 0, 0

    def send(piece, number):
        nonlocal heard
        if number > heard:
            heard = number
            sent.add("a", piece["data"], whole=piece.get("whole", False), more=piece.get("more", False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_shipping, "PIECE_BYTES", 10)
        patch.setattr(changing_file, "REWRITTEN_BYTES_A_SECOND", 1 << 60)
        for what, content in changes:
            if what == "append":
                with path.open("ab") as stream:
                    stream.write(content)
            elif what == "rewrite":
                path.write_bytes(content)
                os.utime(path, ns=(0, number))
            elif what == "replace":
                (folder / "new").write_bytes(content)
                (folder / "new").replace(path)
            elif what == "ship":
                for _ in range(content):
                    if (piece := file.next_piece()) is not None:
                        number += 1
                        file.note_call(number)
                        send(piece, number)
            else:
                piece = file.next_piece()  # the last that the dead one sent; it came, or did not
                if piece is not None:
                    file.note_call(number + 1)
                if piece is not None and content:
                    send(piece, number + 1)
                file = ChangingFile(path, "log_dir", 0, 0, b"a", note)
                number, end = file.resume()
                if end and (again := file.next_piece(end)) is not None:
                    send(again, number)
                number = max(number, heard)
        while (piece := file.next_piece(ended=True)) is not None:
            number += 1
            send(piece, number)
    sent.close()
    assert not path.exists() or (folder / "logs" / "a").read_bytes() == path.read_bytes()
    assert files.failures == 0
    files.close()

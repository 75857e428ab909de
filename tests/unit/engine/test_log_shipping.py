"""Spool files arrive whole, once, in order; only the middle of a flood is left out, and that is said."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.engine import log_shipping
from prs_dask.engine.log_shipping import SpoolFile


@pytest.fixture
def spool(tmp_path):
    return SpoolFile(tmp_path / "stdout.txt", "stdout", 3, 7)


def append(file: SpoolFile, data: bytes) -> None:
    with file.path.open("ab") as stream:
        stream.write(data)


def drain(file: SpoolFile) -> bytes:
    pieces = []
    while (piece := file.next_piece()) is not None:
        pieces.append(piece["data"])
    return b"".join(pieces)


def test_a_file_that_is_not_there_yet_has_nothing_new(spool):
    assert spool.next_piece() is None
    spool.free_shipped()
    append(spool, b"hello")
    assert spool.next_piece() == {"stream": "stdout", "node": 3, "process": 7, "data": b"hello"}
    assert spool.next_piece() is None


def test_what_is_appended_later_comes_once(spool):
    append(spool, b"one ")
    assert drain(spool) == b"one "
    append(spool, b"two")
    append(spool, b" three")
    assert drain(spool) == b"two three"
    assert drain(spool) == b""


def test_pieces_are_at_most_a_mebibyte(spool):
    data = os.urandom((2 << 20) + 17)
    append(spool, data)
    sizes = []
    shipped = b""
    while (piece := spool.next_piece()) is not None:
        sizes.append(len(piece["data"]))
        shipped += piece["data"]
    assert sizes == [1 << 20, 1 << 20, 17]
    assert shipped == data


def test_shipped_bytes_give_their_disk_space_back_and_offsets_stay(spool):
    append(spool, b"x" * (1 << 20))
    drain(spool)
    before = spool.path.stat().st_blocks
    spool.free_shipped()
    after = spool.path.stat()
    assert after.st_size == 1 << 20
    if after.st_blocks == before:
        pytest.skip("this file system cannot punch holes")
    assert after.st_blocks < before / 4
    append(spool, b"and on")
    assert drain(spool) == b"and on"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(log_shipping, "BACKLOG_BYTES", 1000)
    monkeypatch.setattr(log_shipping, "HEAD_BYTES", 200)
    monkeypatch.setattr(log_shipping, "TAIL_BYTES", 100)


def test_a_flood_within_a_moment_keeps_its_head_and_tail_in_whole_lines_and_tells_how_much_is_missing(spool, small):
    lines = b"".join(b"line %04d\n" % number for number in range(500))
    append(spool, lines)
    shipped = drain(spool)
    match = re.fullmatch(rb"((?:line \d{4}\n)+)\[prs_dask: (\d+) bytes left out here\]\n((?:line \d{4}\n)+)", shipped)
    assert match is not None
    assert lines.startswith(match[1])
    assert lines.endswith(match[3])
    assert len(match[1]) + int(match[2]) + len(match[3]) == len(lines)
    assert len(match[1]) == 200
    assert 90 <= len(match[3]) <= 100


def test_a_flood_without_lines_is_cut_anywhere(spool, small):
    append(spool, b"h" * 200 + b"m" * 4700 + b"t" * 100)
    assert drain(spool) == b"h" * 200 + b"\n[prs_dask: 4700 bytes left out here]\n" + b"t" * 100


def test_exactly_the_backlog_is_no_flood(spool, monkeypatch):
    monkeypatch.setattr(log_shipping, "BACKLOG_BYTES", 1000)
    monkeypatch.setattr(log_shipping, "TAIL_BYTES", 100)
    append(spool, b"x" * 1000)
    assert drain(spool) == b"x" * 1000


def test_pieces_of_a_file_that_many_share_end_where_lines_do(tmp_path, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 20)
    spool = SpoolFile(tmp_path / "metrics.jsonl", "metrics", 0, 1, shared=True)
    append(spool, b"one\ntwo\nthr")
    assert drain(spool) == b"one\ntwo\n"
    assert spool.next_piece() is None
    append(spool, b"ee\n" + b"x" * 30 + b"\nfour\n")
    pieces = []
    while (piece := spool.next_piece()) is not None:
        pieces.append(piece["data"])
    assert pieces == [b"three\n", b"x" * 20, b"x" * 10 + b"\nfour\n"]


def test_among_lines_of_json_what_is_left_out_is_told_as_json(spool, small):
    spool.as_json = True
    append(spool, b"".join(b'{"line": %4d}\n' % number for number in range(500)))
    lines = [json.loads(line) for line in drain(spool).splitlines()]
    [told] = [line for line in lines if "message" in line]
    assert re.fullmatch(r"\d+ bytes left out here", told["message"])
    assert (told["log"], told["node"], told["process"]) == ("prs_dask", 3, "process007")


def told_once(shipped: bytes) -> list[bytes]:
    """Its lines without the one that says that the file was emptied, which comes once."""
    lines = shipped.splitlines()
    assert sum(b"a program has emptied this file" in line for line in lines) == 1
    return [line for line in lines if b"has emptied" not in line]


@pytest.mark.parametrize("freed", [True, False])
@pytest.mark.parametrize("written", [b"hi\n", b"other line\n", b"something longer than before\n"])
def test_what_is_written_to_a_file_that_was_emptied_comes_whole(spool, freed, written):
    append(spool, b"first line\n")
    shipped = drain(spool)
    if freed:
        spool.free_shipped()
    spool.path.write_bytes(written)
    append(spool, b"last\n")
    shipped += drain(spool)
    assert told_once(shipped) == [b"first line", *written.splitlines(), b"last"]


def test_the_same_line_written_anew_each_time_comes_each_time(spool, monkeypatch):
    shipped = b""
    for _ in range(3):
        spool.path.write_bytes(b"hello\n")  # echo hello > /dev/stderr
        shipped += drain(spool)
        spool.free_shipped()
    assert told_once(shipped) == [b"hello"] * 3


def test_where_nothing_can_be_freed_a_file_that_was_emptied_is_known_too(spool, monkeypatch):
    class CannotFree:
        fallocate = staticmethod(lambda *arguments: -1)

    monkeypatch.setattr(log_shipping, "_libc", CannotFree)
    test_the_same_line_written_anew_each_time_comes_each_time(spool, monkeypatch)


def test_nothing_of_a_file_that_was_emptied_is_freed_before_it_is_shipped(spool):
    append(spool, b"x" * 100)
    shipped = drain(spool)
    spool.path.write_bytes(b"new\n")
    spool.free_shipped()
    shipped += drain(spool)
    assert told_once(shipped) == [b"x" * 100, b"new"]


@pytest.mark.parametrize("gap", [5, 5000, 200_000])
def test_the_gap_that_a_writer_leaves_which_goes_on_at_its_place_in_an_emptied_file_is_no_output(spool, gap):
    append(spool, b"x" * (gap + 10) + b"\n")
    shipped = drain(spool)
    spool.free_shipped()
    with spool.path.open("r+b") as stream:
        stream.truncate(0)
        stream.seek(gap)
        stream.write(b"on\n")
    append(spool, b"last\n")
    shipped += drain(spool)
    assert told_once(shipped) == [b"x" * (gap + 10), b"on", b"last"]


@pytest.mark.parametrize("freed", [True, False])
def test_who_takes_a_file_over_goes_on_where_it_was_left(spool, freed):
    append(spool, b"so far\n")
    assert drain(spool) == b"so far\n"
    spool.note_call(7)
    if freed:
        spool.free_shipped()
    append(spool, b"last words\n")
    again = SpoolFile(spool.path, "stdout", 3, 7)
    assert again.resume() == (7, 7)
    again.go_on_at(7)
    assert drain(again) == b"last words\n"


@pytest.mark.parametrize("written", [b"", b"hi\n", b"other \n", b"something longer\n"])
def test_who_takes_a_file_over_that_was_emptied_sends_what_it_holds_now(spool, written):
    append(spool, b"so far\n")
    drain(spool)
    spool.note_call(7)
    spool.path.write_bytes(written)
    again = SpoolFile(spool.path, "stdout", 3, 7)
    assert again.resume() == (7, 0)
    assert drain(again) == written


def test_who_takes_over_just_when_it_was_told_that_a_file_was_emptied_sends_what_it_holds(spool):
    append(spool, b"so far\n")
    drain(spool)
    spool.path.write_bytes(b"new\n")
    assert b"has emptied" in spool.next_piece()["data"]
    spool.note_call(8)
    again = SpoolFile(spool.path, "stdout", 3, 7)
    assert again.resume() == (8, 0)
    assert drain(again) == b"new\n"


writes_and_rounds = st.tuples(st.sampled_from(["append", "empty"]), st.text("ab", max_size=20), st.booleans())


@given(st.lists(writes_and_rounds, max_size=12))
def test_however_often_a_file_is_emptied_each_line_that_had_time_to_come_comes_once(tmp_path_factory, writes):
    spool = SpoolFile(tmp_path_factory.mktemp("any") / "stderr.txt", "stderr", 0, 1)
    shipped, expected = b"", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_shipping, "PIECE_BYTES", 7)
        for how, text, then_shipped in writes:
            if how == "empty":
                shipped += drain(spool)
                spool.free_shipped()
                spool.path.write_bytes(f"{text}\n".encode())
            else:
                append(spool, f"{text}\n".encode())
            expected.append(text)
            if then_shipped:
                shipped += drain(spool)
                spool.free_shipped()
        shipped += drain(spool)
    assert [line for line in shipped.decode().splitlines() if "has emptied" not in line] == expected
    assert shipped.count(b"has emptied") <= 1

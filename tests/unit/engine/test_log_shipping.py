"""Spool files arrive whole, once, in order; only the middle of a flood is left out, and that is said."""

import json
import os
import re

import pytest

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

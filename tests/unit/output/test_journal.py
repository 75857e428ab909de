"""The journal and its recovery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prs_dask.attempts.bisecting import PartlyDone
from prs_dask.errors import OutputError
from prs_dask.mini_batches import Part
from prs_dask.output.id_ranges import IdSet
from prs_dask.output.journal import Failure, JournalState, JournalWriter, iter_failures, read_journal

FAILURE = Failure(7, 10, 3, "exception", 'bad "image" \udc80\n\x1b[1m')


def new_journal(path: Path) -> JournalWriter:
    return JournalWriter.create(
        path, run="step-1", created="2026-01-01T00:00:00Z", fingerprint={"settings": "ab"}, plan={"mini_batch_size": 5}
    )


def full_journal(path: Path) -> list[int]:
    """A journal with each kind of line; where every line ends."""
    writer = new_journal(path)
    ends = [writer.length]
    writer.inputs(500)
    writer.sync()
    ends.append(writer.length)
    writer.commit(output=100, order=8, finished="0-6", counts={"items": 70}, header_line=b"a \xff\n")
    writer.sync()
    ends.append(writer.length)
    writer.commit(output=130, order=9, finished="8", failed=[FAILURE], counts={"items": 10}, process_numbers={0: 4})
    writer.sync()
    ends.append(writer.length)
    writer.inputs(900, complete=True)
    writer.sync()
    ends.append(writer.length)
    writer.end("Failed", "2026-01-01T00:01:00Z")
    writer.sync()
    ends.append(writer.length)
    writer.resumed("2026-01-02T00:00:00Z", retry_failed=True)
    writer.sync()
    ends.append(writer.length)
    writer.commit(output=150, order=10, finished="7", parts=[Part(10, 5, 9, 9)])
    writer.sync()
    ends.append(writer.length)
    writer.close()
    return ends


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    ends = full_journal(path)
    path.write_bytes(path.read_bytes()[: ends[5]])
    state = read_journal(path)
    assert state.header is not None
    assert state.header["run"] == "step-1"
    assert state.header["plan"] == {"mini_batch_size": 5}
    assert (state.output_length, state.order_count, state.header_line) == (130, 9, b"a \xff\n")
    assert state.finished == IdSet([(0, 7), (8, 9)])
    assert (state.failed, state.failed_items) == (IdSet([(7, 8)]), 10)
    assert state.counts == {"items": 80}
    assert state.inputs == (900, True)
    assert state.process_numbers == {0: 4}
    assert state.end_state == "Failed"
    assert state.valid_bytes == ends[5]
    assert list(iter_failures(path)) == [FAILURE]


def test_a_resume_opens_what_had_failed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    full_journal(path)
    state = read_journal(path)
    assert state.finished == IdSet([(0, 9)])
    assert (state.failed, state.failed_items, state.end_state) == (IdSet(), 0, None)


def test_every_line_is_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    full_journal(path)
    kinds = [json.loads(line)["kind"] for line in path.read_text("ascii").splitlines()]
    assert kinds == ["header", "inputs", "commit", "commit", "inputs", "end", "resumed", "commit"]


def test_recovery_from_every_prefix_gives_exactly_the_whole_lines(tmp_path: Path) -> None:
    path, torn = tmp_path / "journal.jsonl", tmp_path / "torn.jsonl"
    ends = full_journal(path)
    data = path.read_bytes()
    lines = [json.loads(line) for line in data.splitlines()]
    for cut in range(len(data) + 1):
        torn.write_bytes(data[:cut])
        state = read_journal(torn)
        whole = sum(end <= cut for end in ends)
        expected = JournalState()
        for line in lines[:whole]:
            expected.apply(line)
        expected.valid_bytes = ends[whole - 1] if whole else 0
        assert state == expected


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_truth(tmp_path: Path, place: int, byte: int) -> None:
    path = tmp_path / "journal.jsonl"
    if path.exists():
        path.unlink()
    ends = full_journal(path)
    data = bytearray(path.read_bytes())
    place %= len(data)
    place -= place == ends[-2] - 1  # without the line break between them the last two lines are one
    data[place] ^= byte
    path.write_bytes(data)
    if place >= ends[-2]:  # the last line: as if it had never been written
        assert read_journal(path).valid_bytes == ends[-2]
    elif place == ends[-2] - 1:  # the newline before it: the two are one line, and that is the last
        assert read_journal(path).valid_bytes == ends[-3]
    else:
        with pytest.raises(OutputError, match=r"journal\.jsonl.*damaged"):
            read_journal(path)


@pytest.mark.parametrize("lost", [[1], [2], [1, 2], [3], [1, 3], [1, 2, 3]])
def test_a_group_that_came_to_disk_in_another_order_ends_at_its_first_damage(tmp_path: Path, lost: list[int]) -> None:
    path = tmp_path / "journal.jsonl"
    writer = new_journal(path)
    ends = [writer.length]
    for write in (lambda: writer.inputs(5), lambda: writer.inputs(9), lambda: writer.commit(output=0, finished="0-3")):
        write()
        ends.append(writer.length)
    writer.close()
    data = bytearray(path.read_bytes())
    for line in lost:  # its page was not written; the line break stands on the next one
        data[ends[line - 1] : ends[line] - 1] = bytes(ends[line] - 1 - ends[line - 1])
    path.write_bytes(data)
    state = read_journal(path)
    assert state.valid_bytes == ends[min(lost) - 1]
    assert not state.finished
    reopened = JournalWriter.reopen(path, state)
    reopened.commit(output=0, finished="0-3")
    reopened.sync()
    reopened.close()
    assert len(read_journal(path).finished) == 4


def test_a_torn_end_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    full_journal(path)
    path.write_bytes(path.read_bytes() + b'{"crc":"12')
    writer = JournalWriter.reopen(path, read_journal(path))
    writer.commit(output=200, finished="50")
    writer.sync()
    writer.close()
    assert 50 in read_journal(path).finished


def test_a_journal_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    new_journal(path).close()
    before = path.read_bytes()
    with pytest.raises(OutputError, match="earlier step run"):
        new_journal(path)
    assert path.read_bytes() == before


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"journal\.jsonl.*no such file"):
        read_journal(tmp_path / "journal.jsonl")


def rewritten(path: Path, **changes: Any) -> None:
    """The header line with other fields and a check sum that is right."""
    import zlib

    first, *others = path.read_bytes().splitlines(keepends=True)
    entry = {**json.loads(first), **changes}
    del entry["crc"]
    rest = json.dumps(entry)[1:].encode()
    path.write_bytes(b'{"crc":"%08x",' % zlib.crc32(rest) + rest + b"\n" + b"".join(others))


@pytest.mark.parametrize(("changes", "found"), [({"format": 2}, "found 2"), ({"kind": "end", "state": "x"}, "'end'")])
def test_a_journal_of_another_version_is_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    path = tmp_path / "journal.jsonl"
    full_journal(path)
    rewritten(path, **changes)
    with pytest.raises(OutputError, match=found):
        read_journal(path)


def test_a_disk_that_is_full_leaves_no_torn_line(tmp_path: Path, file_size_limit: Any) -> None:
    path = tmp_path / "journal.jsonl"
    writer = new_journal(path)
    writer.commit(output=1, finished="0")
    writer.sync()
    length = writer.length
    with file_size_limit(length + 20), pytest.raises(OSError, match="too large"):
        writer.commit(output=2, finished="1")
    assert path.stat().st_size == writer.length == length
    writer.commit(output=2, finished="1")
    writer.close()
    assert read_journal(path).finished == IdSet([(0, 2)])


def test_parts_of_bisected_mini_batches_are_told_as_items(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter.create(path, run="r", created="now", fingerprint={}, plan={})
    bad = Failure(7, 1, 3, "exception", "no", Part(7, 4, 5, 10))
    writer.commit(output=0, finished="0-6", parts=[Part(7, 0, 4, 10), Part(9, 0, 2, 4)], failed=[bad])
    state = read_journal(path)
    assert (list(state.finished), list(state.failed)) == (list(range(7)), [])
    assert state.partly_done == {7: PartlyDone(10, ((5, 10),), failed=True), 9: PartlyDone(4, ((2, 4),), failed=False)}
    assert (state.failed_items, state.failed_mini_batches) == (1, 1)
    writer.commit(output=0, finished="", parts=[Part(7, 5, 10, 10), Part(9, 2, 4, 4)])
    state = read_journal(path)
    assert (list(state.finished), list(state.failed)) == ([*range(7), 9], [7])
    assert state.partly_done == {}
    assert (state.failed_items, state.failed_mini_batches) == (1, 1)
    assert list(iter_failures(path)) == [bad]
    writer.close()


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_resume_opens_only_the_failed_items_of_a_bisected_mini_batch(tmp_path: Path, retry_failed: bool) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter.create(path, run="r", created="now", fingerprint={}, plan={})
    whole = [Failure(8, 1, 3, "exception", "no", Part(8, item, item + 1, 2)) for item in range(2)]
    some = [Failure(7, 1, 3, "exception", "no", Part(7, item, item + 1, 6)) for item in (2, 3, 5)]
    writer.commit(output=0, finished="", parts=[Part(7, 0, 2, 6), Part(7, 4, 5, 6)], failed=some + whole)
    writer.resumed("later", retry_failed)
    state = read_journal(path)
    if not retry_failed:
        assert list(state.failed) == [7, 8]
        assert state.partly_done == {}
        return
    assert list(state.failed) == []
    # Of mini-batch 8 nothing is finished: it is tried as a whole again.
    assert state.partly_done == {7: PartlyDone(6, ((2, 4), (5, 6)), failed=False)}
    writer.commit(output=0, finished="", parts=[Part(7, 2, 4, 6), Part(7, 5, 6, 6)])
    assert list(read_journal(path).finished) == [7]
    writer.close()

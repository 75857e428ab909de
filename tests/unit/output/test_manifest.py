"""A manifest holds every mini-batch that was handed out, and a crash or a full disk costs its torn end only."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from prs_dask.errors import EngineError, OutputError
from prs_dask.mini_batches import FileMiniBatch
from prs_dask.mini_batches.json_form import from_line
from prs_dask.output.manifest import ManifestWriter, read_manifest, read_members

HEADER = {"inputs": [{"kind": "files"}]}


def mini_batches(first, count):
    return [FileMiniBatch(0, (f"/data/{number}.png",)) for number in range(first, first + count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "inputs.jsonl.gz"


@pytest.fixture
def create(path):
    made = []

    def make(header=HEADER):
        made.append(ManifestWriter.create(path, header))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
def reopen(path):
    made = []

    def make():
        made.append(ManifestWriter.reopen(path, read_manifest(path)))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def held(path):
    """All mini-batches, by their ids."""
    found = {}
    for member in read_members(path):
        for number, line in enumerate(member.lines, member.first):
            assert number not in found
            found[number] = from_line(line)
    return found


def test_what_was_written_is_read_with_its_ids_in_order(create, path):
    writer = create()
    writer.append(0, mini_batches(0, 3), at=10.25)
    writer.append(3, mini_batches(3, 2), at=11.0)
    assert not read_manifest(path).complete
    writer.end()
    state = read_manifest(path)
    assert state.header == {"format": 1, **HEADER}
    assert (state.count, state.complete, state.valid_bytes) == (5, True, path.stat().st_size)
    assert held(path) == dict(enumerate(mini_batches(0, 5)))
    assert [(one.first, one.at, len(one.lines)) for one in read_members(path)] == [
        (0, 10.25, 3),
        (3, 11.0, 2),
        (5, 0, 0),
    ]


def test_people_can_read_it_with_zcat(create, path):
    create().append(0, mini_batches(0, 1), at=10.25)
    assert gzip.decompress(path.read_bytes()).decode() == (
        '{"format":1,"inputs":[{"kind":"files"}]}\n{"first": 0, "at": 10.25}\n["files",0,"/data/0.png"]\n'
    )


def test_every_torn_end_costs_the_last_member_only_and_can_be_gone_on_from(create, path, reopen):
    writer = create()
    ends = [path.stat().st_size]
    for first in (0, 4, 8):
        writer.append(first, mini_batches(first, 4), at=1.0)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for length in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:length])
        members = sum(end <= length for end in ends) - 1
        state = read_manifest(path)
        assert (state.count, state.valid_bytes) == (4 * members, ends[members])
        again = reopen()
        again.append(0, [*[None] * state.count, *mini_batches(state.count, 12 - state.count)], at=2.0)
        again.end()
        assert held(path) == dict(enumerate(mini_batches(0, 12)))
        assert read_manifest(path).complete


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 4096,
        b"\x1f\x8b",
        b"no gzip at all",
        *[gzip.compress(text, mtime=0) for text in (b"", b"{}\n", b'{"first":7}\n', b"[1]\n", b"\n")],
    ],
)
def test_an_end_that_is_none_of_ours_is_cut_off(create, path, reopen, tail):
    create().append(0, mini_batches(0, 2), at=1.0)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert read_manifest(path).count == 2
    reopen()
    assert path.read_bytes() == whole


def test_nothing_behind_a_damaged_member_is_believed(create, path):
    writer = create()
    writer.append(0, mini_batches(0, 2), at=1.0)
    place = path.stat().st_size + 20
    writer.append(2, mini_batches(2, 2), at=1.0)
    writer.append(4, mini_batches(4, 2), at=1.0)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    assert read_manifest(path).count == 2


def test_what_stands_there_already_is_passed_over(create, path, reopen):
    create().append(0, mini_batches(0, 5), at=1.0)
    writer = reopen()
    writer.append(0, [None, None, None], at=2.0)
    writer.append(3, [*mini_batches(3, 1), None, *mini_batches(5, 2)], at=2.0)
    assert held(path) == dict(enumerate(mini_batches(0, 7)))
    assert writer.count == 7


def test_more_may_follow_after_the_end(create, path, reopen):
    writer = create()
    writer.append(0, mini_batches(0, 2), at=1.0)
    writer.end()
    length = path.stat().st_size
    again = reopen()
    again.end()
    assert path.stat().st_size == length, "nothing new: no byte changed"
    again.append(2, mini_batches(2, 1), at=2.0)
    assert not read_manifest(path).complete
    again.end()
    assert read_manifest(path).complete
    assert held(path) == dict(enumerate(mini_batches(0, 3)))


def test_ids_have_no_gap(create):
    with pytest.raises(EngineError, match="mini-batch 3 was listed before 0"):
        create().append(3, mini_batches(3, 1), at=1.0)


def test_what_is_committed_is_on_disk_before_and_one_sync_serves_all_that_was_listed(create, monkeypatch):
    synced = []
    writer = create()
    monkeypatch.setattr("os.fsync", synced.append)
    writer.append(0, mini_batches(0, 1000), at=1.0)
    for stop in range(1001):
        writer.sync(stop)
    assert len(synced) == 1
    with pytest.raises(EngineError, match="mini-batch 1000 ends, but 1000 were listed"):
        writer.sync(1001)


def test_a_full_disk_leaves_whole_members_and_can_be_gone_on_from(create, path, reopen, file_size_limit):
    writer = create()
    writer.append(0, mini_batches(0, 100), at=1.0)
    length = path.stat().st_size
    with file_size_limit(length + 50), pytest.raises(OutputError, match="free some room, then resume"):
        writer.append(100, mini_batches(100, 100), at=1.0)
    assert path.stat().st_size == length
    assert writer.count == 100
    again = reopen()
    again.append(100, mini_batches(100, 100), at=2.0)
    assert held(path) == dict(enumerate(mini_batches(0, 200)))


def test_a_sync_that_fails_is_told(create, monkeypatch):
    writer = create()
    writer.append(0, mini_batches(0, 1), at=1.0)

    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    for _ in range(2):
        with pytest.raises(OutputError, match=r"No space left on device \(errno 28\)"):
            writer.sync(1)


def test_a_second_manifest_is_refused_and_one_that_cannot_be_started_leaves_nothing(create, path, file_size_limit):
    with file_size_limit(10), pytest.raises(OutputError, match="free some room"):
        create()
    assert not path.exists()
    create()
    with pytest.raises(OutputError, match="a manifest of an earlier step run"):
        create()


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", *[gzip.compress(text, mtime=0) for text in (b"[]\n", b"{}\n", b"x\n")]]
)
def test_a_file_without_a_first_line_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(OutputError, match="no whole first line"):
        read_manifest(path)


def test_no_file_and_one_of_a_newer_version_are_refused(path):
    with pytest.raises(OutputError, match="no such file"):
        read_manifest(path)
    path.write_bytes(gzip.compress(b'{"format":2}\n'))
    with pytest.raises(OutputError, match="found 2; allowed: 1"):
        read_manifest(path)


def test_memory_does_not_grow_with_what_is_written_and_read(create, path):
    writer = create()

    def write_and_read(count):
        tracemalloc.start()
        for first in range(writer.count, writer.count + count, 256):
            writer.append(first, mini_batches(first, 256), at=1.0)
        for _ in read_members(path):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    write_and_read(256)
    assert write_and_read(40 * 256) < 1.5 * write_and_read(10 * 256) + 100_000

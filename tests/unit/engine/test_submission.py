"""Mini-batches are listed ahead, but not far; in order; and errors arrive after what was listed before."""

import itertools
import threading
import time

import pytest

from prs_dask.engine.submission import BATCH, BATCHES_AHEAD, BYTES_AHEAD, TAKEN_BYTES, Submission
from prs_dask.mini_batches import FileMiniBatch, FrameMiniBatch, decode
from prs_dask.mini_batches.json_form import from_line
from prs_dask.output.manifest import ManifestWriter, read_manifest, read_members


def mini_batches(count=None):
    numbers = range(count) if count is not None else itertools.count()
    return (FileMiniBatch(0, (str(number),)) for number in numbers)


def take_all(submission, count=100, seconds=10.0):
    taken = []
    end = time.monotonic() + seconds
    while not submission.exhausted:
        assert time.monotonic() < end
        taken += submission.take(count)
        time.sleep(0.0005)
    return taken


@pytest.fixture
def manifest(tmp_path):
    writer = ManifestWriter.create(tmp_path / "inputs.jsonl.gz", {})
    yield writer
    writer.close()


@pytest.fixture
def submit(no_leaks, manifest):
    made = []

    def make(mini_batches):
        made.append(Submission(mini_batches, manifest))
        return made[-1]

    yield make
    for submission in made:
        submission.close()


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 7])
def test_all_are_taken_once_in_order_with_ids_from_0(submit, count):
    submission = submit(mini_batches(count))
    taken = take_all(submission)
    assert [number for number, _, _ in taken] == list(range(count))
    assert [decode(descriptor).paths for _, _, descriptor in taken] == [(str(number),) for number in range(count)]
    assert submission.listed == count
    assert submission.ended
    assert submission.error is None


def test_take_never_gives_more_than_asked_for(submit):
    submission = submit(mini_batches(5000))
    sizes = []
    while not submission.exhausted:
        sizes.append(len(submission.take(7)))
    assert max(sizes) == 7
    assert sum(sizes) == 5000


def test_an_endless_listing_stays_a_bounded_distance_ahead(submit):
    drawn = 0

    def endless():
        nonlocal drawn
        for mini_batch in mini_batches():
            drawn += 1
            yield mini_batch

    submission = submit(endless())
    time.sleep(0.3)
    first = drawn
    assert first <= (BATCHES_AHEAD + 2) * BATCH
    while len(submission.take(BATCH)) < BATCH:
        time.sleep(0.01)
    time.sleep(0.1)
    assert drawn <= first + 2 * BATCH


def test_large_descriptors_stay_a_bounded_number_of_bytes_ahead_and_go_by_bounded_rounds(submit):
    drawn = 0

    def endless():
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield FrameMiniBatch(0, bytes(3 << 20), number, 1)

    submission = submit(endless())
    time.sleep(0.3)
    taken, last = [], drawn
    assert last * (3 << 20) <= BYTES_AHEAD + (6 << 20)
    for _ in range(8):
        taken.append(submission.take(100))
        time.sleep(0.1)
    assert all(sum(len(data) for _, _, data in one) <= TAKEN_BYTES for one in taken)
    assert [number for one in taken for number, _, _ in one] == list(range(sum(map(len, taken))))
    assert sum(map(len, taken)) > last
    assert (drawn - sum(map(len, taken))) * (3 << 20) <= BYTES_AHEAD + TAKEN_BYTES + (9 << 20)


def test_one_that_is_larger_than_a_round_still_goes(submit):
    submission = submit(FrameMiniBatch(0, bytes(TAKEN_BYTES + 1), number, 1) for number in range(3))
    assert [number for number, _, _ in take_all(submission)] == [0, 1, 2]


def test_take_does_not_wait_for_a_slow_listing(submit):
    go = threading.Event()

    def slow():
        go.wait(10)
        yield from mini_batches(1)

    submission = submit(slow())
    begun = time.monotonic()
    assert submission.take(10) == []
    assert time.monotonic() - begun < 0.1
    assert not submission.exhausted
    go.set()
    assert len(take_all(submission)) == 1


def test_what_each_holds_is_known_until_it_is_forgotten(submit):
    submission = submit([*mini_batches(3), None])
    take_all(submission)
    assert submission.details == {0: "0", 1: "1", 2: "2"}
    submission.forget([1, 7])
    assert submission.details == {0: "0", 2: "2"}


def held(manifest):
    return [from_line(line) for member in read_members(manifest.path) for line in member.lines]


def test_what_is_finished_keeps_its_id_and_is_not_taken(submit, manifest):
    manifest.append(0, list(mini_batches(1000)), 1.0)
    submission = submit(one if number % 3 else None for number, one in enumerate(mini_batches(1000)))
    taken = take_all(submission)
    assert [number for number, _, _ in taken] == [number for number in range(1000) if number % 3]
    assert submission.listed == 1000


def test_everything_stands_in_the_manifest_before_it_is_taken(submit, manifest):
    submission = submit(mini_batches(2 * BATCH + 7))
    while not submission.exhausted:
        submission.take(50)
        assert submission.listed <= manifest.count
    assert held(manifest) == list(mini_batches(2 * BATCH + 7))
    assert read_manifest(manifest.path).complete


def test_what_stands_in_the_manifest_already_is_not_written_again(submit, manifest):
    manifest.append(0, list(mini_batches(300)), 1.0)
    take_all(submit(itertools.chain([None] * 300, itertools.islice(mini_batches(400), 300, None))))
    assert held(manifest) == list(mini_batches(400))


def test_a_listing_that_breaks_off_is_not_told_to_be_complete(submit, manifest):
    def breaks():
        yield from mini_batches(BATCH)
        raise OSError("the store is gone")

    take_all(submit(breaks()))
    assert read_manifest(manifest.path).count == BATCH
    assert not read_manifest(manifest.path).complete


def test_a_listing_that_was_closed_is_not_told_to_be_complete(submit, manifest):
    submission = submit(mini_batches())
    submission.take(10)
    submission.close()
    assert not read_manifest(manifest.path).complete


def test_a_full_disk_ends_the_listing_with_its_advice(submit, manifest, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    submission = submit(mini_batches(10))
    assert take_all(submission) == []
    assert "free some room, then resume" in str(submission.error)


def test_sync_brings_what_was_taken_to_the_disk(submit, manifest, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    submission = submit(mini_batches())  # has no end
    while not submission.take(10):
        time.sleep(0.001)
    submission.sync()
    submission.sync()
    assert len(synced) == 1


def test_a_listing_is_on_disk_when_it_is_told_to_be_complete(submit, manifest, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda _: synced.append(read_manifest(manifest.path).complete))
    submission = submit(mini_batches(10))
    take_all(submission)
    assert (submission.complete, synced) == (True, [True])
    submission.sync()
    assert len(synced) == 1, "all of it is there"


def test_an_error_ends_the_listing_after_what_was_listed_before(submit):
    def breaks():
        yield from mini_batches(2 * BATCH)
        raise OSError("the store is gone")

    submission = submit(breaks())
    assert len(take_all(submission)) == 2 * BATCH
    assert str(submission.error) == "the store is gone"


def test_close_ends_the_thread_though_nobody_takes(submit):
    submission = submit(mini_batches())
    time.sleep(0.05)
    begun = time.monotonic()
    submission.close()
    assert time.monotonic() - begun < 2


def test_the_listing_is_ended_with_it_and_soon(submit):
    taken, ended = [], threading.Event()

    def listing():
        try:
            for batch in mini_batches():
                taken.append(batch)
                time.sleep(0.01)
                yield batch
        finally:
            ended.set()

    submission = submit(itertools.chain.from_iterable([listing()]))
    while len(taken) < 3:
        time.sleep(0.01)
    submission.close()
    assert ended.is_set()
    assert len(taken) < 20

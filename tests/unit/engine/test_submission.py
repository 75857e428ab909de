"""Mini-batches are listed ahead, but not far; in order; and errors arrive after what was listed before."""

import itertools
import threading
import time

import pytest

from prs_dask.engine.submission import BATCH, BATCHES_AHEAD, BYTES_AHEAD, TAKEN_BYTES, Submission
from prs_dask.mini_batches import FileMiniBatch, FrameMiniBatch, decode


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
def submit(no_leaks):
    made = []

    def make(*arguments, **keywords):
        made.append(Submission(*arguments, **keywords))
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


def test_what_is_skipped_keeps_its_id_and_its_place_in_the_fingerprint(submit):
    everything, some = submit(mini_batches(1000)), submit(mini_batches(1000), skip=lambda number: number % 3 == 0)
    take_all(everything)
    taken = take_all(some)
    assert [number for number, _, _ in taken] == [number for number in range(1000) if number % 3]
    assert some.listed == 1000
    assert some.fingerprint == everything.fingerprint


def test_the_fingerprint_tells_inputs_apart(submit):
    one, other = submit(mini_batches(100)), submit(mini_batches(101))
    take_all(one)
    take_all(other)
    assert one.fingerprint != other.fingerprint


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

"""Second attempts: when there is one, of what, and where. What becomes of two the judge's machine looks at, too."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.losses import Loss
from prs_dask.attempts.records import AttemptError, Category, unpack
from prs_dask.attempts.speculation import EXCESS_SECONDS, FACTOR, FEWEST, RECENT, RunTimes

QUICK = 0.01
COUNT = 12


class TestRunTimes:
    def test_few_attempts_say_nothing(self):
        times = RunTimes()
        times.add([QUICK] * (FEWEST - 1))
        assert times.far_slower == math.inf
        times.add([QUICK])
        assert times.far_slower == QUICK + EXCESS_SECONDS

    def test_of_slow_attempts_the_slowest_but_one_in_twenty_counts(self):
        times = RunTimes()
        times.add([10.0] * 19 + [500.0])
        assert times.far_slower == FACTOR * 10.0
        times.add([60.0, 60.0])
        assert times.far_slower == FACTOR * 60.0

    def test_only_the_last_ones_are_peers(self):
        times = RunTimes()
        times.add([QUICK] * 1000)
        times.add([60.0] * (RECENT // 20 + 1))
        assert times.far_slower == FACTOR * 60.0

    @given(st.lists(st.floats(0, 1e6), min_size=FEWEST, max_size=2 * RECENT))
    def test_nothing_is_far_slower_that_one_in_twenty_have_taken(self, seconds):
        times = RunTimes()
        times.add(seconds)
        last = seconds[-RECENT:]
        assert sum(one >= times.far_slower for one in last) <= len(last) / 20
        assert times.far_slower >= min(last) + EXCESS_SECONDS


@pytest.fixture
def near_the_end(bench):
    """Two nodes, of which "a" runs the last mini-batch alone: so many seconds long; ``finish``: all others."""

    def make(seconds: float = 3.0, *, workers: dict[str, str] | None = None, threads: int = 1, total=COUNT, **limits):
        b = bench(RunLimits(**{"error_threshold": -1, "speculate": True, **limits}))
        for address, node in (workers or {"a": "one", "b": "two"}).items():
            b.join(address, threads, node)
        b.supply(*range(COUNT), total=total)
        slow = b.grant("a")
        while b.judge.claimable:
            grant = b.grant("b")
            b.report(grant, [b.success(number, elapsed=QUICK) for number in b.ids(grant)])
        b.now += seconds
        for address in b.places.workers:
            b.judge.heard(address, b.now)
        return b, slow

    return make


def wanted(b) -> int:
    """Mini-batches that lanes without work are wanted for."""
    return len(b.judge._slow(b.now))


def issued(b):
    """Where permits go when those that found nothing to do have ended."""
    for number in b.places.permits.keys() - {grant.permit for grant in b.judge._grants.values()}:
        b.places.end(number)
    return [permit.worker for permit in b.judge.permits(b.now)]


def test_what_is_far_slower_is_started_a_second_time(near_the_end):
    b, slow = near_the_end()
    answer = b.claim("b")
    assert answer.second == "after 3.0 s: from 1.0 s on an attempt is far slower than those that succeeded"
    assert answer.grant.work == slow.work
    assert b.judge.counts().running == 1
    assert b.kept(b.succeed(answer.grant)) == [(0, 0, 1)]
    assert b.judge.verdict.state == "Completed"


def test_the_other_attempt_is_told_to_end_and_has_a_record_of_its_own(near_the_end):
    b, slow = near_the_end()
    begun = slow.since
    second = b.grant("b")
    b.now += 2
    [loser] = b.succeed(second).overtaken
    assert (loser.lane, loser.token) == (("a", 0), slow.token)
    record = loser.record
    assert (record.mini_batch, record.attempt, record.category, record.final) == (0, 1, Category.OVERTAKEN, 0)
    assert (record.started, record.elapsed) == (begun + 1e9, 5.0)
    assert (record.items, record.length) == (0, 0)
    assert loser.error.message == "another attempt of it, in 1/0, was faster; this one was ended and is not charged"
    assert b.judge.counts().attempts == COUNT + 1


def test_the_first_attempt_may_still_be_the_faster_one(near_the_end):
    b, slow = near_the_end()
    second = b.grant("b")
    [loser] = b.succeed(slow).overtaken
    assert (loser.lane, loser.token) == (("b", 0), second.token)
    assert b.succeed(second) is None  # all is over


def test_what_a_loser_sends_is_wanted_no_more(near_the_end):
    b, slow = near_the_end()
    second = b.grant("b")
    b.judge._total += 1  # the step run goes on
    assert b.judge.is_open(slow.token, 0)
    b.succeed(second)
    assert b.judge.is_open(slow.token)
    assert not b.judge.is_open(slow.token, 0)


def test_a_loser_that_ends_at_the_same_time_is_dropped_and_its_lane_goes_on(near_the_end):
    b, slow = near_the_end()
    second = b.grant("b")
    b.judge._total += 1  # the step run goes on
    b.succeed(second)
    dropped = b.judge.dropped
    accepted = b.report(slow, [b.success(0)], filed=[0])
    assert b.kept(accepted) == []
    assert accepted.rows == b""
    assert accepted.files_refused
    assert b.judge.dropped == dropped + 1
    assert not b.judge.is_open(slow.token)


def test_a_permit_is_issued_for_it_where_a_lane_is_idle_on_another_node_first(near_the_end):
    b, _ = near_the_end(workers={"a": "one", "a2": "one", "b": "two"})
    assert issued(b) == ["b"]
    assert b.judge.permits(b.now) == []


def test_a_lane_of_the_same_node_leaves_it_to_one_of_another_node_for_a_moment(near_the_end):
    b, _ = near_the_end(1.5, workers={"a": "one", "a2": "one", "b": "two"})
    b.places.end(b.held["b", 0])  # it has nothing to do
    answer = b.claim("a2")
    assert answer.grant is None
    assert answer.pause
    b.now += 1
    assert b.claim("a2").second


def test_a_lane_of_the_same_node_takes_it_where_no_other_node_is_idle(near_the_end):
    b, _ = near_the_end(1.5, workers={"a": "one", "b": "one"})
    assert b.claim("b").second


def test_a_lane_that_has_work_gets_none(near_the_end):
    b, slow = near_the_end()
    answer = b.judge.claim(slow.permit, ("a", 0), slow.process, b.now, keep=(0,))
    assert answer.grant is None
    assert not answer.second


@pytest.mark.parametrize(
    "change",
    [
        lambda b, slow: setattr(b, "now", b.now - 2.5),
        lambda b, slow: b.judge._speculation.files_came(),
        lambda b, slow: setattr(slow, "careful", True),
        lambda b, slow: setattr(slow.open[0], "losses", 1),
        lambda b, slow: setattr(slow.open[0], "nodes_lost", 1),
        lambda b, slow: setattr(slow.open[0], "part", object()),
        lambda b, slow: setattr(slow.open[0], "doubled", True),
        lambda b, slow: slow.open.update({99: slow.open[0]}),
        lambda b, slow: setattr(b.judge, "_total", None),
        lambda b, slow: setattr(b.judge, "_total", COUNT + 1),
        lambda b, slow: b.judge._delayed.append((0.0, 0, slow.open[0])),
        lambda b, slow: b.judge._queue.append(slow.open[0]),
        lambda b, slow: b.judge._speculation.times._last.pop() and b.judge._speculation.times.__init__(),
    ],
    ids=[
        "not yet",
        "files are stored",
        "alone on its worker",
        "lost a worker",
        "lost a node",
        "a part",
        "has had one",
        "among several",
        "listing",
        "more is to come",
        "a retry backs off",
        "others wait",
        "few have ended",
    ],
)
def test_there_is_none(near_the_end, change):
    b, slow = near_the_end()
    assert wanted(b) == 1
    change(b, slow)
    assert wanted(b) == 0


def test_there_is_none_once_an_attempt_has_come_with_files(near_the_end):
    b, _ = near_the_end()
    b.judge._total += 1
    b.supply(COUNT)
    grant = b.grant("b")
    b.report(grant, [b.success(COUNT, elapsed=QUICK)], filed=[COUNT])
    assert wanted(b) == 0
    b.judge._speculation.enabled = True
    assert wanted(b) == 1


def test_what_had_begun_and_went_back_has_not_begun_in_the_next_grant(near_the_end):
    b, _ = near_the_end()
    b.judge._total += 2
    b.supply(COUNT, COUNT + 1)
    grant = b.grant("b")
    b.judge.mean.seconds = QUICK
    [first] = grant.open
    b.judge.heard("b", b.now, [(0, first)])
    more = b.judge.claim(grant.permit, ("b", 0), grant.process, b.now, keep=(first,)).grant
    assert more.begun == {first}
    b.judge.claim(grant.permit, ("b", 0), grant.process, b.now, keep=tuple(set(more.open) - {first}))
    assert all(first not in one.begun for one in b.judge._grants.values())


def test_off_there_is_none_and_nothing_is_remembered(near_the_end):
    b, _ = near_the_end(speculate=False)
    assert wanted(b) == 0
    assert b.judge._speculation.times.far_slower == math.inf
    assert b.claim("b").grant is None


def test_not_in_the_process_in_which_it_failed_before(near_the_end):
    b, slow = near_the_end()
    slow.open[0].avoid = b.processes["b", 0]
    answer = b.claim("b")
    assert (answer.grant, answer.pause) == (None, True)


def test_no_permit_is_issued_for_it_as_long_as_only_the_process_in_which_it_failed_is_idle(near_the_end):
    b, slow = near_the_end()
    assert issued(b) == ["b"]
    slow.open[0].avoid = b.processes["b", 0]
    assert issued(b) == []
    b.now += 60
    assert issued(b) == []
    b.join("c")
    assert issued(b) == ["c"]


def test_lanes_of_a_worker_that_may_run_it_count_as_its_next_permit_finds_them(near_the_end):
    b, slow = near_the_end()
    b.lose("b")
    b.join("c", 2)
    slow.open[0].avoid = b.processes["c", 0]
    assert issued(b) == ["c"]  # its lanes take turns
    b.judge.process_ended(("c", 1))
    assert issued(b) == []  # a lane that is ready comes before one that would have to start
    b.judge.process_ended(("c", 0))
    assert issued(b) == ["c"]  # starts a process


def test_a_permit_is_issued_as_soon_as_one_of_those_that_are_slow_may_run_there(near_the_end):
    b, slow = near_the_end()
    slow.open[0].avoid = b.processes["b", 0]
    b.judge._total += 1
    b.join("c")
    b.supply(COUNT)
    other = b.grant("c")
    assert issued(b) == []
    b.now += 3
    assert [grant.token for grant in b.judge._slow(b.now)] == [slow.token, other.token]
    assert issued(b) == ["b"]


def test_not_beside_what_has_to_be_alone_on_its_worker(near_the_end):
    b, slow = near_the_end(workers={"a": "one", "b": "two"}, threads=2)
    other = b.judge._grants[slow.token]
    alone = type(other)(99, ("b", 1), "x", [], 0, 0, careful=True)
    b.judge._grants[99] = b.judge._by_lane["b", 1] = alone
    b.judge._careful_grants += 1
    assert b.claim("b").grant is None
    assert issued(b) == ["a"]


def test_a_failure_beside_another_attempt_decides_nothing(near_the_end):
    b, slow = near_the_end(run_max_try=1)
    second = b.grant("b")
    assert b.kept(b.fail(second)) == [(0, Category.EXCEPTION, 0)]
    assert b.judge.counts().running == 1
    assert b.judge.verdict is None
    assert b.kept(b.succeed(slow)) == [(0, 0, 1)]
    assert b.judge.verdict.state == "Completed"


@pytest.mark.parametrize("tries", [1, 2])
def test_two_that_fail_are_one_try(near_the_end, tries):
    b, slow = near_the_end(run_max_try=tries)
    second = b.grant("b")
    b.fail(slow, category=Category.TIME_LIMIT)
    assert b.kept(b.fail(second)) == [(0, Category.EXCEPTION, int(tries == 1))]
    if tries == 2:
        b.now += 2
        [(_, attempt, _)] = b.grant("a").work
        assert attempt == 2
        assert wanted(b) == 0  # there is one second attempt in the life of a mini-batch
    else:
        assert b.judge.counts().failed == 1


def test_a_file_that_cannot_be_cut_ends_the_step_run_whoever_else_reads_it(near_the_end):
    b, slow = near_the_end()
    b.grant("b")
    b.report(slow, [b.failure(0, category=Category.UNSAFE_CUT)], errors={0: AttemptError("UnsafeCut", "cut it whole")})
    assert (b.judge.verdict.state, b.judge.verdict.cause) == ("Failed", "cut it whole")
    assert not b.judge._speculation.races


def test_where_the_worker_of_one_is_lost_the_other_goes_on_and_nobody_is_charged(near_the_end):
    b, _ = near_the_end(run_max_try=1)
    second = b.grant("b")
    accepted, _ = b.lose("a", Loss.GONE)
    assert accepted is None
    assert b.judge.counts().running == 1
    assert b.judge.counts().queued == 0
    assert b.kept(b.succeed(second)) == [(0, 0, 1)]


def test_a_worker_that_is_lost_with_both_of_its_attempts_is_charged_to_their_mini_batch(near_the_end):
    b, _ = near_the_end(threads=2)
    free = next(lane for lane in (0, 1) if ("a", lane) not in b.judge._by_lane)
    b.now += 2
    assert b.claim("a", free).second
    accepted, _ = b.lose("a")
    [record] = unpack(accepted.records)
    assert (record.mini_batch, record.category) == (0, Category.WORKER_LOST)


def test_what_goes_back_beside_another_attempt_goes_nowhere(near_the_end):
    b, slow = near_the_end()
    second = b.grant("b")
    b.report(second, back=[0])
    counts = b.judge.counts()
    assert (counts.running, counts.queued) == (1, 0)
    assert b.kept(b.succeed(slow)) == [(0, 0, 1)]


def test_a_success_with_other_columns_is_a_failure_beside_the_other_attempt(near_the_end):
    b, slow = near_the_end(run_max_try=1)
    second = b.grant("b")
    accepted = b.report(second, [b.success(0)], headers={0: b"x y\n"})
    assert b.kept(accepted) == [(0, Category.BAD_RETURN, 0)]  # the others had none
    assert b.kept(b.succeed(slow)) == [(0, 0, 1)]

"""Roll-ups: the same whatever the blocks, and what adding attempts one by one gives."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.logs.roll_up import OTHER_PROCESSES, RECORD, Histogram, RollUp

BEGUN = 1_767_225_600.0
OVERTAKEN = int(Category.OVERTAKEN)
SECONDS = st.floats(0, 1000, width=32)
RECORDS = st.builds(
    AttemptRecord,
    mini_batch=st.integers(0, 2**40),
    attempt=st.integers(1, 5),
    category=st.sampled_from([0, 0, 0, 1, 3, 7, OVERTAKEN]),
    final=st.integers(0, 1),
    items=st.integers(0, 50),
    results=st.integers(0, 60),
    length=st.just(0),
    started=st.floats(BEGUN, BEGUN + 1000),
    elapsed=SECONDS,
    read=SECONDS,
    run=SECONDS,
    cpu=SECONDS,
).map(lambda one: one._replace(final=0) if one.category == OVERTAKEN else one)
PLACED = st.tuples(st.integers(-1, 2), st.integers(-1, 3), st.lists(RECORDS, min_size=1, max_size=5))


def fill(roll_up, placed):
    for node, process, records in placed:
        roll_up.add(node, process, pack(records))
    return roll_up


@given(st.lists(PLACED, max_size=12))
def test_sums_are_those_of_the_attempts(placed):
    roll_up = fill(RollUp(), placed)
    of_process = defaultdict(list)
    for node, process, records in placed:
        of_process[node, process] += records
    assert list(roll_up.processes) == list(of_process)
    for process, records in of_process.items():
        sums = roll_up.processes[process]
        final = [one for one in records if one.final]
        assert sums.attempts == len(records)
        assert sums.succeeded == sum(one.category == 0 for one in records)
        assert sums.failed == sum(one.category != 0 for one in final)
        assert sums.retried == sum(one.category not in (0, OVERTAKEN) and not one.final for one in records)
        assert sums.overtaken == sum(one.category == OVERTAKEN for one in records)
        assert sums.attempts == sums.succeeded + sums.failed + sums.retried + sums.overtaken
        assert sums.items == sum(one.items for one in final)
        assert sums.succeeded_items == sum(one.succeeded_items for one in final)
        assert sums.items == sums.succeeded_items + sums.failed_items
        assert sums.run == pytest.approx(sum(one.run for one in records))
        assert sums.first == min(one.started for one in records)
        assert sums.last == pytest.approx(max(one.started + one.elapsed for one in records))
    assert roll_up.total.attempts == sum(sums.attempts for sums in roll_up.nodes.values())
    good, bad = roll_up.run_times
    assert int(good.counts.sum() + bad.counts.sum()) == roll_up.total.attempts - roll_up.total.overtaken
    ended = sum(roll_up.over_time.amounts(kind).sum() for kind in range(RollUp.ITEMS))
    assert ended == roll_up.total.attempts
    assert roll_up.over_time.amounts(RollUp.ITEMS).sum() == roll_up.total.items


@given(st.lists(PLACED, max_size=12), st.integers(1, 4))
def test_blocks_make_no_difference(placed, most):
    whole, parts = fill(RollUp(slowest=most), placed), RollUp(slowest=most)
    for one in placed:
        fill(parts, [one])
        assert parts.total.attempts  # which adds what was gathered
    assert set(whole.processes) == set(parts.processes)
    for process, sums in whole.processes.items():
        assert parts.processes[process].attempts == sums.attempts
        assert parts.processes[process].elapsed == pytest.approx(sums.elapsed)
    slowest = sorted((one.elapsed for _, _, records in placed for one in records), reverse=True)[:most]
    assert [slow.elapsed for slow in whole.slowest] == [slow.elapsed for slow in parts.slowest] == slowest


def test_the_packed_form_is_that_of_attempts():
    record = AttemptRecord(2**40, 3, 4, 1, 10, 11, 2**33, BEGUN, 1.5, 0.25, 1.0, 0.5)
    assert np.frombuffer(pack([record]), RECORD)[0].item() == tuple(record)


def test_processes_beyond_the_most_are_summed_up_for_their_node():
    record = AttemptRecord(0, 1, 0, 1, 5, 5, 0, BEGUN, 1.0, 0.0, 1.0, 1.0)
    roll_up = fill(RollUp(most_processes=2), [(0, number, [record]) for number in range(5)] + [(1, 0, [record])])
    counts = {process: sums.attempts for process, sums in roll_up.processes.items()}
    assert counts == {(0, 0): 1, (0, 1): 1, (0, OTHER_PROCESSES): 3, (1, OTHER_PROCESSES): 1}
    assert {node: sums.attempts for node, sums in roll_up.nodes.items()} == {0: 5, 1: 1}


def test_memory_does_not_grow_with_attempts():
    roll_up = RollUp()
    records = np.zeros(100_000, RECORD)
    records["started"] = BEGUN + np.arange(100_000)
    records["elapsed"] = np.arange(100_000)
    for number in range(3):
        roll_up.add_block(np.zeros(100_000, int), np.full(100_000, number), records)
    assert roll_up.total.attempts == 300_000
    assert (len(roll_up.slowest), roll_up.over_time.used) <= (20, 2000)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_a_quantile_is_exact_to_three_percent(seconds):
    histogram = Histogram()
    histogram.add(seconds)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
        assert histogram.quantile(share) == pytest.approx(exact, rel=0.03)


def test_there_is_no_quantile_of_nothing():
    assert math.isnan(Histogram().quantile(0.5))

"""A seed is a plan: always the same one, and one that can be played."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import DO
from tests.chaos.plans import FAULTS, OF_DISKS, draw, from_json, to_json
from tests.chaos.workload import HARMS, HEADER_LINE, Workload, line_of, row_of

SEEDS = st.integers(0, 2**32)
CLUSTERS = st.sampled_from([None, "local", "nannies", "bare"])


@given(SEEDS, st.booleans(), CLUSTERS)
def test_the_same_seed_is_the_same_plan(seed, mount, cluster):
    assert draw(seed, mount=mount, cluster=cluster) == draw(seed, mount=mount, cluster=cluster)


@given(SEEDS)
def test_a_plan_comes_back_from_its_text(seed):
    assert from_json(to_json(draw(seed))) == draw(seed)


@given(SEEDS, CLUSTERS)
def test_init_goes_wrong_less_often_than_gives_a_node_up_and_hangs_once_at_most(seed, cluster):
    plan = draw(seed, cluster=cluster)
    assert len(plan.inits) < 3 * plan.lanes
    assert plan.inits.count("hang") <= 1


@given(SEEDS, CLUSTERS)
def test_faults_can_be_done_where_they_are_planned_and_some_once_only(seed, cluster):
    plan = draw(seed, cluster=cluster)
    names = [fault.name for fault in plan.faults]
    assert all(plan.cluster in FAULTS[name].clusters for name in names)
    assert all(names.count(name) == 1 for name in names if FAULTS[name].once)
    assert sum(FAULTS[name].ends for name in names) <= 2


@given(SEEDS)
def test_where_no_disk_can_be_mounted_its_faults_are_left_out_and_no_others(seed):
    left_out = set(draw(seed).faults) - set(draw(seed, mount=False).faults)
    assert {fault.name for fault in left_out} <= OF_DISKS
    assert not any(fault.name in OF_DISKS for fault in draw(seed, mount=False).faults)


@given(SEEDS)
def test_a_cluster_without_nannies_has_a_worker_at_any_time(seed):
    plan = draw(seed, cluster="bare")
    workers = plan.lanes
    for fault in plan.faults:
        workers += (fault.name == "join_worker") - FAULTS[fault.name].loses
        assert workers >= 1


@given(SEEDS)
def test_mini_batches_hold_every_item_once_and_in_order(seed):
    work = draw(seed).workload
    assert [item for items in work.mini_batches() for item in items] == list(range(work.items))


@given(SEEDS)
def test_a_mini_batch_has_at_most_one_bad_item(seed):
    work = draw(seed).workload
    assert len(work.poison_by_mini_batch()) == len(work.poisons)
    assert all(poison.harm in HARMS for poison in work.poisons)


@given(SEEDS)
def test_a_threshold_that_cannot_be_set_is_not_drawn(seed):
    settings = draw(seed).settings
    assert settings.error_threshold >= -1
    assert settings.order == "any" or settings.action == "append_row"


@given(SEEDS)
def test_secrets_are_the_seeds_own_and_stand_in_no_plan(seed):
    plan = draw(seed)
    assert len(set(plan.canaries)) == 2
    assert not any(canary in to_json(plan) for canary in plan.canaries)


@given(st.integers(1, 60), st.integers(1, 100), st.integers(1, 4))
def test_a_block_of_text_holds_the_records_that_begin_in_it(items, size, parts):
    work = Workload("text", items, size, parts)
    for part in map(work.part_of, range(parts)):
        start, blocks = len(HEADER_LINE), {}
        for item in part:
            block = next(i for i in range(10**6) if i * size < start <= (i + 1) * size)
            blocks.setdefault(block, []).append(item)
            start += len(line_of(item))
        mine = [list(one) for one in work.mini_batches() if one.start in part]
        assert mine == [blocks[block] for block in sorted(blocks)]


def test_rows_tell_items_apart_and_are_all_of_one_length():
    rows = {row_of(item) for item in range(2000)}
    assert len(rows) == 2000
    assert len({len(row) for row in rows}) == 1


def test_every_fault_that_can_be_drawn_can_be_done():
    assert DO.keys() == FAULTS.keys()

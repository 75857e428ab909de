"""Nodes, workers, lanes and permits: nobody gets more than the user allowed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from prs_dask.attempts.gpus import ToldGpus
from prs_dask.attempts.places import SLICE_SECONDS, Places


def lanes(places: Places) -> dict[str, int]:
    return {address: worker.lanes for address, worker in places.workers.items()}


def joined(places: Places, *workers: tuple[str, str, int]) -> Places:
    for address, node, threads in workers:
        places.join(address, node, threads, 0.0)
    return places


class TestNodes:
    def test_nodes_are_numbered_in_order_of_arrival_and_keep_their_number(self):
        places = joined(Places(), ("a", "host2", 1), ("b", "host1", 1), ("c", "host2", 1))
        assert [places.workers[address].node for address in "abc"] == [0, 1, 0]
        places.leave("b")
        assert places.join("d", "host1", 1, 0.0).node == 1

    def test_a_worker_that_joins_twice_is_the_same_one_and_was_heard(self):
        places = joined(Places(), ("a", "host", 2))
        worker = places.workers["a"]
        assert places.join("a", "host", 2, 7.0) is worker
        assert worker.heard == 7.0
        assert places.lanes == 2

    def test_a_worker_that_is_not_used_is_told_why(self):
        def why(places: Places, address: str) -> str:
            return places.why_unused(places.workers[address])

        places = joined(
            Places(2, node_count=1), ("a", "host", 1), ("b", "other", 1), ("c", "host", 1), ("d", "host", 1)
        )
        assert [why(places, address) for address in "ac"] == ["", ""]
        assert why(places, "b") == "node_count is 1, and other nodes were there before"
        assert places.unused_nodes == 1
        assert why(places, "d") == "its node has all its processes (process_count_per_node is 2)"
        places = Places()
        places.join("a", "host", 1, 0.0, ToldGpus(("0",)))
        places.join("b", "host", 1, 0.0)
        assert why(places, "b") == "its node has a process for each of its GPUs"

    def test_process_numbers_are_never_used_twice_on_a_node(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        assert [places.next_process(0), places.next_process(0), places.next_process(1)] == [0, 1, 0]
        places.leave("a")
        joined(places, ("a", "host", 1))
        assert places.next_process(0) == 2

    def test_process_numbers_go_on_where_an_earlier_part_ended(self):
        places = joined(Places(first_process={0: 5, 3: 9}), ("a", "host", 1), ("b", "other", 1))
        assert places.next_process(0) == 5
        assert places.next_process(1) == 0
        assert places.process_numbers() == {0: 6, 1: 1, 3: 9}

    def test_others_on_the_node_are_other_workers_of_the_same_host(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        assert not places.others_on_node("a")
        joined(places, ("c", "host", 1))
        assert places.others_on_node("a")
        assert not places.others_on_node("b")


class TestEnough:
    def test_a_worker_without_a_lane_tells_that_there_are_enough_also_when_it_has_gone(self):
        places = joined(Places(processes_per_node=2), ("a", "host", 1), ("b", "host", 1))
        assert places.enough is None
        joined(places, ("c", "host", 1))
        assert places.enough == 2
        places.leave("c")
        assert places.enough == 2

    def test_it_is_forgotten_when_one_that_worked_has_gone(self):
        places = joined(Places(node_count=1), ("a", "host", 1), ("b", "other", 4))
        assert places.enough == 1
        places.leave("b")
        places.leave("a")
        assert places.enough is None
        joined(places, ("d", "other", 4))
        assert places.enough is None


class TestAllotment:
    def test_without_limits_every_thread_is_a_lane(self):
        places = joined(Places(), ("a", "host", 3), ("b", "host", 1), ("c", "other", 2))
        assert lanes(places) == {"a": 3, "b": 1, "c": 2}
        assert places.lanes == 6

    def test_a_node_has_at_most_process_count_per_node_shared_by_its_workers_in_turn(self):
        places = joined(Places(processes_per_node=3), ("a", "host", 4), ("b", "host", 4), ("c", "other", 4))
        assert lanes(places) == {"a": 2, "b": 1, "c": 3}

    def test_a_worker_has_no_more_lanes_than_threads(self):
        places = joined(Places(processes_per_node=8), ("a", "host", 1), ("b", "host", 2))
        assert lanes(places) == {"a": 1, "b": 2}

    def test_no_more_than_node_count_nodes_are_used(self):
        places = joined(Places(node_count=1), ("a", "host", 2), ("b", "other", 2))
        assert lanes(places) == {"a": 2, "b": 0}
        assert places.nodes_in_use == {0}

    def test_a_further_node_steps_in_when_a_used_one_is_empty(self):
        places = joined(Places(node_count=1), ("a", "host", 2), ("b", "other", 2))
        places.leave("a")
        assert lanes(places) == {"b": 2}

    def test_what_a_lost_worker_had_goes_to_the_others_of_its_node(self):
        places = joined(Places(processes_per_node=2), ("a", "host", 2), ("b", "host", 2))
        assert lanes(places) == {"a": 1, "b": 1}
        places.leave("a")
        assert lanes(places) == {"b": 2}

    def test_the_loss_of_an_unknown_worker_changes_nothing(self):
        assert Places().leave("nobody") == []


class TestPermits:
    def test_there_is_one_for_each_chunk_as_long_as_there_are_lanes(self):
        places = joined(Places(), ("a", "host", 2))
        assert len(places.issue(1)) == 1
        assert places.issue(1) == []
        assert len(places.issue(2)) == 1

    def test_they_are_spread_over_the_workers(self):
        places = joined(Places(), ("a", "host", 2), ("b", "other", 2))
        assert Counter(permit.worker for permit in places.issue(2)) == {"a": 1, "b": 1}

    def test_more_chunks_than_lanes_earn_one_spare_where_every_thread_is_a_lane(self):
        places = joined(Places(processes_per_node=2), ("a", "host", 2), ("b", "other", 4))
        assert Counter(permit.worker for permit in places.issue(100)) == {"a": 3, "b": 2}

    def test_without_lanes_there_are_none(self):
        assert Places().issue(5) == []
        places = joined(Places(node_count=1), ("a", "host", 1), ("b", "other", 1))
        assert {permit.worker for permit in places.issue(5)} == {"a"}

    def test_some_workers_are_taken_last(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        assert [permit.worker for permit in places.issue(1, last=["a"])] == ["b"]
        assert [permit.worker for permit in places.issue(2, last=["a"])] == ["a"]

    def test_a_permit_that_waits_behind_a_working_one_takes_no_chunk(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        for permit in places.issue(4):
            permit.working = permit.number in (1, 2)
        assert sorted(permit.worker for permit in places.permits.values()) == ["a", "a", "b", "b"]
        for permit in list(places.workers["b"].permits):
            places.end(permit)
        assert [permit.worker for permit in places.issue(1)] == ["b"]

    def test_a_starting_lane_yields_to_a_ready_and_idle_one(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        assert [permit.worker for permit in places.issue(1)] == ["a"]
        assert places.issue(1, starting={"a": 1}) == []
        assert [permit.worker for permit in places.issue(1, starting={"a": 1}, ready={"b": 1})] == ["b"]
        assert places.issue(1, starting={"a": 1}, ready={"b": 1}) == []

    def test_a_closed_node_gets_permits_for_its_ready_lanes_only(self):
        places = joined(Places(), ("a", "host", 2))
        assert places.issue(5, closed={0}) == []
        assert len(places.issue(5, closed={0}, ready={"a": 1})) == 1

    def test_numbers_of_permits_are_never_used_twice(self):
        places = joined(Places(), ("a", "host", 1))
        [first] = places.issue(1)
        places.end(first.number)
        [second] = places.issue(1)
        assert second.number > first.number

    def test_an_end_may_be_told_twice(self):
        places = joined(Places(), ("a", "host", 1))
        [permit] = places.issue(1)
        places.end(permit.number)
        places.end(permit.number)
        assert places.permits == places.workers["a"].permits == {}

    def test_permits_of_a_lost_worker_are_void(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 1))
        issued = {permit.worker: permit.number for permit in places.issue(2)}
        assert places.leave("a") == [issued["a"]]
        assert set(places.permits) == {issued["b"]}


class TestFull:
    def test_it_is_full_with_a_permit_for_each_lane_and_each_spare(self):
        places = joined(Places(), ("a", "host", 1), ("b", "other", 2))
        assert not places.is_full
        issued = places.issue(2)
        assert not places.is_full
        issued += places.issue(50)
        assert len(issued) == 5
        assert places.is_full
        places.end(issued[0].number)
        assert not places.is_full

    def test_permits_of_a_worker_that_had_more_lanes_before_do_not_count_for_others(self):
        places = joined(Places(processes_per_node=2), ("a", "host", 2))
        held = places.issue(50)
        assert places.is_full
        joined(places, ("b", "host", 2))
        assert not places.is_full
        [theirs] = places.issue(50)
        assert theirs.worker == "b"
        for permit in held[1:]:
            places.end(permit.number)
        assert places.is_full


class TestSlices:
    @pytest.mark.parametrize(
        ("began", "others", "chunks", "over"),
        [
            (None, True, 5, False),  # it has not begun
            (0.5, True, 5, False),  # it began lately
            (0.0, False, 1, False),  # nobody waits
            (0.0, True, 1, True),
            (0.0, False, 5, False),  # only a spare permit of ours waits
        ],
    )
    def test_a_slice_is_over_when_it_was_long_enough_and_somebody_waits(self, began, others, chunks, over):
        places = joined(Places(), ("a", "host", 1))
        permit = places.issue(chunks)[0]
        permit.began = began
        assert places.slice_is_over(permit, SLICE_SECONDS, others_wait=others) is over

    def test_a_slice_is_over_where_the_worker_has_fewer_lanes_than_permits(self):
        places = joined(Places(processes_per_node=2), ("a", "host", 2))
        permit = places.issue(5)[0]
        permit.began = 0.0
        assert not places.slice_is_over(permit, SLICE_SECONDS, others_wait=False)
        joined(places, ("b", "host", 2))
        assert places.slice_is_over(permit, SLICE_SECONDS, others_wait=False)


class PlacesMachine(RuleBasedStateMachine):
    """Workers come and go, permits are issued and used: no bound is ever exceeded."""

    workers = Bundle("workers")

    @initialize(processes=st.none() | st.integers(1, 4), nodes=st.none() | st.integers(1, 3))
    def configure(self, processes, nodes):
        self.places = Places(processes, nodes)
        self.numbers: set[tuple[int, int]] = set()
        self.seen: set[int] = set()
        self.node_of: dict[int, int] = {}

    @rule(target=workers, host=st.integers(0, 4), index=st.integers(0, 3), threads=st.integers(1, 4))
    def join(self, host, index, threads):
        address = f"{host}-{index}"
        worker = self.places.join(address, host, threads, 0.0)
        node = self.node_of.setdefault(host, worker.node)
        assert worker.node == node
        return address

    @rule(address=workers)
    def leave(self, address):
        had = set(self.places.workers[address].permits) if address in self.places.workers else set()
        assert set(self.places.leave(address)) == had

    @rule(address=workers)
    def start_process(self, address):
        if address in self.places.workers:
            node = self.places.workers[address].node
            number = self.places.next_process(node)
            assert (node, number) not in self.numbers
            self.numbers.add((node, number))
            assert self.places.process_numbers()[node] > number

    @rule(
        chunks=st.integers(0, 30),
        last=st.sets(workers, max_size=2),
        ready=st.dictionaries(workers, st.integers(0, 4), max_size=3),
        starting=st.dictionaries(workers, st.integers(0, 4), max_size=3),
        closed=st.sets(st.integers(0, 4), max_size=2),
    )
    def issue(self, chunks, last, ready, starting, closed):
        before = {address: len(worker.permits) for address, worker in self.places.workers.items()}
        issued = self.places.issue(chunks, last, ready=ready, starting=starting, closed=closed)
        assert len(issued) <= chunks
        for permit in issued:
            assert permit.number not in self.seen
            self.seen.add(permit.number)
            worker = self.places.workers[permit.worker]
            spare = chunks > self.places.lanes and worker.lanes == worker.threads
            assert len(worker.permits) <= worker.lanes + spare
            if worker.node in closed:
                assert len(worker.permits) <= ready.get(permit.worker, 0)
        # No chunk waits while a lane is free, as far as its node may start processes.
        waits = chunks - sum(not permit.working for permit in self.places.permits.values())
        if waits > 0:
            for address, worker in self.places.workers.items():
                if worker.node not in closed:
                    assert len(worker.permits) >= min(worker.lanes, before[address] + 1)

    @rule(data=st.data(), working=st.booleans())
    def work(self, data, working):
        if self.places.permits:
            self.places.permits[data.draw(st.sampled_from(sorted(self.places.permits)))].working = working

    @rule(data=st.data())
    def end(self, data):
        if self.seen:
            self.places.end(data.draw(st.sampled_from(sorted(self.seen))))

    @invariant()
    def lanes_are_within_their_bounds(self):
        places = self.places
        by_node = Counter({worker.node: 0 for worker in places.workers.values()})
        threads = Counter()
        for worker in places.workers.values():
            assert 0 <= worker.lanes <= worker.threads
            by_node[worker.node] += worker.lanes
            threads[worker.node] += worker.threads
        used = {node for node, count in by_node.items() if count}
        assert used == places.nodes_in_use
        assert places.lanes == sum(by_node.values())
        assert places.node_count is None or len(used) <= places.node_count
        for node in used:
            most = threads[node]
            if places.processes_per_node is not None:
                most = min(most, places.processes_per_node)
            assert by_node[node] == most
        wanted = len(by_node) if places.node_count is None else min(len(by_node), places.node_count)
        assert len(used) == wanted

    @invariant()
    def permits_are_known_by_number_and_by_worker(self):
        by_worker = {n: p for worker in self.places.workers.values() for n, p in worker.permits.items()}
        assert by_worker == self.places.permits


TestPlacesMachine = PlacesMachine.TestCase


@given(st.lists(st.integers(1, 8), min_size=1, max_size=8), st.integers(1, 32))
def test_lanes_of_a_node_differ_by_no_more_than_one_where_threads_allow(threads, processes):
    places = joined(Places(processes), *[(str(index), "host", count) for index, count in enumerate(threads)])
    free = [worker.lanes for worker in places.workers.values() if worker.lanes < worker.threads]
    if free:
        assert max(worker.lanes for worker in places.workers.values()) - min(free) <= 1


def test_the_lanes_of_the_largest_node_are_told() -> None:
    places = Places()
    assert places.most_lanes_of_a_node == 0
    places.join("a", "one", 2, 0.0)
    places.join("b", "one", 3, 0.0)
    places.join("c", "two", 4, 0.0)
    assert places.most_lanes_of_a_node == 5


@pytest.mark.parametrize(
    ("home", "neighbour_heard", "answers"),
    [
        ("m", None, True),  # the scheduler runs there
        ("n", None, False),
        (None, None, False),
        ("n", 2.0, True),
        ("n", 20.0, False),  # the neighbour is silent as well
    ],
)
def test_a_node_is_there_if_somebody_of_it_has_spoken_lately(home, neighbour_heard, answers):
    places = Places(home=home)
    places.join("lost", "m", 1, 100.0)
    places.join("elsewhere", "o", 1, 100.0)
    if neighbour_heard is not None:
        places.join("neighbour", "m", 1, 100.0 - neighbour_heard)
    assert places.node_answers("lost", 100.0) is answers
    assert not places.node_answers("nobody", 100.0)


def test_a_worker_gets_permits_when_it_is_prepared() -> None:
    places = Places()
    places.join("a", "host", 1, 0.0, prepared=False)
    assert not places.issue(5)
    assert places.prepared("a") is places.workers["a"]
    assert places.issue(5)
    assert places.prepared("nobody") is None

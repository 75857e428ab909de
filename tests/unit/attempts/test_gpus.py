"""Each GPU has one process, the rest none, and what is free goes to the next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prs_dask.attempts.gpus import (
    GPU_COUNT,
    VISIBLE,
    Gpu,
    Gpus,
    GpuShare,
    Slot,
    ToldGpus,
    gpu_variables,
    listed_gpus,
    wished_gpus,
)
from prs_dask.attempts.places import Places


def told(text: str, *devices: str, instances: tuple[str, ...] = ()) -> ToldGpus:
    """A worker with this list; where devices are given, the driver tells of them."""
    return ToldGpus(listed_gpus(text), devices or None, instances)


def taken(gpus: Gpus, *lanes: tuple[str, int]) -> list[str | None]:
    """Names of the GPUs that these lanes get, one after the other."""
    shares = [gpus.take(lane) for lane in lanes]
    assert not any(share.wait for share in shares)
    return [share.slot.gpu if share.slot else None for share in shares]


def node(*workers: tuple[str, str], per_gpu: int = 1, first_only: bool = False, wished: str | None = None) -> Gpus:
    gpus = Gpus(per_gpu, None if wished is None else listed_gpus(wished))
    for name, sees in workers:
        gpus.join(name, 0, told(sees), first_only=first_only)
    return gpus


class TestListed:
    @pytest.mark.parametrize(
        ("text", "gpus"),
        [
            ("0,1", ("0", "1")),
            (" 3 , 02", ("3", "2")),
            ("", ()),
            ("-1", ()),
            ("0,-1,1", ("0",)),
            ("0,,1", ("0",)),
            ("NoDevFiles", ()),
            ("GPU-8a5c, GPU-17", ("GPU-8a5c", "GPU-17")),
            ("MIG-41b3,MIG-65b7", ("MIG-41b3", "MIG-65b7")),
            ("MIG-GPU-8a5c/1/0", ("MIG-GPU-8a5c/1/0",)),
            ("GPU-8a5c,1", ("GPU-8a5c",)),
            ("1,MIG-41b3", ("1",)),
            ("0,1,0", ()),
            ("٣", ()),
        ],
    )
    def test_gpus_are_named_as_cuda_reads_them(self, text, gpus):
        assert listed_gpus(text) == gpus

    @given(st.text(alphabet="01239,- GPUMI/x"))
    def test_whatever_stands_there_is_read_and_what_was_read_is_read_so_again(self, text):
        gpus = listed_gpus(text)
        assert listed_gpus(",".join(gpus)) == gpus
        assert len(set(gpus)) == len(gpus)

    def test_a_step_may_say_what_it_uses(self):
        assert wished_gpus({VISIBLE: "1"}) == ("1",)
        assert wished_gpus({VISIBLE: ""}) == ()
        assert wished_gpus({"OTHER": "1"}) is None


class TestTold:
    """What a worker tells, and which GPUs these are on its node."""

    def test_a_gpu_is_the_same_whatever_a_worker_calls_it(self):
        both = ("GPU-8a5c-1", "GPU-17f0-2")
        for text in ("1", "GPU-17f0-2", "GPU-17"):
            assert told(text, *both).gpus((text,)) == (Gpu("GPU-17f0-2", text),)
        assert ToldGpus(None, both).gpus(None) == (Gpu(both[0], "0"), Gpu(both[1], "1"))
        mig = told("MIG-41", *both, instances=("MIG-41b3", "MIG-65b7"))
        assert mig.gpus(mig.listed) == (Gpu("MIG-41b3", "MIG-41"),)

    def test_where_the_driver_does_not_tell_its_name_is_what_it_is(self):
        for one in (
            told("3,1"),
            told("GPU-8a5c"),
            told("MIG-GPU-8a5c/1/0", "GPU-17f0-2"),
            told("GPU-1", "GPU-17", "GPU-18"),
        ):
            assert one.gpus(one.listed) == tuple(Gpu(entry, entry) for entry in one.listed)
        assert ToldGpus().gpus(None) == ()

    @pytest.mark.parametrize(
        ("text", "devices", "visible", "absent"),
        [
            ("0,1,2,3", ("GPU-a", "GPU-b"), ("0", "1"), ("2", "3")),
            ("2,0", ("GPU-a", "GPU-b"), (), ("2", "0")),
            ("0", (), (), ("0",)),
            ("1,0", ("GPU-a", "GPU-b"), ("1", "0"), ()),
            ("GPU-b", ("GPU-a", "GPU-b"), ("GPU-b",), ()),
            ("GPU-b,GPU-beef", ("GPU-a", "GPU-beef"), (), ()),
        ],
        ids=["too large", "as CUDA reads it", "there is none", "all are there", "by name", "one is named twice"],
    )
    def test_what_the_node_has_not_is_left_out(self, text, devices, visible, absent):
        one = ToldGpus(listed_gpus(text), devices)
        assert tuple(gpu.visible for gpu in one.gpus(one.listed)) == visible
        assert one.absent(one.listed) == absent

    @given(
        st.lists(st.sampled_from(["GPU-a", "GPU-b", "GPU-c", "GPU-d"]), unique=True),
        st.lists(st.integers(0, 5), unique=True) | st.none(),
    )
    def test_what_is_handed_out_is_what_the_index_means_to_this_worker(self, devices, indexes):
        listed = None if indexes is None else tuple(map(str, indexes))
        gpus = ToldGpus(listed, tuple(devices)).gpus(listed)
        assert all(devices[int(gpu.visible)] == gpu.identity for gpu in gpus)
        assert len({gpu.identity for gpu in gpus}) == len(gpus)
        if listed is None:
            assert [gpu.identity for gpu in gpus] == devices
        else:
            assert tuple(gpu.visible for gpu in gpus) + ToldGpus(listed, tuple(devices)).absent(listed) == listed


class TestVariables:
    def test_a_process_finds_its_gpu_and_how_many_there_are(self):
        found = gpu_variables(GpuShare(2, Slot("GPU-17", 0), "1"), {VISIBLE: "0,1", "A": "b"}, "unset")
        assert found == {VISIBLE: "1", GPU_COUNT: "2", "A": "b"}

    def test_one_beyond_the_gpus_finds_none_although_its_worker_has_some(self):
        assert gpu_variables(GpuShare(2), {VISIBLE: "0,1"}, "unset") == {GPU_COUNT: "2"}
        assert gpu_variables(GpuShare(2), {VISIBLE: "0,1"}, "hide") == {GPU_COUNT: "2", VISIBLE: ""}

    @pytest.mark.parametrize("surplus", ["unset", "hide"])
    def test_without_gpus_nothing_is_touched(self, surplus):
        assert gpu_variables(GpuShare(), {VISIBLE: "-1"}, surplus) == {VISIBLE: "-1", GPU_COUNT: "0"}
        assert gpu_variables(GpuShare(), {GPU_COUNT: "4"}, surplus) == {GPU_COUNT: "4"}


class TestRule:
    def test_the_example_of_two_gpus_and_four_processes(self):
        gpus = node(("a", "0,1"))
        assert taken(gpus, ("a", 0), ("a", 1), ("a", 2), ("a", 3)) == ["0", "1", None, None]
        gpus.release(("a", 0))
        assert taken(gpus, ("a", 0)) == ["0"]

    def test_it_holds_over_all_workers_of_a_node(self):
        gpus = node(("a", "0,1"), ("b", "0,1"), ("c", "0,1"))
        assert taken(gpus, ("b", 0), ("a", 0), ("c", 0)) == ["0", "1", None]
        gpus.leave("b")
        assert taken(gpus, ("c", 0)) == ["0"]

    def test_nodes_have_gpus_of_their_own(self):
        gpus = node(("a", "0"))
        gpus.join("b", 1, told("0"))
        gpus.join("c", 2, told(""))
        assert taken(gpus, ("a", 0), ("b", 0), ("c", 0)) == ["0", "0", None]
        assert [gpus.count(number) for number in range(4)] == [1, 1, 0, 0]
        assert gpus.take(("c", 0)) == GpuShare()

    def test_each_gpu_gets_one_before_any_gets_a_second(self):
        gpus = node(("a", "0,1"), per_gpu=2)
        lanes = [("a", index) for index in range(5)]
        assert taken(gpus, *lanes) == ["0", "1", "0", "1", None]
        gpus.release(("a", 1))
        gpus.release(("a", 3))
        assert taken(gpus, ("a", 4)) == ["1"]

    def test_a_lane_that_asks_again_gives_back_what_it_had(self):
        gpus = node(("a", "0"))
        assert taken(gpus, ("a", 0), ("a", 0)) == ["0", "0"]

    def test_workers_with_lists_of_their_own_hand_out_from_these(self):
        gpus = node(("a", "0"), ("b", "1"), ("c", ""))
        assert taken(gpus, ("b", 0), ("b", 1), ("a", 0), ("c", 0)) == ["1", None, "0", None]
        assert gpus.count(0) == 2

    def test_what_another_worker_sees_too_is_left_for_it(self):
        gpus = node(("a", "0,1"), ("b", "0"))
        assert taken(gpus, ("a", 0), ("b", 0)) == ["1", "0"]

    def test_workers_of_dask_cuda_use_their_own_one_and_tell_of_all(self):
        gpus = node(("a", "0,1"), ("b", "1,0"), per_gpu=2, first_only=True)
        assert taken(gpus, ("b", 0), ("b", 1), ("b", 2), ("a", 0)) == ["1", "1", None, "0"]
        assert (gpus.count(0), gpus.slots(0)) == (2, 4)

    def test_what_the_step_wishes_holds_on_every_node(self):
        gpus = node(("a", ""), ("b", "0,1,2"), wished="1,2")
        assert taken(gpus, ("a", 0), ("b", 0), ("b", 1)) == ["1", "2", None]
        assert gpus.count(0) == 2
        own = node(("a", "0,1"), ("b", "1,0"), first_only=True, wished="1")
        assert taken(own, ("a", 0), ("b", 0)) == [None, "1"]

    def test_jobs_that_each_number_their_gpus_from_0_get_them_all(self):
        """Slurm with ConstrainDevices, and containers that share a host name."""
        gpus = Gpus()
        gpus.join("a", 0, told("0", "GPU-a"))
        gpus.join("b", 0, ToldGpus(None, ("GPU-b",)))
        shares = [gpus.take((name, 0)) for name in "ab"]
        assert shares == [GpuShare(2, Slot("GPU-a", 0), "0"), GpuShare(2, Slot("GPU-b", 0), "0")]
        assert gpus.slots(0) == 2

    def test_a_gpu_that_workers_call_differently_counts_once(self):
        gpus = Gpus()
        gpus.join("a", 0, told("0", "GPU-a"))
        gpus.join("b", 0, told("GPU-a", "GPU-a"))
        assert [gpus.take((name, 0)) for name in "ab"] == [GpuShare(1, Slot("GPU-a", 0), "0"), GpuShare(1)]

    def test_what_the_step_wishes_is_looked_up_for_each_worker(self):
        gpus = Gpus(wished=("0", "1"))
        gpus.join("a", 0, told("", "GPU-a", "GPU-b", "GPU-c"))
        gpus.join("b", 1, told("", "GPU-d"))
        gpus.join("c", 2, told(""))
        assert [gpus.count(number) for number in range(3)] == [2, 1, 2]
        assert [gpus.absent(name) for name in "abc"] == [(), ("1",), ()]
        own = Gpus(wished=("GPU-b",))
        own.join("a", 0, told("1,0", "GPU-a", "GPU-b"), first_only=True)
        assert taken(own, ("a", 0)) == ["GPU-b"]

    def test_who_is_not_known_gets_nothing_and_may_leave(self):
        gpus = Gpus()
        assert gpus.take(("a", 0)) == GpuShare()
        gpus.leave("a")


class TestBusy:
    """A process that was killed holds its GPU until the kernel has taken it down."""

    def test_another_one_is_given_where_there_is_one(self):
        assert node(("a", "0,1")).take(("a", 0), {Slot("0", 0)}).slot == Slot("1", 0)
        assert node(("a", "0,1"), per_gpu=2).take(("a", 0), {Slot("0", 0)}).slot == Slot("1", 0)
        assert node(("a", "0"), per_gpu=2).take(("a", 0), {Slot("0", 0)}).slot == Slot("0", 1)

    def test_the_lane_waits_until_it_is_free(self):
        gpus = node(("a", "0"))
        assert gpus.take(("a", 0), {Slot("0", 0)}) == GpuShare(1, wait=True)
        assert gpus.waiting == {("a", 0)}
        assert gpus.take(("a", 0)).slot == Slot("0", 0)
        assert gpus.waiting == set()

    def test_it_counts_as_having_it_so_others_start_without_one(self):
        gpus = node(("a", "0,1"), ("b", "0,1"), ("c", "2"))
        busy = {Slot("0", 0)}
        assert [gpus.take((name, 0), busy) for name in "ab"] == [GpuShare(3, Slot("1", 0), "1"), GpuShare(3, wait=True)]
        assert gpus.take(("a", 1), busy) == GpuShare(3)
        assert gpus.take(("a", 2)) == GpuShare(3), "it would take it from the one who waits"
        assert gpus.take(("c", 0)) == GpuShare(3, Slot("2", 0), "2")
        assert gpus.take(("b", 0)) == GpuShare(3, Slot("0", 0), "0")

    def test_who_gives_up_waiting_leaves_it_to_others(self):
        gpus = node(("a", "0"), ("b", "0"))
        gpus.take(("a", 0), {Slot("0", 0)})
        gpus.leave("a")
        assert taken(gpus, ("b", 0)) == ["0"]


class TestLanes:
    """How many processes a node has, and of which workers."""

    def test_by_default_a_node_has_as_many_as_can_have_a_gpu(self):
        places = Places(gpus=Gpus(2))
        for name in "abc":
            places.join(name, "host", 4, 0.0, told("0,1"))
        places.join("d", "other", 3, 0.0)
        assert [places.workers[name].lanes for name in "abcd"] == [2, 1, 1, 3]

    def test_workers_with_a_gpu_come_first(self):
        places = Places(2)
        for name, sees in (("a", ""), ("b", "0"), ("c", "1")):
            places.join(name, "host", 4, 0.0, told(sees))
        assert [places.workers[name].lanes for name in "abc"] == [0, 1, 1]
        places.processes_per_node = 4
        places.leave("c")
        assert [places.workers[name].lanes for name in "ab"] == [2, 2]

    def test_who_has_gpus_keeps_them_when_others_come(self):
        places = Places()
        places.join("a", "host", 3, 0.0, told("0,1,2"))
        assert taken(places.gpus, ("a", 0), ("a", 1)) == ["0", "1"]
        places.join("b", "host", 1, 0.0, told("0,1,2"))
        places.join("c", "host", 1, 0.0, told("0,1,2"))
        assert [places.workers[name].lanes for name in "abc"] == [2, 1, 0]
        places.leave("a")
        assert [places.workers[name].lanes for name in "bc"] == [1, 1]

    def test_a_worker_that_comes_back_smaller_has_no_more_lanes_than_threads(self):
        gpus = node(("a", "0,1"))
        taken(gpus, ("a", 0), ("a", 1))
        gpus.join("b", 0, told("0,1"))
        assert gpus.in_turn(0, {"a": 1, "b": 1}) == ["a", "b"]

    def test_workers_of_dask_cuda_have_as_many_as_may_share_their_gpu(self):
        places = Places(gpus=Gpus(2))
        places.join("a", "host", 2, 0.0, told("0,1"), first_gpu_only=True)
        places.join("b", "host", 1, 0.0, told("1,0"), first_gpu_only=True)
        assert [places.workers[name].lanes for name in "ab"] == [2, 1]


NAMES = ("GPU-a", "GPU-b", "GPU-c")
LANES = st.tuples(st.sampled_from("abc"), st.integers(0, 3))


class Machine(RuleBasedStateMachine):
    """Workers come and go, processes start, are killed and are taken down by the kernel some time later."""

    def __init__(self) -> None:
        super().__init__()
        self.per_gpu = 2
        self.gpus = Gpus(self.per_gpu)
        self.sees: dict[str, tuple[str, ...]] = {}
        self.alive: dict[tuple[str, int], Slot] = {}
        self.dying: set[Slot] = set()
        self.surplus: set[tuple[str, int]] = set()

    @property
    def held(self) -> list[Slot]:
        return [*self.alive.values(), *self.dying]

    @rule(worker=st.sampled_from("abc"), devices=st.lists(st.sampled_from(NAMES), unique=True), by=st.integers(0, 2))
    def comes(self, worker, devices, by):
        """It sees some of the node's GPUs, and numbers them from 0."""
        if worker not in self.sees:
            listed = (None, tuple(map(str, range(len(devices)))), tuple(devices))[by]
            self.sees[worker] = tuple(devices)
            self.gpus.join(worker, 0, ToldGpus(listed, tuple(devices)))

    @rule(worker=st.sampled_from("abc"))
    def is_lost(self, worker):
        """Its processes die a while later."""
        self.sees.pop(worker, None)
        self.gpus.leave(worker)
        for lane in [lane for lane in self.alive if lane[0] == worker]:
            self.dying.add(self.alive.pop(lane))
        self.surplus = {lane for lane in self.surplus if lane[0] != worker}

    @rule(lane=LANES)
    def asks(self, lane):
        if lane[0] not in self.sees or lane in self.alive or lane in self.surplus:
            return
        share = self.gpus.take(lane, set(self.held))
        sees = self.sees[lane[0]]
        if share.slot is not None:
            assert share.slot not in self.held
            assert share.visible in (share.slot.gpu, str(sees.index(share.slot.gpu)))
            per_gpu = Counter(slot.gpu for slot in self.held)
            assert per_gpu[share.slot.gpu] == min(per_gpu[gpu] for gpu in sees), "one that has fewer is there"
            self.alive[lane] = share.slot
        elif share.wait:
            assert any(slot.gpu in sees for slot in self.dying)
        else:
            waiting = sum(not set(self.sees[other[0]]).isdisjoint(sees) for other in self.gpus.waiting)
            mine = sum(slot.gpu in sees for slot in self.alive.values())
            assert mine + waiting >= self.per_gpu * len(sees), "there was one for it"
            self.surplus.add(lane)
        assert share.count == len({gpu for one in self.sees.values() for gpu in one})

    @rule(lane=LANES)
    def ends(self, lane):
        self.gpus.release(lane)
        self.alive.pop(lane, None)
        self.surplus.discard(lane)

    @rule(lane=LANES)
    def is_killed(self, lane):
        """And the kernel takes a while."""
        if lane in self.alive:
            self.gpus.release(lane)
            self.dying.add(self.alive.pop(lane))

    @precondition(lambda self: self.dying)
    @rule()
    def the_dead_are_gone(self):
        self.dying.clear()

    @invariant()
    def nobody_shares_a_slot(self):
        assert len(set(self.held)) == len(self.held)
        assert all(lane[0] in self.sees for lane in self.gpus.waiting)


TestMachine = Machine.TestCase

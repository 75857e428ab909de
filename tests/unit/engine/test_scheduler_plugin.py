"""The plugin's calls, on a scheduler that is a stand-in: what is repeated or late changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.core import Status

import prs_dask
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.losses import Loss
from prs_dask.attempts.records import AttemptRecord, Category, pack, unpack
from prs_dask.engine import adaptation, scheduler_plugin
from prs_dask.engine.node_key import node_key
from prs_dask.engine.patient_clock import PatientClock
from prs_dask.engine.run_settings import OP, RunSettings
from prs_dask.engine.scheduler_plugin import RunPlugin

WORKER = "tcp://127.0.0.1:1"


class Scheduler:
    """As much of a scheduler as the plugin wants."""

    def __init__(self) -> None:
        self.address = "tcp://127.0.0.1:0"
        self.status = Status.running
        self.handlers: dict[str, Any] = {"adaptive_target": self.adaptive_target}
        self.task_prefixes: dict[str, Any] = {}
        self.stream_handlers: dict[str, Any] = {}
        self.workers = {WORKER: SimpleNamespace(processing={}, nthreads=1, status=Status.running)}
        self.clients = {""}  # the driver of a test has no name
        self.queued: set[object] = set()
        self.stream_comms: dict[str, Any] = {WORKER: None}
        self.plugins: dict[str, Any] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.unregistered: list[str] = []
        self.events: list[tuple[float, Any]] = []

    def adaptive_target(self, target_duration: Any = None) -> int:
        return 3

    def worker_send(self, worker: str, message: dict[str, Any]) -> None:
        self.sent.append((worker, message))

    def get_events(self, topic: str) -> list[tuple[float, Any]]:
        return self.events

    async def unregister_worker_plugin(self, comm: None, name: str) -> None:
        await asyncio.sleep(0.01)
        self.unregistered.append(name)


class Bench:
    """A plugin that has been started, and what a worker and a driver would call."""

    def __init__(self, *, speculate: bool = False, **settings: Any) -> None:
        self.scheduler = Scheduler()
        limits = RunLimits(error_threshold=-1, speculate=speculate)
        self.plugin = RunPlugin(RunSettings("test", limits, **settings), b"settings")
        self.scheduler.plugins[self.plugin.name] = self.plugin
        self.numbers = iter(range(1, 1000))
        self.ack = 0

    async def call(self, call: str, run: str = "test", **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.scheduler.handlers[OP](run=run, call=call, **arguments)
        return answer

    async def begin(self, mini_batches: int = 3) -> int:
        """A worker with a ready process, and mini-batches; the number of its permit."""
        await self.plugin.start(self.scheduler)  # type: ignore[arg-type]
        await self.call("hello", worker=WORKER, node_key=node_key(), threads=1)
        number = (await self.call("may_start", worker=WORKER, lane=0))["number"]
        await self.call("process", worker=WORKER, lane=0, event="ready", process=number)
        supply = [(number, 1, b"x") for number in range(mini_batches)]
        entries = await self.sync(supply=supply, total=mini_batches)
        return next(entry["permit"] for entry in entries if entry["kind"] == "permit")

    async def sync(self, **arguments: Any) -> list[dict[str, Any]]:
        """The driver's round; acknowledges what the last one brought."""
        reply = await self.call("sync", ack=self.ack, **arguments)
        self.ack = reply["last"]
        return [entry for _, entry in reply["results"]]

    async def lane(self, permit: int, number: int | None = None, **arguments: Any) -> dict[str, Any]:
        number = next(self.numbers) if number is None else number
        return await self.call(
            "lane", worker=WORKER, lane=0, process=0, permit=permit, number=number, **arguments
        )  # fmt: skip


def outcome(*mini_batches: int, rows: bytes = b"a\n", **more: Any) -> dict[str, Any]:
    records = [AttemptRecord(number, 1, 0, 1, 1, 1, len(rows), 0.0, 0.0, 0.0, 0.0, 0.0) for number in mini_batches]
    return {"process": 0, "pid": 77, "records": pack(records), "rows": rows * len(mini_batches), **more}


def succeeded(entries: list[dict[str, Any]]) -> list[int]:
    return [
        record.mini_batch for entry in entries if entry["kind"] == "attempts" for record in unpack(entry["records"])
    ]


@pytest.fixture
def bench() -> Callable[..., Any]:
    """Run a test's coroutine with a bench: ``bench(test, rows_in_flight=10)``."""

    def run(test: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def main() -> None:
            made = Bench(**settings)
            try:
                await test(made)
            finally:
                await made.plugin.close()

        asyncio.run(main())

    return run


def test_an_unknown_step_run_is_closed(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        assert (await b.call("alive", run="other", worker=WORKER))["closed"]
        await b.call("remove")
        assert (await b.call("alive", worker=WORKER))["closed"]
        assert b.scheduler.plugins == {}
        assert b.scheduler.handlers == {
            "adaptive_target": b.scheduler.adaptive_target,
            OP: b.scheduler.handlers[OP],  # the inert one
        }
        assert "adaptive_target" not in vars(b.scheduler)

    bench(test)


def test_a_report_counts_once_and_a_repeated_call_gets_the_same_answer(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        number = next(b.numbers)
        mini_batch = grant["work"][0][0]
        arguments = {"number": number, "token": grant["token"], "report": outcome(mini_batch), "claim": True}
        first = await b.lane(permit, **arguments)
        assert await b.lane(permit, **arguments) == first
        assert first["token"] != grant["token"]
        assert succeeded(await b.sync()) == [mini_batch]

    bench(test)


def test_a_call_that_is_repeated_while_the_first_still_waits_changes_nothing(bench):
    """The connection broke while a report waited for room: pieces of rows must not be there twice."""

    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant, done = await b.lane(permit, claim=True), []
        for letter in (b"p", b"q"):
            done.append(grant["work"][0][0])
            report = outcome(done[-1], pieces=[(done[-1], letter * 5000)])
            arguments = {"number": next(b.numbers), "token": grant["token"], "report": report, "claim": True}
            if letter == b"p":
                grant = await b.lane(permit, **arguments)  # it has filled the room
        calls = [asyncio.create_task(b.lane(permit, **arguments)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        entries = await b.sync()
        assert [entry["data"] for entry in entries if entry["kind"] == "piece"] == [b"p" * 5000]  # and no more
        entries += await b.sync()
        answers = await asyncio.gather(*calls)
        assert answers[0] == answers[1]
        entries += await b.sync()
        assert [entry["data"] for entry in entries if entry["kind"] == "piece"] == [b"p" * 5000, b"q" * 5000]
        assert succeeded(entries) == done

    bench(test, rows_in_flight=2000)


def test_results_come_again_until_they_are_acknowledged(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        await b.lane(permit, token=grant["token"], report=outcome(grant["work"][0][0]))
        before = b.ack
        first = await b.call("sync", ack=before)
        assert (await b.call("sync", ack=before))["results"] == first["results"]
        assert (await b.call("sync", ack=first["last"]))["results"] == []

    bench(test)


@pytest.mark.parametrize(
    ("theirs", "queued", "status", "over"),
    [
        (0, 0, Status.running, False),
        (1, 0, Status.running, True),
        (0, 1, Status.running, True),  # it waits in the scheduler, for no worker in particular
        (0, 0, Status.paused, True),
        (0, 0, Status.closing_gracefully, True),
    ],
)
def test_a_permit_ends_after_its_slice_where_others_wait_or_the_worker_shall_rest(
    bench, monkeypatch, theirs, queued, status, over
):
    monkeypatch.setattr("prs_dask.attempts.places.SLICE_SECONDS", 0.0)

    async def test(b: Bench) -> None:
        permit = await b.begin()
        await b.lane(permit, claim=True)
        worker = b.scheduler.workers[WORKER]
        permits = len(b.plugin._judge.places.workers[WORKER].permits)
        worker.processing = dict.fromkeys(range(permits + theirs))
        worker.status = status
        b.scheduler.queued = set(range(queued))
        assert ("stop" in await b.lane(permit, claim=True)) is over

    bench(test)


def test_what_comes_right_behind_the_first_news_comes_with_them(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "GATHER_SECONDS", 1.0)  # however busy the machine is

    async def test(b: Bench) -> None:
        permit = await b.begin(10)
        grant = await b.lane(permit, claim=True)
        round_under_way = asyncio.create_task(b.sync(wait=5.0))
        await asyncio.sleep(0)
        b.plugin._note("one")
        await asyncio.sleep(0.02)
        await b.lane(permit, token=grant["token"], report=outcome(grant["work"][0][0]))
        entries = await round_under_way
        assert [entry["kind"] for entry in entries] == ["note", "header", "attempts"]

    bench(test)


def test_the_end_is_told_at_once(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "GATHER_SECONDS", 60.0)

    async def test(b: Bench) -> None:
        permit = await b.begin(1)
        grant = await b.lane(permit, claim=True)
        round_under_way = asyncio.create_task(b.sync(wait=60.0))
        await asyncio.sleep(0.02)
        await b.lane(permit, token=grant["token"], report=outcome(grant["work"][0][0]), claim=True)
        entries = await asyncio.wait_for(round_under_way, 5)
        assert succeeded(entries) == [0]

    bench(test)


def test_what_a_lost_worker_says_later_is_void(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        b.plugin.remove_worker(b.scheduler, WORKER, stimulus_id="test")
        answer = await b.lane(permit, token=grant["token"], report=outcome(grant["work"][0][0]))
        assert answer["void"] == "given up"
        entries = await b.sync()
        (void,) = [entry["permits"] for entry in entries if entry["kind"] == "void"]
        assert permit in void
        assert not [
            record for entry in entries if entry["kind"] == "attempts"
            for record in unpack(entry["records"]) if not record.category
        ]  # fmt: skip

    bench(test)


def test_a_worker_that_is_silent_is_waited_for_no_more_until_it_says_hello(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        await b.plugin._look_around(b.plugin._driver_heard + 16)
        reply = await b.call("sync", ack=0)
        assert (reply["live"], reply["lanes"]) == (0, 0)
        assert await b.call("alive", worker=WORKER) == {"known": False, "stop": ""}
        assert (await b.call("hello", worker=WORKER, node_key=node_key(), threads=1))["node"] == 0
        reply = await b.call("sync", ack=0)
        assert (reply["live"], reply["lanes"]) == (1, 1)

    bench(test)


def test_a_mini_batch_with_which_two_workers_fell_silent_is_charged(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin(1)
        await b.lane(permit, claim=True)
        await b.plugin._look_around(time.monotonic() + 16)
        assert succeeded(await b.sync()) == []
        await b.call("hello", worker=WORKER, node_key=node_key(), threads=1)
        await b.call("process", worker=WORKER, lane=0, event="ready", process=1)
        permit = next(entry["permit"] for entry in await b.sync() if entry["kind"] == "permit")
        grant = await b.lane(permit, claim=True)
        assert grant["careful"]
        assert grant["work"][0][0] == 0
        await b.call("alive", worker=WORKER, begun=[(0, 0)])
        await b.plugin._look_around(time.monotonic() + 16)
        [lost] = [entry for entry in await b.sync() if entry["kind"] == "attempts"]
        assert next(unpack(lost["records"])).category == Category.WORKER_LOST

    bench(test)


@pytest.mark.parametrize(
    ("expected", "begun", "charged"), [(True, True, 0), (False, True, 1), (False, False, 0), (None, True, 1)]
)
def test_a_worker_that_went_unexpectedly_is_charged_to_what_it_said_had_begun(bench, expected, begun, charged):
    async def test(b: Bench) -> None:
        permit = await b.begin(1)
        await b.lane(permit, claim=True)
        await b.call("alive", worker=WORKER, begun=[(0, 0)] if begun else [])
        events = [] if expected is None else [{"action": "remove-worker", "worker": WORKER, "expected": expected}]
        b.scheduler.events = [(0.0, event) for event in [*events, {"action": "add-worker", "worker": WORKER}, "text"]]
        b.plugin.remove_worker(b.scheduler, WORKER, stimulus_id="test")
        assert len([entry for entry in await b.sync() if entry["kind"] == "attempts"]) == charged

    bench(test)


def test_a_scheduler_that_closes_and_its_workers_with_it_charges_nobody(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin(1)
        await b.lane(permit, claim=True)
        await b.call("alive", worker=WORKER, begun=[(0, 0)])
        b.scheduler.status = Status.closing
        b.plugin.remove_worker(b.scheduler, WORKER, stimulus_id="test")
        assert not [entry for entry in await b.sync() if entry["kind"] == "attempts"]

    bench(test)


@pytest.mark.parametrize(
    ("clients", "seconds"), [({"driver"}, 0.3), ({"another"}, 0.05)], ids=["connected", "connection closed"]
)
def test_a_driver_that_is_silent_has_everything_cleared_away_and_is_told_when_it_comes_back(
    bench, monkeypatch, clients, seconds
):
    monkeypatch.setattr(scheduler_plugin, "DRIVER_LOST_SECONDS", 0.05)
    monkeypatch.setattr(scheduler_plugin, "TICK_SECONDS", 0.01)

    async def test(b: Bench) -> None:
        b.scheduler.clients = clients
        await b.begin()
        begun = time.monotonic()
        while b.scheduler.plugins:
            assert time.monotonic() < begun + 10
            await asyncio.sleep(0.005)
        assert time.monotonic() - begun >= seconds
        assert [message["call"] for _, message in b.scheduler.sent] == ["stop"]
        assert b.scheduler.unregistered == ["prs-test"]
        answer = await b.call("sync", ack=0)
        assert answer["closed"]
        assert "had not heard of its driver" in answer["why"]
        assert (await b.call("alive", worker=WORKER))["closed"]

    bench(test, client="driver", silent_seconds=0.3)


def test_a_worker_that_hangs_holds_the_clearing_away_up_only_so_long(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "CLEAR_SECONDS", 0.1)
    monkeypatch.setattr(scheduler_plugin, "TICK_SECONDS", 0.01)

    async def test(b: Bench) -> None:
        await b.begin()

        async def never(comm: None, name: str) -> None:
            await asyncio.Event().wait()

        b.scheduler.unregister_worker_plugin = never  # type: ignore[method-assign]
        begun = time.monotonic()
        while b.scheduler.plugins:
            assert time.monotonic() < begun + 5
            await asyncio.sleep(0.01)

    bench(test, silent_seconds=0.05)


def test_a_scheduler_that_was_stopped_holds_nobody_for_dead(bench, monkeypatch):
    """Its own silence is not that of others: on this machine it is the driver's process, which Ctrl-Z stops."""
    real = time.monotonic
    slept = 0.0
    monkeypatch.setattr(scheduler_plugin, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(scheduler_plugin, "PatientClock", lambda: PatientClock(lambda: real() + slept))

    async def test(b: Bench) -> None:
        nonlocal slept
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        slept = 3600.0
        await asyncio.sleep(0.1)
        assert (await b.call("alive", worker=WORKER))["known"]
        await b.lane(permit, token=grant["token"], report=outcome(0))
        assert succeeded(await b.sync()) == [0]

    bench(test)


def test_logs_that_wait_for_room_wait_no_longer_than_the_step_run_goes_on(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "MOST_LOG_BYTES", 10)

    async def test(b: Bench) -> None:
        await b.begin()
        piece = {"stream": "stdout", "node": 0, "process": 0, "data": b"x" * 100}
        waiting = asyncio.create_task(send(b, 1, piece))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await b.call("remove")
        await asyncio.wait_for(waiting, 5)

    bench(test)


def test_a_fault_of_our_own_ends_the_step_run_and_reaches_the_driver_not_dask(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        answer = await b.call("lane", worker=WORKER, nonsense=1)
        assert answer["closed"]
        assert "internal error of prs_dask in lane" in answer["fault"]
        reply = await b.call("sync", ack=b.ack)
        assert reply["verdict"]["state"] == "Failed"
        assert "internal error of prs_dask in lane" in reply["verdict"]["cause"]
        assert [entry["where"] for _, entry in reply["results"] if entry["kind"] == "fault"] == ["lane"]

    bench(test)


def test_after_a_stop_a_worker_that_comes_is_sent_away(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        await b.call("stop", orderly=True)
        assert b.scheduler.sent == [(WORKER, {"op": OP, "run": "test", "call": "stop", "orderly": True})]
        assert await b.call("hello", worker=WORKER, node_key="n", threads=1) == {"closed": True}
        assert (await b.call("alive", worker=WORKER))["stop"] == "orderly"

    bench(test)


def send(b: Bench, number: int, *pieces: dict[str, Any], sender: str = "worker-1-x") -> Coroutine[Any, Any, Any]:
    return b.call("logs", worker=WORKER, sender=sender, number=number, pieces=list(pieces))


def test_a_call_with_logs_that_is_repeated_adds_nothing_whoever_repeats_it(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        piece = {"stream": "stdout", "node": 0, "process": 0}
        for number, data in [(1, b"a"), (1, b"a"), (2, b"b"), (1, b"a"), (2, b"b"), (3, b"c")]:
            await send(b, number, {**piece, "data": data})
        await send(b, 1, {**piece, "data": b"d"}, sender="worker-2-y")
        entries = await b.sync(wait=0.1)
        assert [entry["data"] for entry in entries if entry["kind"] == "log"] == [b"a", b"b", b"c", b"d"]

    bench(test)


def test_number_and_gpu_of_a_process_are_one_decision(bench):
    """With two GPUs and four lanes; a GPU that is still held is waited for, and that is told once."""

    async def test(b: Bench) -> None:
        await b.plugin.start(b.scheduler)  # type: ignore[arg-type]
        await b.call("hello", worker=WORKER, node_key=node_key(), threads=4, gpus=(("0", "1"),), missed_gpus="more?")

        async def start(lane: int, *busy: tuple[str, int]) -> Any:
            answer = await b.call("may_start", worker=WORKER, lane=lane, busy=busy)
            return answer.get("wait") or (answer["number"], answer["slot"], answer["gpus"])

        async def ended(lane: int, event: str = "ended") -> None:
            await b.call("process", worker=WORKER, lane=lane, event=event, process=0)

        begun = [await start(lane) for lane in range(4)]
        assert begun == [(0, ("0", 0), 2), (1, ("1", 0), 2), (2, None, 2), (3, None, 2)]
        await ended(0)
        assert await start(0) == (4, ("0", 0), 2)
        await ended(2)
        assert await start(2) == (5, None, 2)
        await ended(1, "failed")
        b.plugin._judge.init_rules.succeeded(0)
        for _ in range(3):
            assert await start(1, ("0", 0), ("1", 0)) == scheduler_plugin.GPU_WAIT_SECONDS
        assert await start(1, ("0", 0)) == (6, ("1", 0), 2)
        notes = [entry["text"] for entry in await b.sync() if entry["kind"] == "note"]
        assert notes[0].endswith("has come with 4 threads and sees GPU 0, 1")
        assert notes[1:] == [
            "node 0: more?",
            "a process of node 0 waits for a GPU that one which was killed still holds",
        ]

    bench(test, processes_per_node=4)


def test_two_jobs_on_one_node_have_a_gpu_each_although_both_call_it_0(bench):
    """And what the step names beyond what a node has is told."""

    async def test(b: Bench) -> None:
        await b.plugin.start(b.scheduler)  # type: ignore[arg-type]
        shares, other = [], "tcp://elsewhere:1"
        b.scheduler.workers[other] = b.scheduler.workers[WORKER]
        for worker, device in ((WORKER, "GPU-a"), (other, "GPU-b")):
            await b.call("hello", worker=worker, node_key=node_key(), threads=1, gpus=((), (device,), ()))
            shares.append(await b.call("may_start", worker=worker, lane=0))
        assert [(share["slot"], share["visible"]) for share in shares] == [(("GPU-a", 0), "0"), (("GPU-b", 0), "0")]
        notes = [entry["text"] for entry in await b.sync() if entry["kind"] == "note"]
        assert notes[1::2] == [
            "node 0: CUDA_VISIBLE_DEVICES names GPU 2, but the driver tells of 1, the first of which is 0. What is not "
            "used, as with CUDA: 2, 3. Name only GPUs that are there, or unset it"
        ] * 2  # fmt: skip

    bench(test, wished_gpus=("0", "2", "3"))


def test_a_lane_that_may_start_none_any_more_waits_for_no_gpu(bench):
    async def test(b: Bench) -> None:
        await b.plugin.start(b.scheduler)  # type: ignore[arg-type]
        await b.call("hello", worker=WORKER, node_key=node_key(), threads=1, gpus=(("0",),))
        await b.call("may_start", worker=WORKER, lane=0, busy=[("0", 0)])
        gpus = b.plugin._judge.places.gpus
        assert gpus.waiting == {(WORKER, 0)}
        await b.call("stop", orderly=True, state="Canceled")
        assert (await b.call("may_start", worker=WORKER, lane=0, busy=[("0", 0)]))["refused"]
        assert gpus.waiting == set()

    bench(test)


def test_logs_wait_for_room_and_leave_in_order(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "MOST_LOG_BYTES", 10)

    async def test(b: Bench) -> None:
        await b.begin()
        pieces = [{"stream": "stdout", "node": 0, "process": 0, "data": bytes([65 + n]) * 20} for n in range(3)]
        calls = [asyncio.create_task(send(b, number, piece)) for number, piece in enumerate(pieces, 1)]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        entries = await b.sync(wait=0.1)
        await asyncio.wait_for(asyncio.gather(*calls), 2)
        assert [entry["data"][:1] for entry in entries if entry["kind"] == "log"] == [b"A", b"B", b"C"]

    bench(test)


def events(entries: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(entry["event"], entry["process"], entry["why"]) for entry in entries if entry["kind"] == "process"]


def started(process: int) -> dict[str, Any]:
    news = {"event": "started", "process": process, "node": 0, "time": 1.0, "pid": 7, "ip": "127.0.0.1", "seconds": 0.0}
    return {"kind": "process", "data": b"", "why": "", **news}


def test_events_of_processes_are_results_of_their_own_and_a_call_that_is_repeated_adds_none(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        for number in (1, 1, 2, 1):
            await send(b, number, started(number))
        entries = await b.sync()
        assert events(entries) == [("started", 1, ""), ("started", 2, "")]
        assert await b.sync() == []

    bench(test)


def test_the_processes_of_a_worker_that_is_lost_have_ended_with_it_behind_what_it_had_told_of_them(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        await b.call("may_start", worker=WORKER, lane=1)
        await b.call("may_start", worker=WORKER, lane=2)
        await b.call("process", worker=WORKER, lane=2, event="ended", process=2)
        await send(b, 1, started(1))
        b.plugin.remove_worker(b.scheduler, WORKER, stimulus_id="")
        entries = await b.sync()
        why = f"its worker {WORKER} is gone"
        assert events(entries) == [("started", 1, ""), ("ended", 0, why), ("ended", 1, why)]
        [gone] = [entry["text"] for entry in entries if entry["kind"] == "note" and "is gone" in entry["text"]]
        assert "node 0 has no other" in gone

    bench(test)


def test_events_count_for_the_room_that_logs_have(bench, monkeypatch):
    monkeypatch.setattr(scheduler_plugin, "MOST_LOG_BYTES", 10_000)

    async def test(b: Bench) -> None:
        await b.begin()
        flood = asyncio.create_task(send(b, 1, *[started(number) for number in range(100)]))
        await asyncio.sleep(0.1)
        assert not flood.done()
        assert len(events(await b.sync(wait=0.1))) == 100
        await asyncio.wait_for(flood, 2)

    bench(test)


def test_why_the_step_run_ends_is_noted_once(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        await b.call("stop", orderly=False, state="Failed", cause="21 items failed\nin many ways")
        notes = [entry["text"] for _ in range(3) for entry in await b.sync() if entry["kind"] == "note"]
        assert notes[-1:] == ["the step run ends: Failed: 21 items failed"]
        assert sum("step run ends" in note for note in notes) == 1

    bench(test)


def test_the_driver_is_told_of_logs_that_did_not_fit_into_an_answer(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        for number in range(3):
            piece = {"stream": "stdout", "node": 0, "process": 0, "data": b"%d" % number * scheduler_plugin.PIECE_BYTES}
            await send(b, number + 1, piece)
        await b.call("stopped", worker=WORKER)
        await b.call("stop", orderly=True, state="Completed")
        begun, more = [], True
        while more:
            reply = await b.call("sync", ack=b.ack)
            begun += [entry["data"][:1] for _, entry in reply["results"] if entry["kind"] == "log"]
            b.ack, more = reply["last"], reply["more_logs"]
        assert begun == [b"0", b"1", b"2"]

    bench(test)


def test_a_worker_that_cannot_be_used_ends_nothing_while_another_has_yet_to_say_hello(bench):
    async def test(b: Bench) -> None:
        other = "tcp://127.0.0.1:2"
        b.scheduler.workers[other] = SimpleNamespace(processing={}, nthreads=1, status=Status.running)
        await b.plugin.start(b.scheduler)
        await b.call("unusable", worker=WORKER, error="OSError: no room")
        assert (await b.call("sync", ack=0))["verdict"] is None
        await b.call("unusable", worker=other, error="OSError: no room either")
        verdict = (await b.call("sync", ack=0))["verdict"]
        assert verdict["state"] == "Failed"
        assert "no worker can be used; worker tcp://127.0.0.1:2: OSError: no room either" in verdict["cause"]
        await b.call("remove")

    bench(test)


def test_a_report_that_comes_when_the_step_run_is_over_is_told_so(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        await b.call("stop", orderly=False, state="Canceled")
        answer = await b.lane(permit, token=grant["token"], report=outcome(grant["work"][0][0]))
        assert answer["void"] == "over"

    bench(test)


def test_files_of_an_attempt_come_before_it_and_a_repeated_call_doubles_none(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        mini_batch = grant["work"][0][0]
        report = outcome(mini_batch, files=[(mini_batch, b"one"), (mini_batch, b"two")])
        arguments = {"number": next(b.numbers), "token": grant["token"], "report": report}
        await b.lane(permit, **arguments)
        await b.lane(permit, **arguments)
        entries = await b.sync()
        assert [entry["kind"] for entry in entries if entry["kind"] in ("file", "attempts")] == [
            "file",
            "file",
            "attempts",
        ]
        files = [entry for entry in entries if entry["kind"] == "file"]
        assert [(file["mini_batch"], file["token"], file["data"]) for file in files] == [
            (mini_batch, grant["token"], b"one"),
            (mini_batch, grant["token"], b"two"),
        ]

    bench(test)


@pytest.mark.parametrize("lost", [True, False])
def test_the_driver_is_told_when_a_grant_is_over_under_which_files_have_come(bench, lost):
    async def test(b: Bench) -> None:
        permit = await b.begin(mini_batches=1)
        grant = await b.lane(permit, claim=True)
        mini_batch = grant["work"][0][0]
        report = {**outcome(), "files": [(mini_batch, b"one")]}
        await b.lane(permit, token=grant["token"], report=report)
        assert [entry["kind"] for entry in await b.sync() if entry["kind"].startswith("file")] == ["file"]
        if lost:
            b.plugin._lose(WORKER, Loss.GONE)
        else:
            await b.lane(permit, token=grant["token"], report=outcome(mini_batch))
        entries = [entry for entry in await b.sync() if entry["kind"] in ("attempts", "files_over")]
        assert entries[-1] == {"kind": "files_over", "token": grant["token"]}
        assert not b.plugin._with_files

    bench(test)


@pytest.mark.parametrize("over", ["its worker was lost", "the step run has ended"])
@pytest.mark.parametrize("kind", ["file", "piece"])
def test_pieces_under_a_void_grant_do_not_reach_the_driver(bench, kind, over):
    """The driver has forgotten what had come before, and would tear what goes on; or add it to a file twice."""

    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        mini_batch = grant["work"][0][0]
        call = {"token": grant["token"], "number": next(b.numbers)}
        report = outcome(mini_batch, **{f"{kind}s": [(mini_batch, b"tail")]})
        await b.lane(permit, **call, report=report)
        if over == "its worker was lost":
            b.plugin._lose(WORKER, Loss.GONE)  # its answers are forgotten: what is repeated is taken for new
        else:
            await b.call("stop", orderly=False, state="Canceled")
            call["number"] += 1
        assert (await b.lane(permit, **call, report=report))["void"]
        kinds = [entry["kind"] for entry in await b.sync()]
        assert kinds.count(kind) == 1
        assert kinds.count("files_over") == (kind == "file")

    bench(test)


def test_a_lane_is_told_when_files_of_a_success_do_not_count(bench):
    async def test(b: Bench) -> None:
        permit = await b.begin()
        grant = await b.lane(permit, claim=True)
        mini_batch = grant["work"][0][0]
        report = outcome(mini_batch, files=[(mini_batch, b"one")], filed=[mini_batch])
        arguments = {"token": grant["token"], "report": report}
        assert "files_refused" not in await b.lane(permit, **arguments)
        more = await b.lane(permit, claim=True)
        number = more["work"][0][0]
        headers = {"headers": [(number, b"x y\n")], "filed": [number]}
        reply = await b.lane(permit, token=more["token"], report=outcome(number, **headers))
        assert reply["files_refused"]

    bench(test)


def test_files_stored_at_the_end_of_a_process_are_missed_until_the_last_has_come(bench):
    async def test(b: Bench) -> None:
        await b.begin()

        async def send(number: int, piece: bytes, ended: bool = False) -> None:
            await b.call("last_file", worker=WORKER, node=0, process=3, number=number, piece=piece, ended=ended)

        await send(1, b"one")
        await send(1, b"one")
        assert (await b.call("sync", ack=b.ack))["unstored"] == ["process003 of node 0"]
        await send(2, b"")  # it still looks for more
        assert (await b.call("sync", ack=b.ack))["unstored"] == ["process003 of node 0"]
        await send(3, b"", ended=True)
        reply = await b.call("sync", ack=b.ack)
        assert reply["unstored"] == []
        assert [entry["data"] for _, entry in reply["results"] if entry["kind"] == "file"] == [b"one", b"", b""]

    bench(test)


def test_files_stored_at_the_end_of_a_process_whose_worker_was_taken_away_are_taken_and_not_missed(bench):
    async def test(b: Bench) -> None:
        await b.begin()
        b.plugin.remove_worker(b.scheduler, WORKER, stimulus_id="")
        await b.call("last_file", worker=WORKER, node=0, process=3, number=1, piece=b"one", ended=False)
        reply = await b.call("sync", ack=b.ack)
        assert reply["unstored"] == []
        assert [entry["data"] for _, entry in reply["results"] if entry["kind"] == "file"] == [b"one"]

    bench(test)


def test_a_cluster_that_adapts_is_told_what_step_runs_want_and_may_have_idle_workers(bench):
    async def test(b: Bench) -> None:
        def target() -> int:
            assert b.scheduler.handlers["adaptive_target"]("1s") == b.scheduler.adaptive_target("1s")
            return b.scheduler.adaptive_target("1s")

        permit = await b.begin()
        await b.call("sync", ack=0, ahead=40)
        assert target() == 22, "43 of half a second each, as far as anybody knows"
        b.scheduler.task_prefixes["others"] = SimpleNamespace(states={"processing": 1})
        assert target() == 22
        b.scheduler.task_prefixes["prs-test"] = SimpleNamespace(states={"processing": 1})
        ours = [b.scheduler.workers[WORKER]]
        ours[0].address = WORKER
        assert b.plugin.valid_workers_downscaling(b.scheduler, ours) == ours, "it has nothing to do yet"
        grant = await b.lane(permit, claim=True)
        assert b.plugin.valid_workers_downscaling(b.scheduler, ours) == []
        await b.call("sync", ack=0, ahead=0)
        assert target() == 3, "others' tasks want three"
        b.scheduler.task_prefixes.pop("others")
        assert target() == 2
        assert grant["work"]

    bench(test)


def test_a_worker_with_another_prs_dask_is_left_out_where_others_fit(bench):
    async def test(made):
        await made.begin()
        await made.call("prepared", worker=WORKER)
        made.scheduler.workers["tcp://127.0.0.1:2"] = made.scheduler.workers[WORKER]
        late = {"worker": "tcp://127.0.0.1:2", "node_key": "late/1", "threads": 1}
        assert await made.call("hello", **late, version="0.0.1", prepares=True) == {"closed": True}
        told = [entry["text"] for entry in await made.sync() if entry["kind"] == "note"]
        assert any("late" in text and "prs_dask" in text and "left out" in text for text in told)
        assert made.plugin._judge.verdict is None

    bench(test)


def test_the_last_of_two_step_runs_puts_the_reckoning_of_dask_back(bench):
    async def test(b: Bench) -> None:
        await b.plugin.start(b.scheduler)
        adaptation.join(b.scheduler, "another", lambda _: 5)
        assert b.scheduler.adaptive_target() == 5
        await b.plugin.close()
        assert b.scheduler.adaptive_target() == 5
        adaptation.leave(b.scheduler, "another")
        adaptation.leave(b.scheduler, "another")
        assert (b.scheduler.adaptive_target(), b.scheduler.handlers["adaptive_target"]()) == (3, 3)
        await b.plugin.start(b.scheduler)
        theirs = b.scheduler.adaptive_target = lambda *_: 7
        await b.plugin.close()
        assert b.scheduler.adaptive_target is theirs, "what somebody has put there meanwhile stays"
        await b.plugin.start(b.scheduler)

    bench(test)


def test_a_worker_that_prepares_gets_no_permit_before_it_is_prepared(bench):
    async def test(made):
        await made.plugin.start(made.scheduler)
        hello = {"worker": WORKER, "node_key": node_key(), "threads": 1}
        await made.call("hello", **hello, version=prs_dask.__version__, prepares=True)
        entries = await made.sync(supply=[(0, 1, b"x")], total=1)
        assert not [entry for entry in entries if entry["kind"] == "permit"]
        await made.call("prepared", worker=WORKER)
        assert [entry for entry in await made.sync() if entry["kind"] == "permit"]

    bench(test)


def test_workers_that_do_not_fit_end_it(bench):
    async def test(made):
        await made.plugin.start(made.scheduler)
        await made.call("hello", worker=WORKER, node_key="host/1", threads=1, prepares=True)
        await made.call("unfit", worker=WORKER, lacking=[["pandas", "1.0", ">=2"]])
        verdict = made.plugin._judge.verdict
        assert verdict.state == "Failed"
        assert "0 (127.0.0.1)  pandas   1.0    >=2" in verdict.cause

    bench(test)


def test_a_side_input_that_cannot_be_sent_ends_it_and_nobody_waits_for_it(bench):
    async def test(made):
        await made.plugin.start(made.scheduler)
        asking = asyncio.create_task(made.call("piece", worker=WORKER, parcel=1, offset=0))
        (key,) = (await made.call("parcels", answers=[], wait=1.0))["wanted"]
        assert key == (1, False, 0)
        assert (await made.call("parcels", answers=[(key, b"", "it was changed")], wait=1.0)) == {"wanted": None}
        assert await asking == {}
        assert made.plugin._judge.verdict.cause == "it was changed"

    bench(test)


def test_who_asks_for_a_piece_is_answered_when_the_step_run_ends(bench):
    async def test(made):
        await made.plugin.start(made.scheduler)
        asking = asyncio.create_task(made.call("piece", worker=WORKER, parcel=1, offset=0))
        await asyncio.sleep(0)
        await made.call("stop", orderly=False, state="Canceled", cause="so")
        assert await asking == {}

    bench(test)


def test_a_worker_that_was_lost_while_it_said_that_it_is_prepared_is_so_with_its_next_heartbeat(bench):
    async def test(made):
        await made.plugin.start(made.scheduler)
        await made.call("prepared", worker=WORKER)
        await made.call("hello", worker=WORKER, node_key=node_key(), threads=1, prepares=True)
        assert not made.plugin._judge.places.workers[WORKER].prepared
        await made.call("alive", worker=WORKER, prepared=True)
        assert made.plugin._judge.places.workers[WORKER].prepared

    bench(test)


OTHER = "tcp://127.0.0.1:2"


async def race(b: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two workers that run the last mini-batch, which has sent pieces; the grants of the first and of the second."""
    permit = await b.begin(mini_batches=11)
    b.scheduler.workers[OTHER] = b.scheduler.workers[WORKER]
    b.scheduler.stream_comms[OTHER] = None
    await b.call("hello", worker=OTHER, node_key="another", threads=1)
    number = (await b.call("may_start", worker=OTHER, lane=0))["number"]
    await b.call("process", worker=OTHER, lane=0, event="ready", process=number, pid=99)
    await b.call("process", worker=WORKER, lane=0, event="ready", process=0, pid=77)
    grant = await b.lane(permit, claim=True)
    while (last := grant["work"][-1][0]) != 10:
        grant = await b.lane(permit, token=grant["token"], report=outcome(last), claim=True)
    pieces = {"pieces": [(last, b"row")], "files": [(last, b"file")], "records": b"", "rows": b""}
    await b.lane(permit, token=grant["token"], report={"process": 0, "pid": 77, **pieces})
    b.plugin._judge._grants[grant["token"]].since -= 5
    [permit] = [entry["permit"] for entry in await b.sync() if entry["kind"] == "permit" and entry["worker"] == OTHER]
    arguments = {"process": 0, "permit": permit, "number": 1, "claim": True}
    return grant, await b.call("lane", worker=OTHER, lane=0, **arguments)


def test_of_two_attempts_the_slower_one_is_told_to_end_and_nothing_of_it_counts(bench):
    async def test(b: Bench) -> None:
        first, second = await race(b)
        assert second["work"] == first["work"]
        [note] = [entry["text"] for entry in await b.sync() if entry["kind"] == "note" and "second" in entry["text"]]
        assert note.startswith(f"mini-batch 10 is started a second time, on worker {OTHER}, after 5.0 s: ")
        report = {"token": second["token"], "report": {**outcome(10), "pid": 99}}
        await b.call("lane", worker=OTHER, lane=0, process=0, permit=0, number=2, **report)
        message = {"op": OP, "run": "test", "call": "overtaken", "lane": 0, "mini_batch": 10}
        assert b.scheduler.sent == [(WORKER, message)]
        lost, won = [entry for entry in await b.sync() if entry["kind"] == "attempts"]
        [record] = unpack(lost["records"])
        assert (record.mini_batch, record.category, record.final) == (10, Category.OVERTAKEN, 0)
        assert (lost["node"], lost["process"], lost["ip"], lost["pid"]) == (0, 0, "127.0.0.1", 77)
        assert lost["token"] == first["token"]
        assert lost["errors"][0][1][1].startswith("another attempt of it, in 1/process000, was faster")
        assert (won["token"], won["node"], won["rows"]) == (second["token"], 1, b"a\n")

    bench(test, speculate=True)


def test_pieces_of_an_attempt_that_was_overtaken_do_not_reach_the_driver(bench):
    """The driver has forgotten what came before; and its mini-batch is committed."""

    async def test(b: Bench) -> None:
        first, second = await race(b)
        b.plugin._judge._total += 1  # the step run goes on
        report = {"token": second["token"], "report": {**outcome(10), "pid": 99}}
        await b.call("lane", worker=OTHER, lane=0, process=0, permit=0, number=2, **report)
        await b.sync()
        late = outcome(10, pieces=[(10, b"late")], files=[(10, b"late")], filed=[10])
        reply = await b.lane(0, token=first["token"], report=late)
        assert "void" not in reply
        assert reply["files_refused"]
        assert [entry["kind"] for entry in await b.sync() if entry["kind"] != "permit"] == ["files_over"]

    bench(test, speculate=True)

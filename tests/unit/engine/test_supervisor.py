"""What a supervisor's beats do beside each other, and what it waits for at the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.core import Status

from prs_dask.engine import supervisor
from prs_dask.engine.run_settings import OP
from prs_dask.engine.shipper import Shipper, spool_files
from prs_dask.engine.spool import NodeFolder
from prs_dask.engine.supervisor import Supervisor


def supervisor_of(call: Any) -> Supervisor:
    """One whose calls to the scheduler go there."""
    worker: Any = type("FakeWorker", (), {"address": "tcp://here", "status": Status.running})()
    worker.loop = SimpleNamespace(asyncio_loop=asyncio.get_running_loop())
    worker.scheduler = SimpleNamespace(**{OP: call})
    return Supervisor(worker, "test")


def test_shipping_that_fails_is_told_once_and_the_end_is_said(tmp_path):
    calls = []

    async def call(**arguments):
        calls.append(arguments["call"])
        return {}

    async def ends():
        supervisor = supervisor_of(call)
        supervisor.shipper = shipper = Shipper(supervisor.acall, tmp_path)
        shipper.ship = no_memory  # type: ignore[method-assign]
        for _ in range(2):
            await supervisor._ship_once()
        supervisor.stopping = "orderly"
        await supervisor._end()
        return [news["text"] for news in shipper._news]

    async def no_memory(*, last=False):
        raise MemoryError("nothing left")

    [told] = asyncio.run(ends())
    assert "worker tcp://here" in told
    assert "MemoryError: nothing left" in told
    assert calls == ["stopped"]


class LaneOfAnother:
    """A lane that notes what it is asked for."""

    index, under_way, process = 0, None, None

    def __init__(self, supervisor: Supervisor, calls: list[str]) -> None:
        self._supervisor, self._calls = supervisor, calls

    def drop(self) -> None:
        self._calls.append("drop")

    def work(self, permit: int) -> None:
        self._calls.append("work")

    def end_if_forgotten(self) -> None:
        self._calls.append(f"end if older than {self._supervisor.given_up}")


def test_a_worker_that_was_given_up_ends_what_the_scheduler_does_not_know_before_it_says_hello(monkeypatch):
    """A process that stayed idle there would keep its GPU from those that got its place."""
    monkeypatch.setattr(supervisor, "HEARTBEAT_SECONDS", 0.0)
    calls: list[str] = []

    async def call(call, **arguments):
        calls.append(call)
        if call == "hello":
            raise RuntimeError("it goes on from here as at its start")
        return {"known": len(calls) < 3}

    async def beats():
        ours = supervisor_of(call)
        ours._worker.state = SimpleNamespace(nthreads=2)  # type: ignore[misc]
        ours.settings = SimpleNamespace(limits=SimpleNamespace(shutdown_seconds=5))  # type: ignore[assignment]
        idle, busy = LaneOfAnother(ours, calls), LaneOfAnother(ours, calls)
        ours._lanes, ours._free = [idle, busy], [idle]  # type: ignore[list-item]
        with pytest.raises(RuntimeError):
            await ours._beat()
        assert ours._free == [idle]
        ours._prepared.set()
        ours.run_permit(1)

    asyncio.run(beats())
    assert calls == ["alive"] * 3 + ["drop", "drop", "end if older than 1", "hello", "work", "end if older than 1"]


class SlowScheduler:
    """Takes the logs of a dead supervisor only when it is let."""

    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.came: list[str] = []
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: str, sender: str = "", pieces: Any = (), **arguments: Any) -> dict[str, Any]:
        if sender == self.slow:
            self.waits.set()
            await self.goes_on.wait()
        self.came += [piece["data"].decode() for piece in pieces] if call == "logs" else [call]
        return {}


def print_in(folder: Any, text: str) -> list[Any]:
    files = spool_files(folder, "process001", 0, 1)
    files[0].path.parent.mkdir(parents=True, exist_ok=True)
    with files[0].path.open("a") as stream:
        stream.write(text)
    return files


@pytest.mark.parametrize("how", ["the step run ends", "the worker is taken away alone"])
def test_what_is_being_adopted_is_sent_before_a_supervisor_ends(tmp_path, monkeypatch, no_leaks, how):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(supervisor, "SHIP_SECONDS", 0.01)
    dead, ours = NodeFolder("run", "node"), NodeFolder("run", "node")
    print_in(dead.own, "last words of the dead")
    dead._own_lock.close()
    dead._lock.close()

    async def main() -> list[str]:
        scheduler = SlowScheduler(slow=dead.own.name)
        adopter = supervisor_of(scheduler)
        adopter._node_folder, adopter.node = ours, 0
        adopter.settings = SimpleNamespace(logging_format="text")  # type: ignore[assignment]
        adopter.shipper = Shipper(adopter.acall, ours.own)
        adopter.shipper.watch(print_in(ours.own, "own"))
        adopter._prepared.set()
        adopter._beats = [asyncio.create_task(beat()) for beat in (adopter._ship, adopter._adopt)]
        await scheduler.waits.wait()
        print_in(ours.own, ", sent meanwhile")
        while "".join(scheduler.came) != "own, sent meanwhile":
            await asyncio.sleep(0.01)
        adopter.stopping = "orderly" if how == "the step run ends" else ""
        ending = asyncio.create_task(adopter._end() if adopter.stopping else adopter.close())
        await asyncio.sleep(0.1)
        assert not ending.done()
        scheduler.goes_on.set()
        await ending
        return scheduler.came

    came = asyncio.run(main())
    assert "last words of the dead" in came
    if how == "the step run ends":
        assert came[-1] == "stopped"
        ours.close()
    assert not list(tmp_path.iterdir())

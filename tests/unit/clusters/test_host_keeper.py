"""How a host's worker is kept; of hosts and workers there are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from prs_dask.clusters import host_keeper
from prs_dask.clusters.host_keeper import keep
from prs_dask.clusters.ssh_host import HostProblem


class FakeProgram:
    """A worker that ends at once, or never."""

    def __init__(self, said: str | None = None) -> None:
        self.said, self.ended = said, False

    async def wait(self) -> str:
        if self.said is None:
            await asyncio.Event().wait()
        return str(self.said)

    async def end(self) -> None:
        self.ended = True


class FakeHost:
    """A host that does one thing after the other when it is to start a worker."""

    name, is_connected = "node1", True

    def __init__(self, starts: Sequence[Any]) -> None:
        self.starts = list(starts)

    async def start(self, spec: dict[str, Any]) -> FakeProgram:
        now = self.starts.pop(0)
        if isinstance(now, Exception):
            raise now
        return now


def kept(monkeypatch: pytest.MonkeyPatch, program: FakeProgram, starts: Sequence[Any]) -> list[str]:
    """What is told until all of it has been done."""
    monkeypatch.setattr(host_keeper, "FIRST_PAUSE", 0.001)
    told: list[str] = []

    async def main() -> None:
        host = FakeHost(starts)
        keeper = asyncio.ensure_future(keep(host, program, {}, told.append))  # type: ignore[arg-type]
        while host.starts and not keeper.done():
            await asyncio.sleep(0.001)
        keeper.cancel()
        await asyncio.wait([keeper])
        assert keeper.cancelled()

    asyncio.run(main())
    return told


def test_each_thing_that_becomes_of_a_host_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    away, again = HostProblem("no SSH server has answered in 10 s"), FakeProgram("died at 10:17")
    last = FakeProgram()
    told = kept(monkeypatch, FakeProgram("died at 9:03"), [away, away, again, away, HostProblem("a key"), last])
    assert told == [
        "host node1 has lost its worker and is started again; it said: died at 9:03",
        "host node1 is not back yet: no SSH server has answered in 10 s",
        "host node1 is back",
        "host node1 is not back yet: a key",
    ]
    assert last.ended


def test_an_error_of_ours_is_told_and_the_host_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = kept(monkeypatch, FakeProgram("x"), [KeyError("role"), FakeProgram()])
    assert told[1:] == ["host node1 is not back yet: KeyError: 'role'", "host node1 is back"]

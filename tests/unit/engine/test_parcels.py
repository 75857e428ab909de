"""What travels from the driver to workers: bounded, once for all who ask at a time, and errors told."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from prs_dask.engine import parcels
from prs_dask.engine.parcels import PIECE_BYTES, Desk, Exchange, SentBytes, SentTree, sight
from prs_dask.engine.scheduler_calls import SchedulerGone

KEY = (1, False, 0)


class TestExchange:
    def test_two_nodes_that_ask_for_the_same_get_the_same(self) -> None:
        async def test() -> None:
            exchange = Exchange()
            asking = [asyncio.create_task(exchange.piece(f"w{number}", KEY)) for number in range(2)]
            assert await exchange.serve([], 1.0) == [KEY]
            assert await exchange.serve([(KEY, b"data", "")], 0.0) == []
            one, other = await asyncio.gather(*asking)
            assert one is other
            assert one == b"data"

        asyncio.run(test())

    def test_no_more_than_the_bound_is_on_its_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parcels, "MOST_BYTES", 3 * PIECE_BYTES)
        piece = bytes(PIECE_BYTES)

        async def test() -> None:
            exchange = Exchange()
            asking = [asyncio.create_task(exchange.piece(f"w{number}", (1, False, number))) for number in range(6)]
            await asyncio.sleep(0)
            wanted = await exchange.serve([], 0.0)
            assert wanted == [(1, False, 0), (1, False, 1), (1, False, 2)]
            assert await exchange.serve([(key, piece, "") for key in wanted], 0.05) == []
            done = [task for task in asking if task.done()]
            assert len(done) == 3
            exchange.left("w1")  # it is gone, or has all
            assert await exchange.serve([], 0.0) == [(1, False, 3)]
            more = asyncio.create_task(exchange.piece("w0", (1, False, 9)))  # so it has got the last one
            await asyncio.sleep(0)
            assert await exchange.serve([], 0.5) == [(1, False, 3), (1, False, 4)]
            exchange.close()
            assert await asyncio.gather(*asking[3:], more) == [None] * 4
            assert await exchange.piece("late", KEY) is None
            assert await exchange.serve([], 1.0) is None

        asyncio.run(test())

    def test_an_answer_that_comes_twice_or_that_nobody_waits_for_changes_nothing(self) -> None:
        async def test() -> None:
            exchange = Exchange()
            asking = asyncio.create_task(exchange.piece("w", KEY))
            await exchange.serve([], 1.0)
            for _ in range(2):
                await exchange.serve([(KEY, b"data", ""), ((7, True, 0), b"x", "")], 0.0)
            assert await asking == b"data"

        asyncio.run(test())


class Plugin:
    """Asks a desk for pieces, one after the other; it cannot be reached before the first."""

    def __init__(self, *wanted: tuple[int, bool, int]) -> None:
        self.wanted = list(wanted)
        self.answers: list[Any] = []
        self.reached = False
        self.done = threading.Event()

    def __call__(self, call: str, answers: list[Any], wait: float) -> dict[str, Any]:
        assert call == "parcels"
        self.answers += answers
        if not self.reached:
            self.reached = True
            raise SchedulerGone("for a moment")
        if not self.wanted:
            self.done.set()
            return {"wanted": None}
        return {"wanted": [self.wanted.pop(0)]}

    def hurry(self, seconds: float) -> None: ...


def answered(sent: list[Any], *wanted: tuple[int, bool, int]) -> list[Any]:
    plugin = Plugin(*wanted)
    desk = Desk(plugin, sent)
    assert plugin.done.wait(10)
    desk.close()
    assert not desk._thread.is_alive()
    return plugin.answers


def test_pieces_are_read_as_they_are_asked_for(tmp_path: Path, no_leaks: None) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    sent = [SentBytes(b"abcdef"), SentTree(str(tmp_path / "file"))]
    wanted = [(0, False, 2), (1, False, 4), (1, False, 10)]
    assert answered(sent, *wanted) == [
        ((0, False, 2), b"cdef", ""),
        ((1, False, 4), b"456789", ""),
        ((1, False, 10), b"", ""),
    ]
    ((_, listing, _),) = answered(sent, (1, True, 0))
    assert listing == sent[1].listing()


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_what_cannot_be_sent_is_told_with_its_name(tmp_path: Path, how: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    sent = SentTree(str(file))
    sent.listing()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(b"other")
    ((key, data, error),) = answered([SentBytes(b""), sent], (1, False, 0))
    assert (key, data) == ((1, False, 0), b"")
    assert str(file) in error
    assert "cannot be sent" in error


def test_the_sight_of_a_copy_is_another(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text("the same")
    assert sight(tmp_path / "one") == sight(tmp_path / "one")
    assert sight(tmp_path / "one") != sight(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        sight(tmp_path / "neither")

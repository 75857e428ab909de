from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prs_dask.cancellation import Canceled, Cancellation


@contextmanager
def asked_soon(cancellation: Cancellation) -> Iterator[None]:
    """From another thread, while something is waited for."""
    timer = threading.Timer(0.05, cancellation.ask)
    timer.start()
    yield
    timer.join()


def test_a_wait_for_a_future_ends_when_it_is_asked_for(no_leaks: None) -> None:
    cancellation, future = Cancellation(), concurrent.futures.Future[int]()
    with asked_soon(cancellation), pytest.raises(Canceled), cancellation.by(future.cancel):
        future.result(10)
    assert cancellation.asked


def test_no_wait_begins_after_it_was_asked_for() -> None:
    cancellation, begun = Cancellation(), []
    cancellation.ask()
    with pytest.raises(Canceled), cancellation.by(lambda: None):
        begun.append("wait")
    assert begun == []


def test_a_wait_that_is_over_is_not_ended_again() -> None:
    cancellation, ended = Cancellation(), []
    with cancellation.by(lambda: ended.append("wait")):
        pass
    cancellation.ask()
    assert ended == []


def test_what_somebody_else_cancels_stays_what_it_is() -> None:
    cancellation, future = Cancellation(), concurrent.futures.Future[int]()
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError), cancellation.by(lambda: None):
        future.result()


def test_an_error_stays_what_it_is_also_when_it_was_asked_for() -> None:
    cancellation = Cancellation()

    async def lose() -> None:
        cancellation.ask()
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        asyncio.run(cancellation.awaited(lose))


def test_all_that_wait_are_ended() -> None:
    cancellation, futures = Cancellation(), [concurrent.futures.Future[int]() for _ in range(3)]
    with cancellation.by(futures[0].cancel), cancellation.by(futures[1].cancel):
        cancellation.ask()
    assert [future.cancelled() for future in futures] == [True, True, False]


def test_a_coroutine_is_canceled_and_clears_away(no_leaks: None) -> None:
    cancellation, told = Cancellation(), []

    async def wait(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            told.append("cleared away")

    with asked_soon(cancellation), pytest.raises(Canceled):
        asyncio.run(cancellation.awaited(wait, 10))
    assert told == ["cleared away"]


def test_a_coroutine_that_is_not_canceled_gives_its_result() -> None:
    async def added(one: int, other: int) -> int:
        return one + other

    assert asyncio.run(Cancellation().awaited(added, 1, other=2)) == 3

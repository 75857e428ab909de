"""A timer that goes on whatever its function does, until it is stopped."""

from __future__ import annotations

import threading
import time

import pytest

from prs_dask.logs.ticking import Ticking


@pytest.mark.usefixtures("no_leaks")
def test_it_ticks_until_it_is_stopped() -> None:
    three = threading.Event()
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.monotonic())
        if len(ticks) == 3:
            three.set()

    ticking = Ticking(tick, on_fault=ticks.append, every=0.01)
    assert three.wait(10)
    ticking.stop()
    count = len(ticks)
    ticking.stop()
    time.sleep(0.05)
    assert len(ticks) == count


@pytest.mark.usefixtures("no_leaks")
def test_what_it_raises_is_told_once_and_it_goes_on() -> None:
    enough = threading.Event()
    ticks, faults = [], []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) > 3:
            enough.set()
        raise ValueError("no")

    ticking = Ticking(tick, on_fault=faults.append, every=0.01)
    assert enough.wait(10)
    ticking.stop()
    assert [str(fault) for fault in faults] == ["no"]

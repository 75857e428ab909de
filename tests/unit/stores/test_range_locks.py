"""Locks by name: shared or alone, gone with their owner."""

import multiprocessing
import os
import signal

from prs_dask.stores.range_locks import RangeLocks


def test_one_alone_or_several_together(tmp_path, no_leaks):
    with RangeLocks(str(tmp_path / "locks")) as a, RangeLocks(str(tmp_path / "locks")) as b:
        assert a.take("x")
        assert not b.take("x")
        assert b.take("y")
        a.let_go()
        a.share("x")
        b.share("x")
        assert not b.take("x")
        a.let_go()
        assert b.take("x")


def _hold(path, ready):
    with RangeLocks(path) as locks:
        locks.take("x")
        ready.set()
        signal.pause()


def test_a_killed_process_holds_nothing(tmp_path, no_leaks):
    path = str(tmp_path / "locks")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(path, ready))
    process.start()
    assert ready.wait(10)
    with RangeLocks(path) as locks:
        assert not locks.take("x")
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        assert locks.take("x")
    process.close()


def test_ten_thousand_names_take_one_descriptor(tmp_path, no_leaks):
    with RangeLocks(str(tmp_path / "locks")) as locks, RangeLocks(str(tmp_path / "locks")) as other:
        for number in range(10_000):
            locks.share(str(number))
        names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        assert names.count(str(tmp_path / "locks")) == 2
        assert not other.take("1234")
        locks.let_go()
        assert other.take("1234")

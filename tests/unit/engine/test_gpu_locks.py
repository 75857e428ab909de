"""A slot is held as long as any copy of its descriptor is open, whoever has it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prs_dask.attempts.gpus import Slot
from prs_dask.engine.gpu_locks import GpuLocks


@pytest.mark.parametrize("gpu", ["0", "GPU-8a5c-17", "MIG-GPU-8a5c/1/0", "../\n%"])
def test_a_slot_that_is_held_is_busy_for_all_supervisors_of_the_node(tmp_path: Path, gpu: str, no_leaks: None) -> None:
    ours, theirs = GpuLocks(tmp_path), GpuLocks(tmp_path)
    assert ours.busy() == []
    slot = Slot(gpu, 1)
    descriptor = ours.take(slot)
    assert descriptor is not None
    assert ours.busy() == theirs.busy() == [slot]
    assert theirs.take(slot) is None
    os.close(descriptor)
    assert theirs.busy() == []
    descriptor = theirs.take(slot)
    assert descriptor is not None
    os.close(descriptor)
    assert [path.parent for path in tmp_path.rglob("*.lock")] == [tmp_path]


def test_what_a_process_has_forked_holds_it_too(tmp_path: Path, no_leaks: None) -> None:
    locks, slot = GpuLocks(tmp_path), Slot("0", 0)
    descriptor = locks.take(slot)
    assert descriptor is not None
    script = "import os, sys; os.fork() or sys.stdin.read(); os._exit(0)"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, pass_fds=[descriptor]) as process:
        os.close(descriptor)
        assert locks.busy() == [slot]
        process.wait()
        assert locks.busy() == [slot], "what it has forked lives on"
        assert process.stdin is not None
        process.stdin.close()
        until = time.monotonic() + 10
        while locks.busy():
            assert time.monotonic() < until
            time.sleep(0.01)


def test_who_only_looks_keeps_nobody_from_taking_it(tmp_path: Path, no_leaks: None) -> None:
    locks, over = GpuLocks(tmp_path), threading.Event()

    def look() -> None:
        while not over.is_set():
            GpuLocks(tmp_path).busy()

    onlookers = [threading.Thread(target=look) for _ in range(3)]
    for thread in onlookers:
        thread.start()
    try:
        for _ in range(100):
            descriptor = locks.take(Slot("0", 0))
            assert descriptor is not None
            os.close(descriptor)
    finally:
        over.set()
        for thread in onlookers:
            thread.join()

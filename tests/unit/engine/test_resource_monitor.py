"""One monitor a node, whichever supervisor has started it; nothing of it outlives the last of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import prs_dask
from prs_dask.engine.resource_monitor import MOST_STARTS, SAMPLES, ResourceMonitor
from prs_dask.worker_process.launch import NAME_VARIABLE

ENVIRONMENT = {"PATH": "/usr/bin:/bin", NAME_VARIABLE: "monitor"}


@pytest.fixture
def node(tmp_path, no_leaks) -> Path:
    return tmp_path


@pytest.fixture
def monitor(node) -> Iterator[Callable[..., ResourceMonitor]]:
    made = []

    def make(interval: float = 3600.0) -> ResourceMonitor:
        own = node / f"worker-{os.getpid()}-{len(made)}"
        own.mkdir()
        made.append(ResourceMonitor(node, own, interval, ENVIRONMENT))
        return made[-1]

    yield make
    for one in made:
        one.close()


def samples(node):
    """Those that are whole: the last may just be written."""
    files = [path.read_bytes() for path in sorted(node.glob(f"worker-*/{SAMPLES}"))]
    lines = [line for data in files for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return sorted(map(json.loads, lines), key=lambda sample: sample["time"])


def monitors(of=None):
    found = []
    for process in psutil.Process(of).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("worker_process.resource_usage" in word for word in process.cmdline()):
                found.append(process)
    return found


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value


def test_it_samples_at_the_start_and_at_the_end(monitor, node):
    measuring = monitor()
    measuring.tend()
    wait_for(lambda: len(samples(node)) == 1)
    measuring.finish()
    wait_for(lambda: len(samples(node)) == 2)
    measuring.close()
    first, last = samples(node)
    assert first["ps"]
    assert last["ps"]
    assert {row[0] for row in last["processes"]} == {"worker", "monitor"}
    assert not monitors()


def test_and_at_its_interval_between(monitor, node):
    measuring = monitor(interval=0.2)
    measuring.tend()
    wait_for(lambda: len(samples(node)) >= 4)
    times = [sample["time"] for sample in samples(node)]
    assert all(later - earlier > 0.1 for earlier, later in pairwise(times[1:]))  # the first takes longer
    assert sum(bool(sample["ps"]) for sample in samples(node)) <= 2  # a minute may have begun


def test_closing_at_once_still_samples_once(monitor, node):
    measuring = monitor()
    measuring.tend()
    measuring.close()
    assert len(samples(node)) == 1
    measuring.tend()  # too late
    assert not monitors()


def test_the_end_does_not_wait_for_one_that_is_being_started(monitor, node, monkeypatch):
    measuring = monitor()
    start = measuring._start

    def start_slowly():
        ending = threading.Thread(target=measuring.finish, daemon=True)
        ending.start()
        ending.join(10)
        assert not ending.is_alive()
        start()

    monkeypatch.setattr(measuring, "_start", start_slowly)
    measuring.tend()
    wait_for(lambda: len(samples(node)) == 1)
    wait_for(lambda: not measuring._lives())


def test_supervisors_of_a_node_share_one_and_another_takes_over(monitor, node):
    first, second = monitor(), monitor()
    for one in (first, second, first):
        one.tend()
    wait_for(lambda: len(samples(node)) == 1)
    assert len(monitors()) == 1
    first.close()
    assert not monitors()
    second.tend()
    wait_for(lambda: len(samples(node)) == 3)
    assert len(monitors()) == 1


def test_one_that_was_killed_is_replaced_but_not_for_ever(monitor, node):
    measuring = monitor()
    for _ in range(MOST_STARTS):
        [process] = wait_for(lambda: measuring.tend() or monitors())
        process.kill()
        wait_for(lambda: not monitors())
    wait_for(lambda: not measuring._lives())
    measuring.tend()
    assert not monitors()


def test_one_that_hangs_holds_up_the_end_for_a_moment_only(monitor, node, monkeypatch):
    monkeypatch.setattr("prs_dask.engine.resource_monitor.LAST_SECONDS", 0.2)
    measuring = monitor()
    measuring.tend()
    [process] = wait_for(monitors)
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    measuring.close()
    assert time.monotonic() - begun < 5
    assert not monitors()


def test_what_it_cannot_do_is_among_its_samples(monitor, node, monkeypatch):
    (node / "broken").mkdir()
    (node / "broken/psutil.py").write_text("raise ImportError('a broken installation')")
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(node / "broken"))
    measuring = monitor()
    measuring.tend()
    [told] = wait_for(lambda: [json.loads(line) for line in _all_lines(node)])
    assert "a broken installation" in told["trouble"]


def _all_lines(node):
    return [line for path in node.glob(f"worker-*/{SAMPLES}") for line in path.read_bytes().splitlines()]


SUPERVISOR = """
import sys, time
from pathlib import Path
from prs_dask.engine.resource_monitor import ResourceMonitor
node = Path(sys.argv[1])
own = node / "worker-1-other"
own.mkdir()
monitor = ResourceMonitor(node, own, 3600.0, {"PATH": "/usr/bin:/bin"})
monitor.tend()
time.sleep(3600)
"""


def test_it_dies_with_its_supervisor_and_another_takes_over(monitor, node):
    ours = monitor()
    environment = {**os.environ, "PYTHONPATH": str(Path(prs_dask.__file__).parents[1])}
    theirs = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(node)], env=environment)
    try:
        wait_for(lambda: len(samples(node)) == 1)
        ours.tend()
        [process] = monitors(theirs.pid)
        assert len(monitors()) == 1
    finally:
        theirs.kill()
        theirs.wait()
    wait_for(lambda: not process.is_running())

    def taken_over():
        ours.tend()
        return [found for found in monitors() if found != process]

    assert wait_for(taken_over)

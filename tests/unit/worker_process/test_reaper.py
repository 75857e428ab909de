"""The reaper's protocol, and that it is up soon and stays small."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prs_dask.worker_process import reaper


@pytest.fixture
def control(no_leaks):
    """Our end of a reaper's socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(reaper.__file__)), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    ours.settimeout(10)
    yield ours, process
    ours.close()
    assert process.wait(10) == 0


def start(ours: socket.socket, code: str) -> int:
    null = os.open(os.devnull, os.O_WRONLY)
    argv = [os.fsencode(sys.executable), b"-c", code.encode()]
    data = reaper.marshal.dumps(("start", argv, {}, b"/tmp", [], 0))
    socket.send_fds(ours, [len(data).to_bytes(4, "little")], [null, null])
    ours.sendall(data)
    os.close(null)
    (kind, pid), _ = reaper.receive(ours)
    assert kind == "started"
    return pid


def test_messages_arrive_as_they_were_sent():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = ("start", [b"a", b"\xff"], {b"k": b"v"}, b"", [100, 101], 1)
        reaper.send(ours, message)
        assert reaper.receive(theirs) == (message, [])
        ours.close()
        with pytest.raises(EOFError):
            reaper.receive(theirs)


def test_half_a_message_and_then_the_end_is_the_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\x10\x00\x00\x00abc")
        ours.close()
        with pytest.raises(EOFError):
            reaper.receive(theirs)


def test_it_tells_of_the_end_of_a_process_by_itself(control):
    ours, _ = control
    pid = start(ours, "raise SystemExit(6)")
    (kind, status, survivors, _, over, unattended), _ = reaper.receive(ours)
    assert (kind, os.waitstatus_to_exitcode(status), survivors, over, unattended) == ("ended", 6, 0, False, False)
    assert not psutil.pid_exists(pid)


def test_a_kill_is_answered_once_and_one_without_a_process_not_at_all(control):
    ours, _ = control
    start(ours, "import time; time.sleep(60)")
    reaper.send(ours, ("kill",))
    reaper.send(ours, ("kill",))
    assert reaper.receive(ours)[0][0] == "ended"
    start(ours, "raise SystemExit(6)")
    (kind, status, *_), _ = reaper.receive(ours)
    assert (kind, os.waitstatus_to_exitcode(status)) == ("ended", 6)


def test_it_outlives_the_signals_of_a_terminal(control):
    ours, process = control
    pid = start(ours, "import time; time.sleep(60)")
    for number in (2, 15, 1):  # SIGINT, SIGTERM, SIGHUP
        process.send_signal(number)
    time.sleep(0.1)
    assert process.poll() is None
    assert psutil.Process(pid).is_running()


ORPHANS = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        os.fork()
        os._exit(0)
    os.wait()
time.sleep(60)
"""


def test_orphans_that_end_by_themselves_leave_no_zombies(control):
    ours, process = control
    start(ours, ORPHANS)
    end = time.monotonic() + 5
    while len(psutil.Process(process.pid).children()) != 1 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(psutil.Process(process.pid).children()) == 1


def test_it_imports_little(control):
    ours, process = control
    start(ours, "import time; time.sleep(60)")
    assert psutil.Process(process.pid).memory_info().rss < 24 << 20


class TestMemory:
    """Pure parts of the watch; `test_family_memory` has real balloons."""

    def test_the_nearer_the_limit_the_sooner_the_next_look(self):
        limit = 4 << 30
        pauses = [reaper.pause(used, limit) for used in range(0, limit + 1, limit // 64)]
        assert pauses == sorted(pauses, reverse=True)
        assert pauses[0] == reaper.LOOK_SECONDS
        assert pauses[-1] == reaper.SOONEST_SECONDS == reaper.pause(2 * limit, limit)

    def test_what_grows_as_fast_as_memory_can_is_seen_before_it_has_twice_its_limit(self):
        limit = 1 << 30
        used, seconds = 0, 0.0
        while used <= limit:
            seconds = reaper.pause(used, limit)
            used += int(seconds * reaper.BYTES_A_SECOND)
        assert used < 2 * limit + reaper.SOONEST_SECONDS * reaper.BYTES_A_SECOND

    def test_processes_that_are_gone_use_nothing(self):
        assert reaper.used_memory({2**22 + 1}, 10) == (0, False)

    def test_without_proc_nothing_is_known_and_nobody_is_killed(self, monkeypatch):
        monkeypatch.setattr(reaper.os.path, "exists", lambda _: False)
        watch = reaper.MemoryWatch()
        assert not watch.look(1)
        assert watch.used == 0


def test_only_looks_at_a_stopped_supervisor_count(monkeypatch):
    states = [b"T"] * 5 + [b"S"] + [b"T"] * 8
    monkeypatch.setattr(reaper, "_state", lambda pid: states.pop(0))
    watch = reaper.SupervisorWatch(1, seconds=45.0)
    assert not any(watch.look(now) for now in (100.0, 101.0, 104.9))  # one look, 5 s apart at least
    assert len(states) == 13
    assert not any(watch.look(now) for now in range(200, 2000, 150))  # nobody looked in between: that counts for 5 s
    assert not watch.look(3000)
    states.append(b"T")
    assert watch.look(3100)
    assert not watch.look(3101)

"""A family that grows above its limit is killed, all of it, however it grows; what it shares counts once."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prs_dask.worker_process import family as family_module
from prs_dask.worker_process.family import Ended, ProcessFamily

MIB = 1 << 20
LIMIT = 200 * MIB

Run = Callable[..., Ended | None]


@pytest.fixture
def family(no_leaks: None) -> Iterator[ProcessFamily]:
    made = ProcessFamily()
    yield made
    made.close()


@pytest.fixture
def run(family: ProcessFamily, tmp_path: Path) -> Run:
    """Run a script under the limit; how it ended, None where it lives on."""

    def start(script: str, limit: int = LIMIT, seconds: float = 20.0) -> Ended | None:
        family.limit_memory(limit)
        with open(tmp_path / "out", "ab") as out:
            argv = [sys.executable, "-c", textwrap.dedent(script)]
            family.start(argv, {"PATH": os.environ["PATH"]}, str(tmp_path), out.fileno(), out.fileno(), [])
        return family.wait(seconds)

    return start


BALLOONS = {
    "fast": """
        kept = []
        while True:
            kept.append(b"x" * (16 << 20))
        """,
    "slow": """
        import time
        kept = []
        while True:
            kept.append(b"x" * (4 << 20))
            time.sleep(0.02)
        """,
    "in a child": """
        import subprocess, sys
        grow = "kept = []\\nwhile True: kept.append(b'x' * (8 << 20))"
        subprocess.run([sys.executable, "-S", "-c", grow])
        """,
    "in a daemon of a thread's child": """
        import os, threading, time
        def daemon():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    kept = []
                    while True:
                        kept.append(b"x" * (4 << 20))
                        time.sleep(0.01)
                os._exit(0)
        threading.Thread(target=daemon).start()
        time.sleep(60)
        """,
    "in many children, each of them small": """
        import subprocess, sys, time
        grow = "import time; kept = b'x' * (60 << 20); time.sleep(60)"
        for _ in range(6):
            subprocess.Popen([sys.executable, "-S", "-c", grow], start_new_session=True)
        time.sleep(60)
        """,
    "in memory that is shared": """
        import mmap, time
        shared = mmap.mmap(-1, 400 << 20)
        for start in range(0, 400 << 20, 4 << 20):
            shared[start : start + (4 << 20)] = b"x" * (4 << 20)
            time.sleep(0.01)
        time.sleep(60)
        """,
}


@pytest.mark.parametrize("script", BALLOONS.values(), ids=BALLOONS.keys())
def test_a_balloon_is_killed(script: str, run: Run):
    ended = run(script)
    assert ended is not None
    assert (os.WTERMSIG(ended.status), ended.survivors, ended.over) == (signal.SIGKILL, 0, True)
    assert ended.out_of_memory
    assert not ended.from_outside
    assert LIMIT < ended.memory < 2 * LIMIT + 200 * MIB


def test_a_gigabyte_a_second_is_killed_within_a_fraction_of_a_second(run: Run):
    begun = time.monotonic()
    ended = run(
        """
        import time
        kept, begun = [], time.monotonic()
        while True:
            kept.append(b"x" * (10 << 20))
            time.sleep(max(0.0, len(kept) / 100 - (time.monotonic() - begun)))
        """,
        limit=1000 * MIB,
    )
    assert ended is not None
    assert ended.over
    assert ended.memory < 1500 * MIB
    assert time.monotonic() - begun < 10


def test_what_forks_share_counts_once(run: Run):
    """Five processes of 120 MiB that are the same 120 MiB."""
    ended = run(
        """
        import mmap, os, sys, time
        kept = b"x" * (60 << 20)
        shared = mmap.mmap(-1, 60 << 20)
        shared[:] = b"x" * len(shared)
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                sum(shared[at] for at in range(0, len(shared), 4096))
                time.sleep(1.5)
                os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        os._exit(7)
        """
    )
    assert ended is not None
    assert (os.waitstatus_to_exitcode(ended.status), ended.over) == (7, False)


def test_a_limit_can_be_changed_while_a_process_runs_and_holds_for_the_next(run: Run, family: ProcessFamily):
    assert run("import time; kept = b'x' * (100 << 20); time.sleep(60)", seconds=1.0) is None
    family.limit_memory(50 * MIB)
    ended = family.wait(10)
    assert ended is not None
    assert ended.over
    ended = run("kept = b'x' * (100 << 20); import time; time.sleep(60)", limit=50 * MIB)
    assert ended is not None
    assert ended.over


def test_without_a_limit_nothing_is_looked_at(run: Run):
    ended = run("kept = b'x' * (300 << 20); import os; os._exit(3)", limit=0)
    assert ended is not None
    assert (os.waitstatus_to_exitcode(ended.status), ended.memory, ended.over) == (3, 0, False)


def test_what_the_kernel_killed_is_told_from_what_somebody_killed(run: Run, monkeypatch: pytest.MonkeyPatch):
    counts = iter([4, 5, 5, 5])
    monkeypatch.setattr(family_module, "kernel_kills", lambda: next(counts))
    script = "import os; os.kill(os.getpid(), 9)"
    first, second = run(script), run(script)
    assert first is not None
    assert second is not None
    assert (first.by_kernel, first.out_of_memory, first.from_outside) == (True, True, False)
    assert (second.by_kernel, second.out_of_memory, second.from_outside) == (False, False, True)


@pytest.mark.parametrize(
    ("status", "outside"),
    [
        (signal.SIGKILL, True),
        (signal.SIGTERM, True),
        (signal.SIGHUP, True),
        (signal.SIGSEGV, False),
        (signal.SIGABRT, False),
        (1 << 8, False),
        (0, False),
        (-1, True),
    ],
)
def test_signals_that_nothing_sends_by_itself_come_from_outside(status: int, outside: bool):
    assert Ended(status, 0).from_outside is outside
    assert not Ended(status, 0, 5, True).from_outside

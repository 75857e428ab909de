"""What every test may ask for.

``no_leaks``: the test fails when it leaves a process, a thread, a file descriptor or a
temporary folder behind. Ask for it in every test that starts something. Every test has a time
limit (``timeout`` in pyproject.toml; ``@pytest.mark.timeout(seconds)`` for another one).
"""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from hypothesis import settings

pytest_plugins = ["store_servers", "database_server", "browser"]  # of tests/servers

# Pools that Dask makes once in a process and keeps until its end, whatever is closed.
PERMANENT_THREADS = ("Dask-Offload", "Dask-Default-Threads", "TCP-Executor", "Profile", "asyncio_", "fsspecIO")
PATIENCE = 15.0  # seconds that what is ending may take

# How long an example takes hangs on what runs beside it. In CI hypothesis would try the same ones every time.
settings.register_profile("prs_dask", deadline=None, derandomize=False)
settings.load_profile("prs_dask")

os.environ["PRS_DASK_REPORT"] = "0"  # a second of each of hundreds of jobs; tests of reports turn it on


def pytest_configure() -> None:
    """Ctrl-C and a hang-up mean what they mean in a terminal, also in the background of a shell, which ignores them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup: what tests start would ignore it too
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _processes() -> dict[object, str]:
    found: dict[object, str] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process] = f"process {process.pid}: {' '.join(process.cmdline())[:200]} ({process.status()})"
        except psutil.NoSuchProcess:
            continue
    return found


def _threads() -> dict[object, str]:
    return {
        thread: f"thread {thread.name}"
        for thread in threading.enumerate()
        if not thread.name.startswith(PERMANENT_THREADS)
    }


def _descriptors() -> dict[object, str]:
    found: dict[object, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
        found[name, target] = f"descriptor {name}: {target}"
    return found


def _standing(folder: str) -> dict[object, str]:
    folders = {path: f"temporary folder {path}" for path in Path(folder).glob("prs*")}
    return {**_processes(), **_threads(), **_descriptors(), **folders}


@pytest.fixture(scope="session")
def permanent_things(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Opened once in a process, on first use, until its end: by others, and no leaks."""
    tmp_path_factory.getbasetemp()  # outside of the folder that the test gets for its temporary files
    import pyarrow.csv

    resource_tracker.ensure_running()
    pyarrow.csv.read_csv(io.BytesIO(b"a\n1\n"))  # its signal handler has a pipe


@pytest.fixture
def no_leaks(
    permanent_things: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Nothing that the test started outlives it by more than fifteen seconds.

    The test has a temporary folder (``TMPDIR``) of its own, in which nothing named ``prs*`` may stay.
    """
    with tempfile.TemporaryDirectory(prefix="leaks-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        before = _standing(folder)
        yield
        for record in caplog.get_records("call"):  # an exception, be it only the message as in Dask's log_errors, ...
            record.msg, record.args, record.exc_info = record.getMessage(), (), None  # ... holds its frames' sockets
        end = time.monotonic() + PATIENCE
        while leaked := [text for key, text in _standing(folder).items() if key not in before]:
            if time.monotonic() > end:
                pytest.fail("left behind:\n" + "\n".join(leaked), pytrace=False)
            gc.collect()
            time.sleep(0.05)


@pytest.fixture
def leave_out() -> Callable[[str], NoReturn]:
    """``leave_out(why)``: this test cannot run here. It is skipped; in CI, where all must run, it fails."""
    return pytest.fail if os.environ.get("CI") else pytest.skip


@pytest.fixture
def small_disk(tmp_path: Path, leave_out: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A file system of 512 KiB; the tests' processes are root's, or there is none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        leave_out("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)

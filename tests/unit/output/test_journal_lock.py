"""One driver at a time works on a run folder, and a dead one keeps nobody out."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prs_dask.errors import OutputError
from prs_dask.output import journal_lock
from prs_dask.output.journal_lock import JournalLock, holder


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lock, "PATIENCE_SECONDS", 0.0)


def test_a_second_driver_is_refused_with_host_and_process_of_the_first(tmp_path: Path) -> None:
    lock = JournalLock.take(tmp_path)
    lock.sign()
    with pytest.raises(OutputError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        JournalLock.take(tmp_path)
    assert holder(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
    lock.release()
    assert holder(tmp_path) == ""
    JournalLock.take(tmp_path).release()


def test_taking_it_changes_nothing_until_it_is_signed(tmp_path: Path) -> None:
    (tmp_path / "journal.lock").write_text("process 1 on moon\n")
    lock = JournalLock.take(tmp_path)
    assert (tmp_path / "journal.lock").read_text() == "process 1 on moon\n"
    lock.sign()
    assert "moon" not in (tmp_path / "journal.lock").read_text()
    lock.release()
    lock.release()


def test_a_dead_owner_keeps_nobody_out_though_its_children_live(tmp_path: Path) -> None:
    program = """if True:
        import os, sys, time
        from pathlib import Path
        from prs_dask.output.journal_lock import JournalLock
        lock = JournalLock.take(Path(sys.argv[1]))
        lock.sign()
        if os.fork() == 0:
            print(os.getpid(), flush=True)
        time.sleep(60)
    """
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    try:
        with pytest.raises(OutputError, match=f"process {owner.pid} on"):
            JournalLock.take(tmp_path)
        owner.kill()
        owner.wait()
        os.kill(child, 0)
        JournalLock.take(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        owner.kill()
        owner.communicate()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="run_folder: found .*No such file"):
        JournalLock.take(tmp_path / "nothing")
    assert holder(tmp_path / "nothing") == ""


def test_where_the_file_system_knows_no_locks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = JournalLock.take(tmp_path)
    assert not lock.works
    lock.release()
    assert holder(tmp_path) == ""

"""One supervisor of a node at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prs_dask.engine.node_lock import NodeLock


def test_one_has_it_until_it_lets_go(tmp_path):
    one, other = NodeLock(tmp_path / "x.lock"), NodeLock(tmp_path / "x.lock")
    assert one.is_ours()
    assert one.is_ours()
    assert not other.is_ours()
    one.release()
    one.release()
    assert other.is_ours()
    assert not one.is_ours()
    other.release()


def test_it_is_free_again_when_its_owner_is_killed(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from prs_dask.engine.node_lock import NodeLock
lock = NodeLock(Path({str(tmp_path / "x.lock")!r}))
print(lock.is_ours(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n"
    lock = NodeLock(tmp_path / "x.lock")
    assert lock.is_ours()
    lock.release()


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        NodeLock(tmp_path / "gone" / "x.lock").is_ours()

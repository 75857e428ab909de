"""Processes that do not die, for those who have to do without their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prs_dask.worker_process import reaper

PROGRAM = """
import importlib.util, os, sys

spec = importlib.util.spec_from_file_location("reaper", {reaper!r})
reaper = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reaper)
kill, killpg = os.kill, os.killpg


def undying():
    try:
        with open({undying!r}) as file:
            return [int(pid) for pid in file]
    except FileNotFoundError:
        return []


def kill_some(pid, number):
    if pid not in undying():
        kill(pid, number)


def kill_some_group(group, number):
    if not any(os.getpgid(pid) == group for pid in undying()):
        killpg(group, number)  # of another one the members die one by one


os.kill, os.killpg = kill_some, kill_some_group
reaper.PATIENCE = 0.3
reaper.main(int(sys.argv[1]), float(sys.argv[2]))
"""


@pytest.fixture
def undying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file. No reaper can kill a process whose pid stands there, a line each, and soon gives up; until the test ends.

    It stands for a kernel that does not let go of a process, because a disk or a device does not answer.
    """
    path, program = tmp_path / "undying", tmp_path / "impatient_reaper.py"
    program.write_text(PROGRAM.format(reaper=reaper.__file__, undying=str(path)))
    monkeypatch.setattr(reaper, "__file__", str(program))
    yield path
    path.unlink(missing_ok=True)

"""Temporary folders: kept while somebody holds them, gone when their owner was killed, though nobody comes after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prs_dask.clusters import abandoned
from prs_dask.clusters.temporary_folder import TemporaryFolder

OWNER = """
import sys, time
from prs_dask.clusters.temporary_folder import TemporaryFolder

folders = [TemporaryFolder(sys.argv[1]), TemporaryFolder(sys.argv[2])]
print(*(folder.path for folder in folders), flush=True)
time.sleep(600)
"""


def test_a_folder_is_swept_only_when_nobody_holds_it(tmp_path):
    folder = TemporaryFolder(str(tmp_path))
    abandoned.sweep(tmp_path)
    assert Path(folder.path).exists()
    (tmp_path / "prs-dask-left" / "deep").mkdir(parents=True)
    (tmp_path / "prs-dask-left" / "lock").touch()
    (tmp_path / "prs-dask-removed-x" / "deep").mkdir(parents=True)  # a sweeper was killed
    (tmp_path / "prs-dask-of-somebody-else").mkdir()
    abandoned.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([Path(folder.path), tmp_path / "prs-dask-of-somebody-else"])
    folder.remove()
    assert not Path(folder.path).exists()


def test_shares_of_step_runs_are_swept_where_only_their_owner_can_open_them(tmp_path):
    shared = tmp_path / f"prs-dask-{os.getuid()}"
    (shared / "run").mkdir(parents=True, mode=0o700)
    shared.chmod(0o700)
    (shared / "run" / "lock").touch()
    abandoned.sweep(tmp_path)
    assert not shared.exists()
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    (shared / "run").mkdir()
    (shared / "run" / "lock").touch()
    abandoned.sweep(tmp_path)
    assert (shared / "run" / "lock").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_folders_of_a_killed_owner_are_removed_though_nobody_comes_after_it(tmp_path, number):
    parents = [tmp_path / "one", tmp_path / "two"]
    for parent in parents:
        parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, *map(str, parents)], stdout=subprocess.PIPE, text=True
    ) as owner:
        paths = [Path(path) for path in owner.stdout.readline().split()]
        assert all(path.exists() for path in paths)
        owner.send_signal(number)
    until = time.monotonic() + 15
    while any(list(parent.iterdir()) for parent in parents):
        assert time.monotonic() < until, "the caretaker has not swept"
        time.sleep(0.02)


def test_without_a_caretaker_there_are_folders_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    folder = TemporaryFolder(str(tmp_path))
    assert Path(folder.path).exists()
    folder.remove()
    assert not Path(folder.path).exists()


def nested(folder: Path, depth: int) -> None:
    """Folders in folders, and a file in the last."""
    here = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("file").touch()
    finally:
        os.chdir(here)


@pytest.mark.parametrize("depth", [0, 3, 1200])
def test_a_folder_goes_with_all_that_is_in_it_however_deep(tmp_path, depth):
    for name in ("one", "other"):
        (tmp_path / "top" / name).mkdir(parents=True)
        nested(tmp_path / "top" / name, depth)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")
    abandoned.remove_tree(tmp_path / "top")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere" / "kept").exists()
    abandoned.remove_tree(tmp_path / "top")

"""Many files reach the disk by one call, where the file system is known to keep that promise; few one by one."""

import os

import pytest

from prs_dask.output import on_disk
from prs_dask.output.on_disk import FileSystem


@pytest.fixture
def calls(monkeypatch):
    """Which files were brought to disk, and how often a whole file system was."""
    made: list = []
    monkeypatch.setattr(os, "fsync", lambda file: made.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}"))))
    monkeypatch.setattr(FileSystem, "_sync_all", lambda self: made.append("all") or True)
    return made


def synced(folder, count):
    paths = [folder / str(number) for number in range(count)]
    for path in paths:
        path.touch()
    file_system = FileSystem(folder)
    file_system.sync(paths)
    file_system.close()
    return [path.name for path in paths]


@pytest.mark.parametrize(("kind", "count", "at_once"), [("ext4", 8, True), ("ext4", 7, False), ("fuse", 8, False)])
def test_many_at_once_where_that_can_be_relied_on(tmp_path, calls, monkeypatch, kind, count, at_once):
    monkeypatch.setattr(on_disk, "_kind", lambda device: kind)
    names = synced(tmp_path, count)
    assert calls == (["all"] if at_once else names)


def test_where_the_system_has_no_such_call_each_is_synced(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(on_disk, "_kind", lambda device: "ext4")
    monkeypatch.setattr(FileSystem, "_sync_all", lambda self: False)
    assert synced(tmp_path, 8) == calls


def test_the_real_call_does_not_fail(tmp_path):
    synced(tmp_path, on_disk.MANY)
    file_system = FileSystem(tmp_path)
    assert file_system._sync_all() in (True, False)
    file_system.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system._sync_all()


def test_the_kind_of_a_file_system_is_what_the_kernel_says():
    assert on_disk._kind(os.stat("/proc").st_dev) == "proc"
    assert on_disk._kind(os.makedev(4000, 4000)) == ""

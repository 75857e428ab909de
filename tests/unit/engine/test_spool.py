"""A node's folders are there while somebody works in them, and gone afterwards, whoever died."""

import io
import multiprocessing
import os
import random
import signal
import stat
import threading
import time
import zipfile

import pytest

from prs_dask.engine.spool import NodeFolder, sweep_abandoned

NODE = "host/12345678"


@pytest.fixture
def root(tmp_path, no_leaks, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"prs-dask-{os.getuid()}"


def archive(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, text in members.items():
            info = zipfile.ZipInfo(name.replace("__", "/"))
            info.external_attr = (0o755 if text.startswith("#!") else 0o644) << 16
            file.writestr(info, text)
    return packed.getvalue()


def test_only_their_owner_can_open_the_folders(root):
    folder = NodeFolder("run", NODE)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, folder.path, folder.own)] == [0o700] * 3
    folder.close()


def test_the_last_supervisor_of_a_node_removes_everything(root):
    first, second = NodeFolder("run", NODE), NodeFolder("run", NODE)
    assert first.own != second.own
    (first.own / "stdout.txt").write_text("x")
    first.close()
    assert not first.own.exists()
    assert second.own.exists()
    second.close()
    assert not root.exists()


def test_another_step_run_keeps_its_folder(root):
    one, other = NodeFolder("one", NODE), NodeFolder("other", NODE)
    one.close()
    assert not one.path.exists()
    assert other.own.exists()
    other.close()
    assert not root.exists()


def test_nodes_that_share_the_folder_for_temporary_files_have_folders_of_their_own(root):
    """Where /tmp is one for several hosts: else one would send what another's processes print, under its own number."""
    here, there = NodeFolder("run", "here/12345678"), NodeFolder("run", "there/12345678")
    assert here.path != there.path
    there._own_lock.close()
    assert here.orphans(at_once=True) == []
    here.close()
    assert there.path.exists()
    there.close()
    assert not root.exists()


def test_what_an_earlier_version_has_left_under_its_name_is_swept(root):
    (root / "run").mkdir(parents=True)
    root.chmod(0o700)
    (root / "run" / "lock").touch()
    NodeFolder("run", NODE).close()
    assert not root.exists()


def test_a_root_that_others_could_open_is_refused(root):
    root.mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="only its owner"):
        NodeFolder("run", NODE)
    root.rmdir()


def test_a_root_that_is_a_link_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        NodeFolder("run", NODE)
    root.unlink()


def test_the_source_is_unpacked_once_with_its_modes(root):
    first, second = NodeFolder("run", NODE), NodeFolder("run", NODE)
    assert first.source("ab" * 32) is None
    target = first.unpack_source("ab" * 32, archive(**{"score.py": "x = 1", "bin__tool": "#!/bin/sh"}))
    assert second.source("ab" * 32) == target
    assert second.unpack_source("ab" * 32, b"not even a zip file") == target
    assert (target / "score.py").read_text() == "x = 1"
    assert os.access(target / "bin" / "tool", os.X_OK)
    assert not os.access(target / "score.py", os.X_OK)
    first.close()
    assert target.exists()
    second.close()


def test_a_source_appears_whole_though_many_unpack_it_at_once(root):
    data = archive(**{f"module{number}.py": "x" * 1000 for number in range(50)})
    folders = [NodeFolder("run", NODE) for _ in range(6)]
    incomplete = []

    def unpack(folder: NodeFolder) -> None:
        target = folder.unpack_source("cd" * 32, data)
        if len(list(target.iterdir())) != 50:
            incomplete.append(target)

    threads = [threading.Thread(target=unpack, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not incomplete
    assert len(list(folders[0].path.glob("source-*"))) == 1
    for folder in folders:
        folder.close()
    assert not root.exists()


def test_members_that_lead_out_of_the_archive_stay_within(root, tmp_path):
    folder = NodeFolder("run", NODE)
    target = folder.unpack_source("ef" * 32, archive(**{"..__..__escaped.py": "x"}))
    assert not list(tmp_path.glob("escaped.py"))
    assert not list(root.glob("escaped.py"))
    assert [path.name for path in target.iterdir()] == ["escaped.py"]
    folder.close()


def hold(run: str, connection) -> None:
    folder = NodeFolder(run, NODE)
    connection.send(f"held {folder.own.name}")
    time.sleep(60)


def test_folders_of_a_killed_supervisor_are_swept(root):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=("run", theirs))
    process.start()
    assert ours.recv().startswith("held")
    sweep_abandoned()
    assert list(root.glob("run-*"))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    sweep_abandoned()
    assert not root.exists()
    for end in (ours, theirs):
        end.close()
    process.close()


def test_what_a_killed_sweeper_had_begun_to_remove_is_swept(root):
    folder = NodeFolder("run", NODE)
    folder.close()
    root.mkdir(mode=0o700)
    (root / "prs-dask-removed-x").mkdir()
    (root / "prs-dask-removed-x" / "score.py").write_text("x")
    sweep_abandoned()
    assert not root.exists()


def come_and_go(seed: int, problems) -> None:
    generator = random.Random(seed)
    try:
        for _ in range(60):
            run = generator.choice(["one", "two"])
            folder = NodeFolder(run, NODE)
            target = folder.unpack_source(run * 10, archive(**{"score.py": run}))
            (folder.own / "file").write_text("x")
            if generator.random() < 0.5:
                sweep_abandoned()
            if (target / "score.py").read_text() != run or not (folder.own / "file").exists():
                problems.put("something has vanished that was held")
            folder.close()
    except BaseException as error:
        problems.put(repr(error))
        raise


@pytest.mark.timeout(60)
def test_supervisors_that_come_and_go_at_once_never_lose_what_they_hold(root):
    context = multiprocessing.get_context("fork")
    problems = context.Queue()
    processes = [context.Process(target=come_and_go, args=(seed, problems)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [] if problems.empty() else [problems.get(timeout=1)]
    assert not found
    assert [process.exitcode for process in processes] == [0] * 4
    problems.close()
    problems.join_thread()
    for process in processes:
        process.close()
    sweep_abandoned()
    assert not root.exists()

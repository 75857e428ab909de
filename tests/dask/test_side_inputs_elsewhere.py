"""Side inputs for workers that do not see the driver's files: once a node, whole, and gone at the end."""

from __future__ import annotations

import ast
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun
from prs_dask.engine import parcels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = """
import hashlib, os, stat, sys
from prs_dask import EntryScript
from azureml.core import Run

def told(path):
    found = []
    for folder, folders, names in os.walk(os.fsencode(path)):
        for name in sorted([*folders, *names]):
            one = os.path.join(folder, name)
            status = os.lstat(one)
            is_file = stat.S_ISREG(status.st_mode)
            content = ""
            if is_file:
                with open(one, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()[:8]
            content = os.readlink(one).decode() if stat.S_ISLNK(status.st_mode) else content
            mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            found.append((os.path.relpath(one, os.fsencode(path)), oct(mode), content))
    return sorted(found)

def init():
    global row
    labels, model, deep, link = sys.argv[1:5]
    assert not os.path.exists(DRIVER), "the worker sees the driver's folders"
    named = Run.get_context().input_datasets["labels"]
    texts = [open(path).read() for path in (labels, deep, link)]
    row = [EntryScript().node_id, *texts, named == labels, told(model)]

def run(mini_batch):
    import time
    time.sleep(0.05)
    return [repr(row)] * len(mini_batch)
"""


def model_in(folder: Path) -> None:
    """A folder with what folders may hold."""
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "empty folder").mkdir()
    (folder / "deep" / "deeper" / "weights").write_bytes(os.urandom(5 << 20))
    (folder / "empty").touch()
    (folder / os.fsdecode(b"caf\xe9\n")).write_text("odd name")
    (folder / "tool").write_text("#!/bin/sh")
    (folder / "tool").chmod(0o750)
    (folder / "link").symlink_to("deep/deeper")
    for number in range(200):
        (folder / "deep" / f"{number}").write_text(str(number))


def submitted(folder: Path, target: Any, items: int = 24, *, large: int = 0, **settings: Any) -> StepRun:
    driver, data = folder / "driver", folder / "data"
    data.mkdir()
    for number in range(items):
        (data / f"{number:03d}").touch()
    (driver / "labels.txt").write_text("the labels")
    model_in(driver / "model")
    if large:
        (driver / "model" / "a large one").write_bytes(os.urandom(large))
    script = driver / "score.py"
    script.write_text(f"DRIVER = {str(driver / 'model')!r}\n{SCRIPT}")
    config = ParallelRunConfig(
        entry_script=script, mini_batch_size=1, error_threshold=0, output_action="append_row", **settings
    )
    labels = FileDataset.from_files(driver / "labels.txt").as_named_input("labels")
    linked = FileDataset.from_files(driver / "labels.txt").as_mount(str(driver / "linked" / "labels"))
    step = ParallelRunStep(
        "elsewhere",
        config,
        FileDataset.from_files(data),
        output=driver / "out",
        side_inputs=[labels, driver / "model", linked],
        arguments=[labels, str(driver / "model"), str(driver / "model" / "deep" / "7"), linked],
    )
    return step.submit(run_folder=driver / "run", compute_target=target)


def sent(run: StepRun) -> list[tuple[str, str]]:
    """(node, name) of every side input that came to a node."""
    return sorted(re.findall(r"node (\d+): side input \S*/(\S+) is not seen there: sent", roles(run)))


def roles(run: StepRun) -> str:
    return (run.log_dir / "sys" / "master_role.txt").read_text()


def rows(run: StepRun) -> list[Any]:
    return [ast.literal_eval(line) for line in run.output_file.read_text().splitlines()]


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / "tmp").glob("prs-dask*/**/parcel*"))


def expected_of(run: StepRun, driver: Path) -> list[Any]:
    """What each row tells behind its node."""
    scope: dict[str, Any] = {}
    exec(SCRIPT.replace("from azureml.core import Run", ""), scope)
    return ["the labels", "7", "the labels", True, scope["told"](driver / "model")]


def test_each_node_gets_them_once_and_whole(apart: Any, tmp_path: Path) -> None:
    ours = apart(4, nodes=2)
    driver = tmp_path / "driver"
    with ours.client():
        run = submitted(tmp_path, ours.address, node_count=2)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed", run.error
    made = rows(run)
    assert len(made) == 24
    assert {row[0] for row in made} == {0, 1}
    expected = expected_of(run, driver)
    assert all(row[1:] == expected for row in made)
    assert sent(run) == [("0", "labels.txt"), ("0", "model"), ("1", "labels.txt"), ("1", "model")]
    assert leftovers(tmp_path) == []
    assert not os.path.lexists(driver / "linked" / "labels")


def holder(lock: Path) -> int:
    """Pid of whoever holds a lock."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return 0


def test_a_worker_that_is_killed_in_the_middle_leaves_what_has_come_to_the_next(
    apart: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    read = parcels.SentTree.read

    def slowly(self: parcels.SentTree, offset: int, length: int) -> bytes:
        pieces.append(offset)
        time.sleep(0.05)
        return read(self, offset, length)

    monkeypatch.setattr(parcels.SentTree, "read", slowly)
    ours = apart(0)
    for number in range(2):
        apart.add(ours, f"worker{number}", host="node0")
    with ours.client():
        run = submitted(tmp_path, ours.address, large=60 << 20)
        coming: list[Path] = []
        while not coming or coming[0].stat().st_size < 10 << 20:
            assert run.get_status() == "Running", run.error
            coming = list((tmp_path / "tmp").glob("prs-dask-*/*/parcel-2.coming/model/a large one"))
            time.sleep(0.01)
        os.kill(holder(coming[0].parents[2] / "parcel-2.lock"), signal.SIGKILL)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed", run.error
    expected = expected_of(run, tmp_path / "driver")
    made = rows(run)
    assert len(made) == 24
    assert all(row[1:] == expected for row in made)
    assert re.search(r"model is not seen there: sent in .*, from \d+\.\d MB on\)", roles(run))
    assert len(pieces) < 40, "33 are all there are"
    assert leftovers(tmp_path) == []

"""A step run goes on though its listing was cut off, and says what has changed in its inputs, whatever they are."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, ResumeError, StepRun, TabularDataset
from prs_dask.output.manifest import read_manifest

pytestmark = pytest.mark.timeout(120)

NAMES = """
import os

def run(mini_batch):
    return [open(path).read() for path in mini_batch]
"""
"""Rows are what the items hold: their names."""

NUMBERS = """
def run(mini_batch):
    return [str(number) for number in mini_batch["number"]]
"""

GATE = """
import os, time

def run(mini_batch):
    number = int(open(mini_batch[0]).read())
    while number >= 6 and not os.path.exists({gate!r}):
        time.sleep(0.01)
    return [open(path).read() for path in mini_batch]
"""
"""The first six items go through, the others when the gate is open."""

PROGRAM = """
import itertools, json, sys, time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, TabularDataset
from prs_dask.engine import submission

submission.BATCH = 3
mini_batches = ParallelRunStep.mini_batches


job = json.load(sys.stdin)


def cut_off(self, config):
    yield from itertools.islice(mini_batches(self, config), job["listed"])
    time.sleep(600)


ParallelRunStep.mini_batches = cut_off
inputs = [eval(text) for text in job["inputs"]]
config = ParallelRunConfig(**job["config"])
ParallelRunStep("cut-off", config, inputs, job["output"]).submit(run_folder=job["run"]).wait_for_completion()
"""
"""A driver whose listing is stuck after some mini-batches."""


def files(folder: Path, numbers: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:04d}").write_text(str(number))
    return folder


def csv_files(folder: Path) -> Path:
    folder.mkdir()
    for first in (0, 400):
        rows = "".join(f"{number},{'x' * 20}\n" for number in range(first, first + 400))
        (folder / f"{first:04d}.csv").write_text(f"number,text\n{rows}")
    return folder


def parquet_files(folder: Path) -> Path:
    folder.mkdir()
    for first in (0, 400):
        table = pd.DataFrame({"number": range(first, first + 400)})
        table.to_parquet(folder / f"{first:04d}.parquet", row_group_size=10)
    return folder


class Driver:
    """A driver in a process of its own, that is killed while it lists."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.run_folder = folder / "run"

    def config(self, script: str, size: Any) -> dict[str, Any]:
        path = self.folder / "script.py"
        path.write_text(script)
        return {
            "entry_script": str(path),
            "output_action": "append_row",
            "error_threshold": 0,
            "mini_batch_size": size,
            "compute_target": self.address,
        }

    def killed_while_listing(self, inputs: list[str], script: str, size: Any, listed: int, wait: Any) -> None:
        """When it has listed so many (a multiple of 3), and the first rows are there."""
        program = self.folder / "driver.py"
        program.write_text(PROGRAM)
        job = {
            "inputs": inputs,
            "listed": listed,
            "config": self.config(script, size),
            "output": str(self.folder / "output"),
            "run": str(self.run_folder),
        }
        (self.folder / "job.json").write_text(json.dumps(job))
        log = self.folder / "driver.log"
        with (self.folder / "job.json").open() as stdin, log.open("w") as told:
            driver = subprocess.Popen([sys.executable, str(program)], stdin=stdin, stderr=told, cwd=self.folder)
        partial = self.folder / "output" / "parallel_run_step.txt.partial"
        wait(lambda: driver.poll() is not None or (partial.exists() and partial.stat().st_size > 20), 40, "rows")
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, log.read_text()
        state = read_manifest(self.run_folder / "inputs.jsonl.gz")
        assert (state.count, state.complete) == (listed, False)

    def resumed(self, inputs: list[Any], script: str, size: Any, **more: Any) -> StepRun:
        config = ParallelRunConfig(**self.config(script, size))
        run = ParallelRunStep("cut-off", config, inputs, self.folder / "output").submit(resume=self.run_folder, **more)
        run.wait_for_completion(timeout_seconds=60)
        return run


@pytest.fixture
def driver(tmp_path: Path, cluster: Any) -> Driver:
    return Driver(tmp_path, cluster.address)


def rows(run: StepRun) -> list[int]:
    assert run.output_file is not None
    return sorted(map(int, run.output_file.read_text().split()))


def test_files_whose_listing_was_cut_off_go_on_with_those_that_came_since(driver: Driver, wait: Any) -> None:
    one, other = files(driver.folder / "one", range(30)), files(driver.folder / "other", range(30, 60))
    inputs = [f"FileDataset.from_files({str(one)!r})", f"FileDataset.from_files({str(other)!r})"]
    driver.killed_while_listing(inputs, NAMES, 2, 18, wait)
    files(other, [999])
    run = driver.resumed([FileDataset.from_files(one), FileDataset.from_files(other)], NAMES, 2)
    assert rows(run) == [*range(60), 999]
    assert read_manifest(driver.run_folder / "inputs.jsonl.gz").complete


@pytest.mark.parametrize("kind", ["delimited", "parquet"])
def test_a_table_goes_on_in_the_middle_of_a_file_with_the_types_it_had(driver: Driver, wait: Any, kind: str) -> None:
    folder = csv_files(driver.folder / "data") if kind == "delimited" else parquet_files(driver.folder / "data")
    make = getattr(TabularDataset, f"from_{kind}_files")
    driver.killed_while_listing([f"TabularDataset.from_{kind}_files({str(folder)!r})"], NUMBERS, 300, 15, wait)
    assert rows(driver.resumed([make(folder)], NUMBERS, 300)) == list(range(800))


def test_files_in_a_store_go_on_and_are_compared_by_their_versions(driver: Driver, wait: Any, s3: Any) -> None:
    bucket = s3.bucket()
    for number in range(30):
        s3.put(f"{bucket}/{number:04d}", str(number).encode())
    made = f"FileDataset.from_files({bucket!r}, storage_options={dict(s3.options)!r})"
    driver.killed_while_listing([made], NAMES, 1, 12, wait)
    inputs = [FileDataset.from_files(bucket, storage_options=s3.options)]
    s3.put(f"{bucket}/0000a", b"1000")
    with pytest.raises(ResumeError, match="added: found 1 file: .*0000a"):
        driver.resumed(inputs, NAMES, 1)
    run = driver.resumed(inputs, NAMES, 1, accept_changes=True)
    assert rows(run) == [*range(30), 1000]


class Gated:
    """A step run over ten files, canceled when six of them are finished."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.items = files(folder / "items", range(10))
        self.gate = folder / "gate"
        self.script = folder / "script.py"
        self.script.write_text(GATE.format(gate=str(self.gate)))

    def step(self, inputs: Any = None) -> ParallelRunStep:
        config = ParallelRunConfig(
            entry_script=self.script,
            output_action="append_row",
            append_row_order="input",
            error_threshold=0,
            mini_batch_size=1,
            compute_target=self.address,
        )
        return ParallelRunStep("gated", config, inputs or FileDataset.from_files(self.items), self.folder / "output")

    def canceled(self, **more: Any) -> StepRun:
        run = self.step().submit(**(more or {"run_folder": self.folder / "run"}))
        while run.summary().succeeded_mini_batches < 6:
            assert run.get_status() == "Running", run.error
        run.cancel()
        return run

    def resume(self, **more: Any) -> StepRun:
        self.gate.touch()
        run = self.step().submit(resume=self.folder / "run", **more)
        run.wait_for_completion(timeout_seconds=60)
        return run


@pytest.fixture
def gated(tmp_path: Path, cluster: Any) -> Gated:
    return Gated(tmp_path, cluster.address)


def in_order(run: StepRun) -> list[int]:
    assert run.output_file is not None
    return list(map(int, run.output_file.read_text().split()))


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(one): (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.rglob("*") if one.is_file()}


def test_what_has_changed_is_named_and_a_refused_resume_changes_no_byte(gated: Gated) -> None:
    gated.canceled()
    before = state_of(gated.folder / "run") | state_of(gated.folder / "output")
    (gated.items / "0007").unlink()
    (gated.items / "0008").write_text("8 and more")
    (gated.items / "0009").unlink()
    files(gated.items / "0009", [9])
    files(gated.items, [70])
    with pytest.raises(ResumeError) as caught:
        gated.resume()
    message = str(caught.value)
    assert "removed: found 2 files" in message
    assert all(f"items/{name}'" in message for name in ("0007", "0008", "0009", "0009/0009", "0070"))
    assert "changed: found 1 file" in message
    assert "added: found 2 files" in message
    assert state_of(gated.folder / "run") | state_of(gated.folder / "output") == before


def test_what_has_changed_of_finished_items_is_noted_only(gated: Gated) -> None:
    run = gated.canceled()
    (gated.items / "0001").unlink()
    (gated.items / "0002").write_text("changed")
    assert in_order(gated.resume()) == list(range(10))
    log = (run.log_dir / "driver_log.txt").read_text()
    assert "removed since its mini-batches were finished: 1 file" in log
    assert "changed since its mini-batches were finished: 1 file" in log


def test_files_are_added_twice_over_several_resumes(gated: Gated) -> None:
    gated.canceled()
    files(gated.items, [3000])
    (gated.items / "0000a").write_text("100")
    run = gated.step().submit(resume=gated.folder / "run", accept_changes=True)
    while read_manifest(gated.folder / "run" / "inputs.jsonl.gz").count < 12:
        assert run.get_status() == "Running", run.error
    run.cancel()
    (gated.items / "0000b").write_text("101")
    with pytest.raises(ResumeError, match="added: found 1 file: .*0000b"):
        gated.resume()
    run = gated.resume(accept_changes=True)
    assert in_order(run) == [*range(10), 100, 3000, 101]
    assert run.summary().mini_batches == 13


def test_a_disk_that_is_full_for_the_manifest_ends_the_step_run_which_can_be_resumed(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, full = os.pwrite, True

    def refuses(descriptor: int, data: Any, offset: int) -> int:
        if full and offset and os.readlink(f"/proc/self/fd/{descriptor}").endswith("inputs.jsonl.gz"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", refuses)
    run = gated.step().submit(run_folder=gated.folder / "run")
    assert run.wait_for_completion(raise_on_error=False, timeout_seconds=60) == "Failed"
    assert "No space left on device" in str(run.error)
    assert "free some room, then resume" in str(run.error)
    full = False
    assert in_order(gated.resume()) == list(range(10))


@pytest.fixture
def frame_step(tmp_path: Path, cluster: Any) -> Callable[[pd.DataFrame], ParallelRunStep]:
    script = tmp_path / "script.py"
    gate = tmp_path / "gate"
    script.write_text(
        f"""
import os, time

def run(mini_batch):
    while mini_batch["number"].iloc[0] >= 50 and not os.path.exists({str(gate)!r}):
        time.sleep(0.01)
    return [str(number) for number in mini_batch["number"]]
"""
    )

    def make(frame: pd.DataFrame) -> ParallelRunStep:
        config = ParallelRunConfig(
            entry_script=script,
            output_action="append_row",
            error_threshold=0,
            mini_batch_size=80,
            compute_target=cluster.address,
        )
        return ParallelRunStep("rows", config, TabularDataset.from_pandas(frame), tmp_path / "output")

    return make


def test_rows_in_memory_go_on_with_an_equal_frame_and_with_no_other(frame_step: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": range(100)})
    run = frame_step(frame).submit(run_folder=tmp_path / "run")
    while run.summary().succeeded_mini_batches < 5:
        assert run.get_status() == "Running", run.error
    run.cancel()
    other = frame.copy()
    other.loc[93, "number"] = 0
    with pytest.raises(ResumeError, match=r"mini-batch 9 \(rows 90..100\) is not what it was"):
        frame_step(other).submit(resume=tmp_path / "run")
    (tmp_path / "gate").touch()
    run = frame_step(frame.copy()).submit(resume=tmp_path / "run")
    run.wait_for_completion(timeout_seconds=60)
    assert rows(run) == list(range(100))

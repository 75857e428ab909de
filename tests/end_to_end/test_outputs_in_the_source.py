"""Output and run folder lie in the source directory: they are no source, and the step run goes on as any other."""

from __future__ import annotations

import os
import re
import shlex
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(150)

ITEMS = 40

FAILS = """
import os

MENDED = {mended!r}

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    if name == "0007" and not os.path.exists(MENDED):
        raise ValueError("not yet")
    return [name]
"""

SLOW = """
import os, time

def run(mini_batch):
    time.sleep(0.05)
    return [os.path.basename(mini_batch[0])]
"""


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """Beside the source directory: the script fails until it is there."""
    return tmp_path / "mended"


@pytest.fixture
def start(command: Any, mended: Path) -> Any:
    """``prs-dask run`` in the folder that is the source directory."""
    command.items(ITEMS)

    def start(script: str, output: str, *more: str) -> Any:
        command.script(script.format(mended=str(mended)))
        own = ("--entry-script", "script.py", "--source-directory", ".", "--input", "items", "--output", output)
        limits = ("--mini-batch-size", "1", "--error-threshold", "0", "--process-count-per-node", "2")
        return command.start("run", *own, "--output-action", "append_row", *limits, "--run-max-try", "1", *more)

    return start


def sent(run_folder: Path) -> set[str]:
    with zipfile.ZipFile(run_folder / "source.zip") as archive:
        return {name for name in archive.namelist() if not name.startswith("items/")}


def run_folder_of(command: Any) -> Path:
    found: Path
    (found,) = (path.parent for path in command.folder.rglob("run.json"))
    return found


def expect_all_rows(file: Path) -> None:
    assert sorted(file.read_text().split()) == [f"{number:04d}" for number in range(ITEMS)]


@pytest.mark.parametrize(("output", "more"), [("out", ()), (".", ()), ("out", ("--run-folder", "run"))])
def test_what_failed_is_resumed_as_it_says(
    command: Any, start: Any, mended: Path, output: str, more: tuple[str, ...]
) -> None:
    code, out, err = command.finish(start(FAILS, output, *more))
    assert code == 1, err
    (told,) = set(re.findall(r"prs-dask (resume \S+)", out + err))
    mended.touch()
    code, out, err = command(*shlex.split(told))
    assert code == 0, err
    expect_all_rows(command.folder / output / "parallel_run_step.txt")
    assert sent(run_folder_of(command)) == {"script.py"}


@pytest.mark.parametrize(("output", "more"), [("out", ()), (".", ("--run-folder", "run"))])
def test_a_killed_driver_is_no_change_of_the_source(
    command: Any, start: Any, wait: Any, output: str, more: tuple[str, ...]
) -> None:
    partial = command.folder / output / "parallel_run_step.txt.partial"
    process = start(SLOW, output, *more)
    wait(lambda: partial.exists() and partial.stat().st_size, 60, "the first row")
    os.kill(process.pid, signal.SIGKILL)
    command.forget(process)
    assert partial.exists()
    code, _, err = command("resume", run_folder_of(command))
    assert code == 0, err
    expect_all_rows(command.folder / output / "parallel_run_step.txt")


def test_a_driver_that_is_killed_while_it_starts_leaves_no_change_of_the_source(
    command: Any, start: Any, wait: Any
) -> None:
    process = start(SLOW, "out", "--run-folder", "run")
    wait(lambda: (command.folder / "run" / "run.json").exists(), 60, "the record")
    os.kill(process.pid, signal.SIGKILL)
    command.forget(process)
    code, _, err = command("resume", "run")
    assert code == 0, err
    expect_all_rows(command.folder / "out" / "parallel_run_step.txt")


def test_a_run_folder_does_not_travel_with_the_next_step_run(command: Any, start: Any) -> None:
    for number in (1, 2):
        code, _, err = command.finish(start(SLOW, f"out{number}", "--run-folder", f"run{number}"))
        assert code == 0, err
    assert sent(command.folder / "run1") == {"script.py"}
    assert sent(command.folder / "run2") == {"script.py", "out1/parallel_run_step.txt"}

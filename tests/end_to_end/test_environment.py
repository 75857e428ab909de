"""What ``environment`` wants, through the command line: what somebody sees where it holds, and where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SCRIPT = """
from pathlib import Path

def init():
    Path({mark!r}).touch()

def run(mini_batch):
    return [Path(path).name for path in mini_batch]
"""
STEP = """
entry_script: ../script.py
output_action: append_row
inputs: ../items
output: ../answers
process_count_per_node: 1
environment: {environment}
"""
ABSENT = "a-package-that-nobody-has"
FLAGS = [
    *("run", "--entry-script", "script.py", "--input", "items", "--output", "answers"),
    *("--output-action", "append_row", "--process-count-per-node", 1),
]


def arguments(folder: Path, form: str, requirements: list[str]) -> list[Any]:
    """A step that wants these: by a flag, by a step file, or by a file that a step file names relative to itself."""
    (folder / "steps").mkdir()
    (folder / "steps" / "wanted.txt").write_text("\n".join(requirements))
    if form == "a flag":
        return [*FLAGS, "--environment", "steps/wanted.txt"]
    environment = "wanted.txt" if form == "a file that a step file names" else requirements
    (folder / "steps" / "step.yml").write_text(STEP.format(environment=environment))
    return ["run", "steps/step.yml"]


@pytest.mark.parametrize("form", ["a flag", "a step file", "a file that a step file names"])
def test_a_requirement_that_does_not_hold_is_shown_as_a_table_and_init_is_never_called(form, command):
    command.items(3)
    command.script(SCRIPT.format(mark=str(command.folder / "init")))
    code, _, err = command(*arguments(command.folder, form, ["numpy>=1", ABSENT, "pandas<1"]))
    assert code == 1
    shown = err.splitlines()
    first = shown.index("Failed: environment: 1 worker does not have what the step wants")
    assert [line.split() for line in shown[first + 1 : first + 4]] == [
        ["node", "package", "found", "wanted"],
        ["0", "(127.0.0.1)", ABSENT, "not", "installed", "any", "version"],
        ["0", "(127.0.0.1)", "pandas", pd.__version__, "<1"],
    ]
    assert shown[first + 4] == "install it there, or change environment="
    assert not (command.folder / "init").exists()
    assert not (command.folder / "answers" / "parallel_run_step.txt").exists()


@pytest.mark.parametrize("form", ["a flag", "a step file"])
def test_a_requirement_that_holds_changes_nothing(form, command):
    command.items(3)
    command.script(SCRIPT.format(mark=str(command.folder / "init")))
    code, _, err = command(
        *arguments(command.folder, form, ["numpy>=1", "pandas>=2", f"{ABSENT}; python_version < '3'"])
    )
    assert code == 0, err
    assert (command.folder / "init").exists()
    assert sorted((command.folder / "answers" / "parallel_run_step.txt").read_text().split()) == [
        "0000",
        "0001",
        "0002",
    ]

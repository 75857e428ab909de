"""README's commands are those that CI runs, and what it links to exists."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def show(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / ".ci" / "run"), "--show", name], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_ci_runs_the_very_command_that_stands_in_readme(name):
    block = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert show(name).stdout == block[1]


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_each_command_is_one_line_that_makes_its_own_environment(name):
    (line,) = show(name).stdout.splitlines()
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_a_command_that_readme_lacks_is_an_error():
    answer = show("nonsense")
    assert answer.returncode != 0
    assert "README.md has no command named nonsense" in answer.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_readme_links_to_files_that_exist(target):
    assert (ROOT / target).exists()

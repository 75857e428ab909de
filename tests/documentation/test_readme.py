"""README's commands are those that CI runs, which leaves none of the tests out; what README links to exists."""

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


@pytest.mark.parametrize(("found", "CI"), [({}, "1"), ({"CI": "true"}, "true")])
def test_tests_know_that_ci_runs_them(found, CI):
    (line,) = re.findall(r"^export CI=.*", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    told = subprocess.run(["sh", "-c", f"{line}\nenv"], capture_output=True, text=True, env=found, check=True)
    assert f"CI={CI}" in told.stdout.splitlines()


def test_a_test_that_cannot_run_is_skipped(monkeypatch, request):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="why"):
        request.getfixturevalue("leave_out")("why")


def test_and_fails_in_ci(monkeypatch, request):
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="why"):
        request.getfixturevalue("leave_out")("why")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_readme_links_to_files_that_exist(target):
    assert (ROOT / target).exists()

"""The tutorial's blocks, in their order, do what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-ten-minutes.md"


def blocks() -> list[str]:
    return re.findall(r"^```(?:sh|python)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_works_as_it_is_written(tmp_path, no_leaks):
    install, poems, script, plan, first_run, from_python, broken_line, failing_run, tolerant_run = blocks()
    assert "pip install" in install

    def shell(block: str) -> subprocess.CompletedProcess[str]:
        return run(["bash", "-euo", "pipefail", "-c", block], tmp_path)

    assert shell(poems).returncode == 0
    (tmp_path / "count_words.py").write_text(script)

    planned = shell(plan)
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"\b8\b", planned.stdout)

    completed = shell(first_run)
    assert completed.returncode == 0, completed.stderr
    rows = (tmp_path / "counts" / "parallel_run_step.txt").read_text().splitlines()
    assert len(rows) == 40
    assert {"poem-1.txt 5", "poem-13.txt 0"} < set(rows)

    again = shell(first_run)
    assert again.returncode == 2
    assert "parallel_run_step.txt" in again.stderr

    (tmp_path / "again.py").write_text(from_python)
    python = run([sys.executable, "again.py"], tmp_path)
    assert python.returncode == 0, python.stderr
    assert sorted((tmp_path / "counts-again" / "parallel_run_step.txt").read_text().splitlines()) == sorted(rows)

    broken, changed = re.subn(r"        results\.append.*\n", lambda _: broken_line, script)
    assert changed == 1
    (tmp_path / "count_words.py").write_text(broken)
    failed = shell(failing_run)
    assert failed.returncode == 1, failed.stderr
    assert "ZeroDivisionError" in failed.stdout + failed.stderr
    assert not (tmp_path / "shares" / "parallel_run_step.txt").exists()

    tolerant = shell(tolerant_run)
    assert tolerant.returncode == 0, tolerant.stderr
    assert len((tmp_path / "most-shares" / "parallel_run_step.txt").read_text().splitlines()) == 35

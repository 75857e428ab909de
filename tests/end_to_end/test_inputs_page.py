"""The examples of the page on inputs do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "inputs.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_examples_run_as_they_stand(tmp_path: Path, no_leaks: None) -> None:
    (tmp_path / "page.py").write_text("\n".join(blocks("python")))
    (tmp_path / "run_page.py").write_text(
        "if __name__ == '__main__':\n    exec(compile(open('page.py').read(), 'page.py', 'exec'))\n"
    )
    (described,) = blocks("yaml")
    yaml.safe_load(described)
    (tmp_path / "step.yml").write_text(described)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    told = ""
    for command in ([sys.executable, "run_page.py"], ["bash", "-euo", "pipefail", "-c", blocks("sh")[0]]):
        ended = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        told += ended.stdout
    assert "input old: " in told

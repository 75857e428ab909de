"""The examples of the pages on inputs and on stores do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
INPUTS = (DOCS / "reference" / "inputs.md").read_text()
STORES = (DOCS / "how-to" / "read-from-a-store.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def told_by(page: str, folder: Path) -> str:
    """Run the page's Python as one program, then its commands beside its step file; what they print."""
    (folder / "page.py").write_text("\n".join(blocks(page, "python")))
    (folder / "run_page.py").write_text(
        "if __name__ == '__main__':\n    exec(compile(open('page.py').read(), 'page.py', 'exec'))\n"
    )
    (described,) = blocks(page, "yaml")
    yaml.safe_load(described)
    (folder / "step.yml").write_text(described)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    told = ""
    for command in ([sys.executable, "run_page.py"], ["bash", "-euo", "pipefail", "-c", blocks(page, "sh")[0]]):
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, "STORE_PASSWORD": "canary"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        told += ended.stdout + ended.stderr
    return told


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_examples_of_inputs_run_as_they_stand(tmp_path: Path, no_leaks: None) -> None:
    assert "input old: " in told_by(INPUTS, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_examples_of_stores_run_as_they_stand_but_for_the_host(tmp_path: Path, web: Any) -> None:
    here = web.put("1.txt", b"1").removesuffix("/1.txt")
    web.put("2.txt", b"2")
    web.put("sales.csv", b"id,amount\n" + b"".join(b"%d,1\n" % number for number in range(1000)))
    (tmp_path / "score.py").write_text("def run(mini_batch): return mini_batch\n")
    told = told_by(STORES.replace("https://example.org/data", here), tmp_path)
    assert "input 0: " in told
    assert "canary" not in told

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prs_dask.config.entry_script_source import entry_script_fault


def fault(source: str | bytes, tmp_path: Path) -> str | None:
    path = tmp_path / "score.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return entry_script_fault(path)


@pytest.mark.parametrize(
    "source",
    [
        "def run(mini_batch): ...",
        "def run(mini_batch, mini_batch_context): ...",
        "def run(*mini_batches): ...",
        "def run(mini_batch, context=None, *, verbose=True): ...",
        "run = lambda mini_batch: mini_batch",
        "run: object = print",
        "first, (run, *rest) = functions",
        "[run] = functions",
        "if (run := find()): pass",
        "if any((run := one) for one in functions): pass",
        "with open(x) as f, find() as (a, run): pass",
        "from scoring import run",
        "from scoring import score as run",
        "import scoring.score as run",
        "from scoring import *",
        "class run:\n  def __init__(self, mini_batch): ...",
        "try:\n  from fast import run\nexcept ImportError:\n  def run(mini_batch): ...",
        "try:\n  pass\nexcept ImportError as error:\n  pass\nelse:\n  def run(mini_batch): ...",
        "if True:\n  def run(mini_batch): ...",
        "for run in functions: pass",
        "with find() as run: pass",
        "match 1:\n  case _:\n    def run(mini_batch): ...",
        "def init():\n  global run\n  run = print",
        "@decorator\ndef run(): ...",
        "# -*- coding: latin-1 -*-\n# é\nrun = print",
    ],
)
def test_every_way_to_bind_run_counts(source: str, tmp_path: Path) -> None:
    assert fault(source.encode("latin-1"), tmp_path) is None


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def init(): ...",
        "def main():\n  def run(mini_batch): ...",
        "class Model:\n  def run(self, mini_batch): ...",
        "run: object",
        "module.run = print",
        "run",
        "import run",
        "from run import score",
        "x = lambda run: run",
        "x = [run for run in functions]",
        "x = lambda: (run := 1)",
    ],
)
def test_a_script_without_run_at_its_top_level_is_refused(source: str, tmp_path: Path) -> None:
    assert fault(source, tmp_path) == "which has no function run at its top level"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def run(mini_batch)\n  pass", "which is not valid Python: line 1"),
        ("x = 1\n\n  y = 2", "line 3: unexpected indent"),
        (b"x = '\xff'", "not valid Python"),
        ("x\0", "cannot be read as Python|not valid Python"),
        ("async def run(mini_batch): ...", r"whose run \(line 1\) is async"),
        ("\ndef run(): ...", r"whose run \(line 2\) takes no mini_batch"),
        ("def run(a, b, c): ...", "needs 3 arguments"),
        ("def run(mini_batch, *, model): ...", "needs keyword arguments"),
    ],
)
def test_a_script_that_would_fail_on_every_worker_is_refused(source: str | bytes, words: str, tmp_path: Path) -> None:
    assert re.search(words, fault(source, tmp_path) or "")


def test_a_script_is_never_run(tmp_path: Path) -> None:
    assert fault(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(mini_batch): ...", tmp_path) is None
    assert not (tmp_path / "ran").exists()


def test_odd_escapes_in_a_script_warn_nobody(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert fault(r"run = print; x = '\d'", tmp_path) is None
    assert not recwarn.list


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    assert entry_script_fault(tmp_path) == "which is not a file"
    assert entry_script_fault(tmp_path / "absent.py") == "which does not exist"


def test_deep_nesting_is_an_answer_and_no_crash(tmp_path: Path) -> None:
    assert "Python" in (fault("(" * 5000 + ")" * 5000, tmp_path) or "")

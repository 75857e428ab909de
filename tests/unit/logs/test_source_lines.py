"""The line of code is found in the traceback, or in the source as it was sent."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.source_lines import SourceLines

TRACEBACK = """Traceback (most recent call last):
  File "/tmp/prs-dask-0/r/source-1a/score.py", line 12, in run
    return [model.predict(item) for item in mini_batch]
            ^^^^^^^^^^^^^^^^^^^
  File "/tmp/prs-dask-0/r/source-1a/tools/model.py", line 12, in predict
    return 1 / 0
           ~~^~~
ZeroDivisionError: division by zero
"""


@pytest.fixture
def lines(tmp_path: Path) -> SourceLines:
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("score.py", "one\r\n  two é \xff\n" + "x\n" * 20)
    return SourceLines(tmp_path / "source.zip")


def line(lines: SourceLines, where: str, traceback: str = TRACEBACK) -> str:
    return lines.of(AttemptError("ValueError", "bad", traceback, where))


def test_it_stands_in_the_traceback(lines: SourceLines) -> None:
    assert line(lines, "tools/model.py:12 in predict") == "return 1 / 0"
    assert line(lines, "score.py:12 in run") == "return [model.predict(item) for item in mini_batch]"


def test_of_a_process_that_was_killed_it_stands_in_the_source(lines: SourceLines) -> None:
    stacks = 'Current thread 0x7f (most recent call first):\n  File "/tmp/source-1a/score.py", line 2 in run\n'
    assert line(lines, "score.py:2 in run", stacks) == "two é \xff"


def test_a_syntax_error_has_no_function(lines: SourceLines) -> None:
    assert line(lines, "score.py:3", '  File "/tmp/score.py", line 3\n    def run(:\n            ^\n') == "def run(:"


def test_a_frame_whose_code_was_not_known_has_none_of_another(lines: SourceLines) -> None:
    traceback = '  File "/tmp/cell.py", line 3, in run\n  File "/usr/lib/x.py", line 5, in y\n    pass\nValueError: x\n'
    assert line(lines, "cell.py:3 in run", traceback) == ""
    assert line(lines, "cell.py:3 in run", '  File "/tmp/cell.py", line 3, in run\nValueError: x\n') == ""


@pytest.mark.parametrize("where", ["", "score.py", "score.py:99 in run", "score.py:0 in run", "gone.py:1 in run", ":1"])
def test_what_is_not_known_is_left_out(where: str, lines: SourceLines, tmp_path: Path) -> None:
    assert line(lines, where, "") == ""
    assert line(SourceLines(tmp_path / "absent.zip"), where, "") == ""
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing else")
    assert line(SourceLines(tmp_path / "broken.zip"), where, "") == ""

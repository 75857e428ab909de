"""The report in a real browser: no script error, nothing asked for, readable in every width and scheme."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prs_dask.attempts.records import AttemptError, AttemptRecord, pack
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.logs.tree import LogTree
from prs_dask.report.writing import write_report

BEGUN = 1_767_225_600.0
pytestmark = pytest.mark.timeout(300)  # a browser, on a machine that is busy

LOOKS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
HOSTILE = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>\x1b[31m{number}"


def run_folder(path: Path, attempts: int) -> Path:
    """One with failures, nodes and every figure; its names are hostile and long."""
    folder = RunFolder(path)
    folder.logs.mkdir(parents=True)
    settings = {"output_action": "append_row", "append_row_file_name": "rows.txt", "mini_batch_size": 5}
    record = {"name": HOSTILE, "run_folder": str(path), "output": str(path / ("o" * 150)), "settings": settings}
    folder.write_record({**record, "created": "2026-01-01T00:00:00Z"})
    tree = LogTree(folder.logs)
    for process in range(6):
        records = [
            AttemptRecord(
                number, 1, int(at % 9 == 8), 1, 5, 5, 0, BEGUN + at * 1.1, 1.0 + at % 3, 0.1, 0.8 + at % 3, 0.5
            )
            for at, number in enumerate(range(process, attempts, 6))
        ]
        error = AttemptError("ValueError", HOSTILE * 5, "Traceback", "score.py:12 in run")
        errors = {record.mini_batch: error for record in records if record.category}
        details = {record.mini_batch: HOSTILE + "x" * 200 for record in records}
        tree.add_attempts(process % 2, process, pack(records), details, errors)
        tree.add_stream("stdout", process % 2, process, b"hello\n")
    summary = StepSummary("Failed", attempts, attempts - 5, 5, 5 * attempts, 5 * attempts - 25, 25, attempts, 9, 60, 61)
    tree.finish(summary, BEGUN + 60, cause=HOSTILE, resume="prs-dask resume " + "x" * 200)
    for node in range(2):
        for second in range(60):
            values = [second, 16_000, 8000, 8000, 50, 1, 1, second * 9, 0, second, 0, 1, 1]
            sample = {"time": BEGUN + second, "source": HOSTILE, "next": BEGUN + second + 1, "node": values}
            sample |= {"gpus": [[90, 4000, 80_000, 5]], "disks": [], "processes": [[HOSTILE, *range(8)]], "ps": HOSTILE}
            tree.add_usage(node, json.dumps(sample).encode() + b"\n", BEGUN)
    return path


@pytest.mark.parametrize("attempts", [300, 6000])
def test_it_is_readable_in_every_width_and_scheme(tmp_path: Path, browser: Callable[..., list], attempts: int) -> None:
    page = write_report(run_folder(tmp_path / "run", attempts))
    looks = browser(page, LOOKS)
    assert [(look.width, look.scheme) for look in looks] == LOOKS
    for look in looks:
        assert look.errors == []
        assert look.requests == []
        assert look.marks == []
        assert look.overflow <= 0, f"{look.overflow} pixels wider than {look.width}"
        assert look.drawings == (8, 8)
        assert look.screenshot.stat().st_size > 20_000
        assert "<script>window.harmed = 1</script>" in look.words
        assert "\\x1b[31m" in look.words
        assert look.words.count("GPU 0 Percent") == look.words.count("GPU 0 Memory Used Percent") == 2
    assert len({(look.ground, look.text) for look in looks}) == 2, json.dumps([look.ground for look in looks])


def test_one_that_has_only_just_begun_is_readable_too(tmp_path: Path, browser: Callable[..., list]) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.logs.mkdir(parents=True)
    folder.write_record({"name": "score", "created": "2026-01-01T00:00:00Z"})
    [look] = browser(write_report(folder.path), [(400, "dark")])
    assert (look.errors, look.requests, look.drawings) == ([], [], (0, 0))

"""The report behind the end: written, left out or given up, and never a reason to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prs_dask.logs.run_folder import RunFolder
from prs_dask.pipeline import report_at_end
from prs_dask.pipeline.report_at_end import ReportAtEnd
from prs_dask.report import writing


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def report(tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> ReportAtEnd:
    monkeypatch.setattr(report_at_end, "writes_reports", lambda: True)
    return ReportAtEnd(RunFolder(tmp_path), notes.append)


def test_it_is_there_once_it_was_written(
    report: ReportAtEnd, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PROGRAM_APART", "import sys; open(sys.argv[1] + '/report.html', 'w')")
    assert not report.is_over()
    report.write()
    assert report.is_over()
    assert report.path == tmp_path / "report.html"
    assert report.path.exists()
    assert notes == ["report.html is written"]


def test_where_none_is_wanted_none_is_written(
    report: ReportAtEnd, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_at_end, "writes_reports", lambda: False)
    report.write()
    assert report.is_over()
    assert (report.path, notes) == (None, [])


def test_what_goes_wrong_is_told(report: ReportAtEnd, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PROGRAM_APART", "raise RuntimeError('no ink')")
    report.write()
    assert report.is_over()
    assert (report.path, notes) == (None, ["no report.html: RuntimeError: no ink"])


@pytest.mark.usefixtures("no_leaks")
def test_one_that_is_given_up_leaves_neither_a_process_nor_a_file(
    report: ReportAtEnd, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "import sys, time; open(sys.argv[1] + '/.report.html.new', 'w').write('half'); time.sleep(60)"
    monkeypatch.setattr(writing, "PROGRAM_APART", slow)
    thread = threading.Thread(target=report.write)
    thread.start()
    _wait_until((tmp_path / ".report.html.new").exists)
    report.give_up()
    assert report.is_over(10)
    thread.join()
    assert (report.path, notes) == (None, ["no report.html: nobody waits for it"])
    assert not list(tmp_path.iterdir())


def test_one_that_takes_for_ever_is_ended(
    report: ReportAtEnd, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PROGRAM_APART", "import time; time.sleep(60)")
    monkeypatch.setattr(writing, "SECONDS_APART", 0.2)
    report.write()
    assert notes == ["no report.html: not within 0.2 s"]


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

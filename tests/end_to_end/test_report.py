"""report.html of whole jobs."""

from __future__ import annotations

from typing import Any

SOME_FAIL = """
import os

def run(mini_batch):
    if os.path.basename(mini_batch[0]).endswith("3"):
        raise ValueError("<b>bad</b>")
    return [os.path.basename(path) for path in mini_batch]
"""


def test_a_step_run_leaves_its_report(job: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    done = job(SOME_FAIL, 20)
    page = (done.run.run_folder / "report.html").read_text()
    assert "Completed" in page
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>bad</b>" not in page
    assert done.run.report() == done.run.run_folder / "report.html"


def test_a_step_run_can_be_told_to_leave_none(job: Any) -> None:
    done = job(items=3)
    assert not (done.run.run_folder / "report.html").exists()


def test_a_report_that_cannot_be_written_does_not_change_the_result(job: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    monkeypatch.setattr("prs_dask.report.writing.PROGRAM_APART", "raise RuntimeError('no ink')")
    done = job(items=3)
    assert done.state == "Completed"
    assert not (done.run.run_folder / "report.html").exists()
    assert "no report.html: RuntimeError: no ink" in done.log("driver_log.txt")

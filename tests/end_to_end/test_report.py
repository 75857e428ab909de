"""report.html of whole jobs."""

from __future__ import annotations

import os
import signal
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


SLOW = "import time; time.sleep(60)"


def test_the_outcome_is_there_before_the_report(submit: Any, wait: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    monkeypatch.setattr("prs_dask.report.writing.PROGRAM_APART", SLOW)
    run = submit(SOME_FAIL, 3)
    assert run.wait_for_end(60)
    assert run.get_status() == "Completed"
    assert run.output_file.exists()
    assert (run.log_dir / "job_result.txt").exists()
    assert not run.wait_for_report(0.3)
    assert run.report_file is None
    assert run.wait_for_completion(timeout_seconds=0.1) == "Completed"  # it has ended: nothing is out of time
    run.cancel()
    assert run.wait_for_report(10)
    assert (run.get_status(), run.report_file) == ("Completed", None)
    wait(lambda: "no report.html: nobody waits for it" in (run.log_dir / "driver_log.txt").read_text())


def test_ctrl_c_during_the_report_changes_neither_outcome_nor_exit_code(command: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    command.script()
    command.items(3)
    program = f"""
import sys
from prs_dask.report import writing
writing.PROGRAM_APART = {SLOW!r}
from prs_dask.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""
    (command.folder / "program.py").write_text(program)
    process = command.start(
        "program.py", "run", "--entry-script", "script.py", "--input", "items", "--output-action", "append_row",
        "--mini-batch-size", "1", "--process-count-per-node", "1", "--run-folder", "run", python=True,
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("Completed in ")
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = command.finish(process)
    assert code == 0
    assert "the report was left out" in err
    assert "canceling" not in err
    assert not (command.folder / "run" / "report.html").exists()
    assert "State: Completed" in (command.folder / "run" / "logs" / "job_result.txt").read_text()

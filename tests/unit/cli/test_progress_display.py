from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from prs_dask.cli.progress_display import BarDisplay, LineDisplay, display_for, progress_words, tell_end
from prs_dask.logs import places
from prs_dask.logs.job_result import JobResult
from prs_dask.logs.summary import StepSummary


@dataclass(frozen=True)
class Progress:
    state: str = "Running"
    stage: str = "running"
    total: int | None = 4000
    created: int = 4000
    succeeded: int = 1200
    failed: int = 0
    running: int = 2
    failed_items: int = 0
    items: int = 12_000
    rate: float = 60.0
    seconds_left: float | None = 46.7
    elapsed: float = 20.0


def test_words_tell_counts_rate_and_time_left() -> None:
    assert (
        progress_words(Progress()) == "1,200 of 4,000 mini-batches, 12,000 items, 2 running, 60.0/s, about 46.7 s left"
    )


def test_words_tell_failures_where_there_are_some() -> None:
    words = progress_words(Progress(failed=3, failed_items=30, total=None, seconds_left=None))
    assert words == "1,203 of at least 4,000 mini-batches, 12,000 items, 3 failed (30 items), 2 running, 60.0/s"


def test_before_the_first_mini_batch_there_is_nothing_to_count() -> None:
    assert progress_words(Progress(total=None, created=0, succeeded=0, running=0)) == "no mini-batches yet"


def test_an_ended_step_run_has_no_time_left() -> None:
    assert "left" not in progress_words(Progress(state="Completed"))


def test_lines_come_at_each_change_and_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay()
    for elapsed in range(0, 25):
        display.update(replace(Progress(), elapsed=float(elapsed)))
    display.update(replace(Progress(), stage="init\x1b", elapsed=24.5))
    display.update(replace(Progress(), state="Completed", stage="Completed", elapsed=24.6))
    display.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in lines] == ["[0 ms", "[10.0 s", "[20.0 s", "[24.5 s", "[24.6 s"]
    assert lines[3].startswith("[24.5 s] init\\x1b: 1,200 of 4,000")


def test_one_file_to_a_mini_batch_is_not_counted_twice() -> None:
    assert "items" not in progress_words(Progress(items=1200))


def test_programs_get_a_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    display = display_for("json")
    display.update(Progress(stage="init\x1b\udcff"))
    display.update(Progress(stage="init\x1b\udcff", elapsed=21.0))
    display.update(Progress(stage="running", total=None, seconds_left=None, elapsed=22.0))
    display.close()
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert out.isascii()
    assert err == ""
    assert (first["event"], first["stage"], first["succeeded"], first["total"]) == (
        "progress",
        "init\x1b\udcff",
        1200,
        4000,
    )
    assert (second["seconds_left"], second["total"]) == (None, None)


def test_nothing_may_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    display = display_for("off")
    display.update(Progress())
    display.close()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_anything_else_lines(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(display_for(stream=io.StringIO()), LineDisplay)
    bar = display_for(stream=Terminal())
    assert isinstance(bar, BarDisplay)
    bar.update(Progress(stage="[red]x[/]\x1b", total=None))
    bar.update(Progress(stage="[red]x[/]\x1b"))
    bar.close()
    shown = capsys.readouterr().err
    assert "[red]x[/]\\x1b" in shown
    assert "1,200 of 4,000" in shown


def test_the_end_of_one_that_failed_names_the_log_to_open_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = StepSummary("Failed", 5, 3, 0, 5, 3, 0, 5, 3, 1.0, 1.0)
    fault = str(tmp_path / "logs/sys/error/driver.txt")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / places.JOB_RESULT_JSON).write_text(JobResult(summary, "a fault", open_first=fault).to_json())
    run = SimpleNamespace(
        summary=lambda: summary, output_file=None, run_folder=tmp_path, error="a fault", resume_hint="prs-dask resume"
    )
    tell_end(run, "Failed")
    assert f"look at: {fault}\n" in capsys.readouterr().err

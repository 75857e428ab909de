from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest

from prs_dask.cli.progress_display import BarDisplay, LineDisplay, display_for, progress_words


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
    rate: float = 60.0
    seconds_left: float | None = 46.7
    elapsed: float = 20.0


def test_words_tell_counts_rate_and_time_left() -> None:
    assert progress_words(Progress()) == "1,200 of 4,000 mini-batches, 2 running, 60.0/s, about 46.7 s left"


def test_words_tell_failures_where_there_are_some() -> None:
    words = progress_words(Progress(failed=3, failed_items=30, total=None, seconds_left=None))
    assert words == "1,203 of at least 4,000 mini-batches, 3 failed (30 items), 2 running, 60.0/s"


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


def test_a_terminal_gets_a_bar_and_anything_else_lines(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(display_for(io.StringIO()), LineDisplay)
    bar = display_for(Terminal())
    assert isinstance(bar, BarDisplay)
    bar.update(Progress(stage="[red]x[/]\x1b", total=None))
    bar.update(Progress(stage="[red]x[/]\x1b"))
    bar.close()
    shown = capsys.readouterr().err
    assert "[red]x[/]\\x1b" in shown
    assert "1,200 of 4,000" in shown

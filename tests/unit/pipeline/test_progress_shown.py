"""Who waits is shown how far it is: lines of the overview, or a card that changes in place."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.logs.summary import Progress
from prs_dask.pipeline.progress_html import ShownRun
from prs_dask.pipeline.progress_shown import Card, Lines, shown_progress

PROGRESS = Progress("Running", "running", 4000, 4000, 1200, 3, 2, 30, 12_030, 60.0, 46.7, 20.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeDisplay:
    """Remembers what was shown first, and each update of it."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []
        self.displayed = 0

    def __call__(self, data: dict[str, str], *, raw: bool, display_id: bool) -> FakeDisplay:
        assert raw
        assert display_id
        self.displayed += 1
        self.shown.append(data)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)


def test_a_line_comes_at_each_change_and_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for second in range(25):
        clock.now = float(second)
        lines.update(PROGRESS)
    lines.update(replace(PROGRESS, stage="finishing the output"))
    lines.end("State: Completed\n")
    lines.leave()
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told if line] == [
        "Running, running",
        "Running, running",
        "Running, running",
        "Running, finishing the output",
        "State",
    ]
    assert "1,203 of 4,000 mini-batches done" in told[0]


def test_a_card_is_displayed_once_and_then_updated() -> None:
    clock, display = Clock(), FakeDisplay()
    progress = [PROGRESS]
    card = Card(lambda note: ShownRun("score", "/runs/1", progress[0], note=note), display, clock)
    card.update(PROGRESS)
    for tenth in range(1, 20):  # of them every fifth is shown
        clock.now = tenth / 10
        progress[0] = replace(PROGRESS, succeeded=1200 + tenth)
        card.update(progress[0])
    progress[0] = replace(PROGRESS, state="Completed", succeeded=3997)
    card.end("State: Completed")
    assert display.displayed == 1
    assert len(display.shown) == 5
    assert "Completed" in display.shown[-1]["text/html"]
    assert display.shown[-1]["text/plain"].startswith("Completed: 4,000 of 4,000 mini-batches done")


def test_what_does_not_change_is_not_sent_again() -> None:
    clock, display = Clock(), FakeDisplay()
    card = Card(lambda note: ShownRun("score", "/runs/1", PROGRESS, note=note), display, clock)
    for second in range(10):
        clock.now = float(second)
        card.update(PROGRESS)
    assert len(display.shown) == 1


def test_a_card_that_nobody_waits_for_any_more_says_so() -> None:
    display = FakeDisplay()
    card = Card(lambda note: ShownRun("score", "/runs/1", PROGRESS, note=note), display, Clock())
    card.update(PROGRESS)
    card.leave()
    assert "not updated any more" in display.shown[-1]["text/html"]


@pytest.mark.parametrize(("kernel", "expected"), [(object(), Card), (None, Lines)])
def test_a_kernel_gets_a_card_and_anything_else_lines(
    monkeypatch: pytest.MonkeyPatch, kernel: Any, expected: type
) -> None:
    shell = SimpleNamespace(kernel=kernel)
    display = SimpleNamespace(display=FakeDisplay())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert isinstance(shown_progress(lambda note: ShownRun("score", "/runs/1", PROGRESS)), expected)
    monkeypatch.delitem(sys.modules, "IPython")
    assert isinstance(shown_progress(lambda note: ShownRun("score", "/runs/1", PROGRESS)), Lines)

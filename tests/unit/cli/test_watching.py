"""Interrupts around the end of a step run: before it is known they cancel, afterwards they leave out the report."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from prs_dask.cli.interrupts import Interrupts
from prs_dask.cli.watching import watch, watch_report


class Run:
    """A step run that ends after so many looks, and whose report comes when it is killed or after so many more."""

    run_folder = Path("run")
    report_file = None

    def __init__(self, looks: int, at_look: dict[int, int] | None = None, report_looks: int = 100) -> None:
        self.looks, self.at_look, self.report_looks = looks, at_look or {}, report_looks
        self.canceled, self.killed = threading.Event(), threading.Event()

    def wait_for_end(self, timeout_seconds: float | None = None) -> bool:
        self.looks -= 1
        for _ in range(self.at_look.get(self.looks, 0)):
            signal.raise_signal(signal.SIGINT)
        return self.looks <= 0

    def wait_for_report(self, timeout_seconds: float | None = None) -> bool:
        self.report_looks -= 1
        return self.killed.is_set() or self.report_looks <= 0

    def get_status(self) -> str:
        return "Canceled" if self.canceled.is_set() else "Completed"

    def progress(self) -> None: ...

    def cancel(self) -> None:
        self.canceled.set()

    def kill(self) -> None:
        self.killed.set()


class Display:
    def update(self, progress: object) -> None: ...
    def close(self) -> None: ...
    def report(self, path: Path) -> None: ...


@pytest.fixture
def interrupts():
    with Interrupts() as entered:
        yield entered


def test_an_interrupt_between_the_end_and_the_report_leaves_the_report_out(interrupts, capsys):
    run = Run(3)
    assert watch(run, interrupts, Display()) == "Completed"
    signal.raise_signal(signal.SIGINT)
    watch_report(run, interrupts, Display())
    assert run.killed.is_set()
    assert "the report was left out" in capsys.readouterr().err


def test_one_that_came_with_the_end_does_so_too(interrupts, capsys):
    run = Run(3, {0: 1})
    assert watch(run, interrupts, Display()) == "Completed"
    watch_report(run, interrupts, Display())
    assert (run.killed.is_set(), run.canceled.is_set()) == (True, False)


def test_one_that_has_ended_the_reports_process_itself_is_told_as_well(interrupts, capsys):
    run = Run(3, report_looks=1)
    assert watch(run, interrupts, Display()) == "Completed"
    signal.raise_signal(signal.SIGINT)
    watch_report(run, interrupts, Display())
    assert "the report was left out" in capsys.readouterr().err


def test_the_interrupt_that_has_canceled_the_step_run_leaves_its_report_alone(interrupts, capsys):
    run = Run(5, {3: 1}, report_looks=3)
    watch(run, interrupts, Display())
    assert run.canceled.wait(5)
    watch_report(run, interrupts, Display())
    assert not run.killed.is_set()
    assert "left out" not in capsys.readouterr().err


def test_a_step_run_that_was_ended_at_once_has_no_report_to_wait_for(interrupts, capsys):
    run = Run(9, {5: 2})
    watch(run, interrupts, Display())
    watch_report(run, interrupts, Display())
    assert run.report_looks == 100

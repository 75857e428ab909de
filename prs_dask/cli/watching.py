"""Watch a step run to its end, and then its report: show its progress, and obey Ctrl-C."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Protocol

from prs_dask.cli.interrupts import Interrupts
from prs_dask.cli.progress_display import Display, ProgressLike
from prs_dask.cli.terminal_text import tell_error

__all__ = ["EXIT_CODES", "StepRunLike", "watch", "watch_report"]

EXIT_CODES = {"Completed": 0, "Failed": 1, "Canceled": 130}

BETWEEN_LOOKS = 0.1
SECONDS_AFTER_KILL = 5.0


class StepRunLike(Protocol):
    """What is used here of a StepRun."""

    run_folder: Path

    @property
    def report_file(self) -> Path | None: ...
    def wait_for_end(self, timeout_seconds: float | None = ...) -> bool: ...
    def wait_for_report(self, timeout_seconds: float | None = ...) -> bool: ...
    def get_status(self) -> str: ...
    def progress(self) -> ProgressLike: ...
    def cancel(self) -> None: ...
    def kill(self) -> None: ...


def watch(step_run: StepRunLike, interrupts: Interrupts, display: Display) -> str:
    """Wait for the end of a step run and return its state; its report may still be written then.

    The first interrupt cancels it in order, the second ends it at once.
    """
    interrupts.patience = 2
    give_up_at = float("inf")
    try:
        while not step_run.wait_for_end(BETWEEN_LOOKS):
            if interrupts.count > interrupts.obeyed:
                interrupts.obeyed = _obey(step_run, interrupts.count)
                if interrupts.obeyed > 1:
                    give_up_at = time.monotonic() + SECONDS_AFTER_KILL
            if time.monotonic() > give_up_at:
                return "Canceled"
            display.update(step_run.progress())
        display.update(step_run.progress())
    finally:
        display.close()
    return step_run.get_status()


def watch_report(step_run: StepRunLike, interrupts: Interrupts, display: Display) -> None:
    """Wait for the report of a step run whose end was told; an interrupt leaves it out, and changes nothing else.

    So does one that came while the end was being told.
    """
    if interrupts.obeyed > 1:  # it was ended at once, and is to have none
        return
    interrupts.patience = sys.maxsize
    while not step_run.wait_for_report(BETWEEN_LOOKS):
        if interrupts.count > interrupts.obeyed:
            step_run.kill()
            step_run.wait_for_report(SECONDS_AFTER_KILL)
            break
    if step_run.report_file is not None:
        display.report(step_run.report_file)
    elif interrupts.count > interrupts.obeyed:  # it may have reached the report's process itself, just as that began
        tell_error("the report was left out")


def _obey(step_run: StepRunLike, count: int) -> int:
    # In threads of their own, so that the next Ctrl-C is seen however long these take.
    if count == 1:
        tell_error("canceling: what runs is stopped and what is finished is kept; Ctrl-C again ends at once")
        threading.Thread(target=step_run.cancel, name="cancel", daemon=True).start()
    else:
        tell_error("ending at once")
        threading.Thread(target=step_run.kill, name="kill", daemon=True).start()
    return count

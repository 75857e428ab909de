"""Watch a step run to its end: show its progress, and obey Ctrl-C."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

from prs_dask.cli.interrupts import Interrupts
from prs_dask.cli.progress_display import Display, ProgressLike
from prs_dask.cli.terminal_text import tell_error

__all__ = ["EXIT_CODES", "StepRunLike", "watch"]

EXIT_CODES = {"Completed": 0, "Failed": 1, "Canceled": 130}

BETWEEN_LOOKS = 0.1
SECONDS_AFTER_KILL = 5.0


class StepRunLike(Protocol):
    """What is used here of a StepRun."""

    run_folder: Path

    def wait_for_completion(
        self, show_output: bool = ..., timeout_seconds: float | None = ..., raise_on_error: bool = ...
    ) -> str: ...
    def progress(self) -> ProgressLike: ...
    def cancel(self) -> None: ...
    def kill(self) -> None: ...


def watch(step_run: StepRunLike, interrupts: Interrupts, display: Display) -> str:
    """Wait for the end of a step run and return its state.

    The first interrupt cancels it in order, the second ends it at once.
    """
    outcome: list[str | BaseException] = []
    ended = threading.Event()

    def wait() -> None:
        try:
            outcome.append(step_run.wait_for_completion(raise_on_error=False))
        except BaseException as error:  # handed to the waiting thread
            outcome.append(error)
        finally:
            ended.set()

    threading.Thread(target=wait, name="wait for the step run", daemon=True).start()
    interrupts.patience = 2
    obeyed = 0
    give_up_at = float("inf")
    try:
        while not ended.wait(BETWEEN_LOOKS):
            if interrupts.count > obeyed:
                obeyed = _obey(step_run, interrupts.count)
                if obeyed > 1:
                    give_up_at = time.monotonic() + SECONDS_AFTER_KILL
            if time.monotonic() > give_up_at:
                return "Canceled"
            display.update(step_run.progress())
        display.update(step_run.progress())
    finally:
        display.close()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _obey(step_run: StepRunLike, count: int) -> int:
    # In threads of their own, so that the next Ctrl-C is seen however long these take.
    if count == 1:
        tell_error("canceling: what runs is stopped and what is finished is kept; Ctrl-C again ends at once")
        threading.Thread(target=step_run.cancel, name="cancel", daemon=True).start()
    else:
        tell_error("ending at once")
        threading.Thread(target=step_run.kill, name="kill", daemon=True).start()
    return count

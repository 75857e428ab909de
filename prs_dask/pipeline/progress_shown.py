"""What ``wait_for_completion(show_output=True)`` shows: a card that is updated in notebooks, lines elsewhere.

The waiting thread updates the card, in the cell that waits: so front ends and ``nbconvert`` put it there, and what it
shows last is what a saved notebook keeps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from prs_dask.logs.summary import Progress, format_progress
from prs_dask.pipeline.progress_html import ShownRun, progress_html

__all__ = ["Card", "Lines", "Shown", "in_notebook", "shown_progress"]

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_CARDS = 0.5


class Shown(Protocol):
    """Told often, it decides what is worth showing."""

    def update(self, progress: Progress) -> None:
        """As it is now."""

    def end(self, result: str) -> None:
        """The step run has ended so (``job_result.txt``)."""

    def leave(self) -> None:
        """Nobody waits any more, though it goes on."""


def shown_progress(snapshot: Callable[[str], ShownRun]) -> Shown:
    """What fits here. ``snapshot`` gives the step run as it is now, with a note."""
    return Card(snapshot, _display()) if in_notebook() else Lines()


def in_notebook() -> bool:
    """Is there a kernel, whose front end shows HTML?"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _display() -> Callable[..., Any]:
    from IPython.display import display

    return display


class Lines:
    """The words of the overview: a line at each change of state or stage, and every ten seconds between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told = ("", "")
        self._next = 0.0

    def update(self, progress: Progress) -> None:
        now = self._clock()
        state = (progress.state, progress.stage)
        if state != self._told or now >= self._next:
            self._told, self._next = state, now + SECONDS_BETWEEN_LINES
            _print(format_progress(progress))

    def end(self, result: str) -> None:
        _print(result)

    def leave(self) -> None:
        pass


class Card:
    """A card that changes in place; the last one stays in the saved notebook."""

    def __init__(
        self,
        snapshot: Callable[[str], ShownRun],
        display: Callable[..., Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._display = display
        self._clock = clock
        self._handle: Any = None
        self._shown = ""
        self._next = 0.0

    def update(self, progress: Progress) -> None:
        if (now := self._clock()) >= self._next:
            self._next = now + SECONDS_BETWEEN_CARDS
            self._show("")

    def end(self, result: str) -> None:
        self._show("")

    def leave(self) -> None:
        self._show("it goes on; this is not updated any more")

    def _show(self, note: str) -> None:
        shown = self._snapshot(note)
        html = progress_html(shown)
        if html == self._shown:
            return
        self._shown = html
        data = {"text/html": html, "text/plain": format_progress(shown.progress)}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _print(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)

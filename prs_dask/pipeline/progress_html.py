"""A step run as a small piece of HTML, for notebooks. Pure.

It has neither script nor style sheet and no reference to anywhere, so that a saved notebook shows it as it was. Colours
of text and ground are the page's own, and those of the bar can be told on white and on black.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from prs_dask.logs.summary import Progress
from prs_dask.logs.text import plain, shortened
from prs_dask.quantities import format_count, format_rate, format_seconds

__all__ = ["ShownRun", "progress_html"]

_COLOURS = {"succeeded": "#2e9e5b", "failed": "#d64545", "running": "#4a8fdb", "waiting": "#8a8f98"}
_OF_STATE = {"Completed": "succeeded", "Failed": "failed", "Canceled": "waiting", "Running": "running"}
_CARD = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;max-width:720px;"
    "padding:8px 12px;border:1px solid rgba(128,128,128,.4);border-radius:6px;overflow-wrap:anywhere"
)
_BAR = "display:flex;height:10px;margin:6px 0;border-radius:5px;overflow:hidden;background:"
_LEFT = "rgba(128,128,128,.25)"
_NOT_LISTED = "repeating-linear-gradient(45deg,rgba(128,128,128,.12) 0 6px,rgba(128,128,128,.38) 6px 12px)"
_PRE = (
    "margin:6px 0 0;white-space:pre-wrap;max-height:16em;overflow:auto;background:none;color:inherit;"
    "font:12px/1.5 var(--jp-code-font-family,monospace)"
)
_CAUSE = 4000


@dataclass(frozen=True, slots=True)
class ShownRun:
    """What is shown of a step run.

    Parameters
    ----------
    name, run_folder
        As texts.
    progress
        How far it is.
    output
        Where its rows are; empty where there are none.
    error, resume
        Why it failed or was canceled, and how to go on with it; empty while it runs, or where it completed.
    note
        About what is shown, such as of when it is.
    """

    name: str
    run_folder: str
    progress: Progress
    output: str = ""
    error: str = ""
    resume: str = ""
    note: str = ""


def progress_html(shown: ShownRun) -> str:
    """The whole of it."""
    progress = shown.progress
    stage = progress.stage if progress.state == "Running" and progress.stage else progress.state
    colour = _COLOURS[_OF_STATE.get(progress.state, "waiting")]
    dot = f'<span style="color:{colour}" aria-hidden="true">&#9679;</span>'
    parts = [
        f"<div>{dot} <b>{_text(shown.name)}</b> &middot; {_text(stage)}</div>",
        _bar(progress),
        f"<div>{_text(_counts(progress))}</div>",
        f'<div style="opacity:.8">{_text(_times(progress))}</div>',
    ]
    for label, text in (("output", shown.output), ("run folder", shown.run_folder)):
        if text:
            parts.append(f'<div style="opacity:.8">{label}: <code>{_text(text)}</code></div>')
    if shown.error:
        parts.append(f'<pre style="{_PRE}">{_text(shortened(shown.error, _CAUSE))}</pre>')
    if shown.resume:
        parts.append(f"<div>to go on with it: <code>{_text(shown.resume)}</code></div>")
    if shown.note:
        parts.append(f'<div style="opacity:.8"><i>{_text(shown.note)}</i></div>')
    return f'<div style="{_CARD}">{"".join(parts)}</div>'


def _bar(progress: Progress) -> str:
    known = max(progress.total or 0, progress.created, 1)
    done = progress.succeeded + progress.failed
    counts = {
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "running": min(progress.running, known - done) if progress.state == "Running" else 0,
    }
    pieces = "".join(
        f'<div title="{count:,} {name}" style="width:{100 * count / known:.3f}%;min-width:2px;'
        f'background:{_COLOURS[name]}"></div>'
        for name, count in counts.items()
        if count > 0
    )
    left = _LEFT if progress.total is not None else _NOT_LISTED
    percent = f' aria-valuenow="{100 * done // progress.total}"' if progress.total else ""
    return f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100"{percent} style="{_BAR}{left}">{pieces}</div>'


def _counts(progress: Progress) -> str:
    if not progress.created:
        return "no mini-batches yet"
    known = progress.created if progress.total is None else progress.total
    least = "at least " if progress.total is None else ""
    words = [f"{format_count(progress.succeeded + progress.failed)} of {least}{format_count(known)} mini-batches"]
    if progress.failed:
        words.append(f"{format_count(progress.failed)} failed")
    if progress.running and progress.state == "Running":
        words.append(f"{format_count(progress.running)} running")
    failed = f" ({format_count(progress.failed_items)} failed)" if progress.failed_items else ""
    words.append(f"{format_count(progress.items)} items{failed}")
    return " · ".join(words)


def _times(progress: Progress) -> str:
    words = [format_rate(progress.rate)] if progress.rate > 0 else []
    if progress.state == "Running" and progress.seconds_left is not None:
        words.append(f"about {format_seconds(progress.seconds_left)} left")
    elif progress.state == "Running" and progress.created:
        words.append("time left not known yet")
    words.append(f"{format_seconds(progress.elapsed)}{' so far' if progress.state == 'Running' else ''}")
    return " · ".join(words)


def _text(text: str) -> str:
    return escape(plain(text))

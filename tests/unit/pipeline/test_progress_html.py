"""The card of a step run in a notebook: what it says, and that nothing in it can do anything."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.summary import Progress
from prs_dask.pipeline.progress_html import ShownRun, progress_html

RUNNING = Progress(
    state="Running",
    stage="running",
    total=4000,
    created=4000,
    succeeded=1200,
    failed=3,
    running=2,
    failed_items=30,
    items=12_030,
    rate=60.0,
    seconds_left=46.7,
    elapsed=20.0,
)


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def shown(progress: Progress = RUNNING, **texts: str) -> ShownRun:
    return ShownRun(**{"name": "score", "run_folder": "/runs/score-1", "progress": progress, **texts})


def test_it_tells_counts_rate_and_time_left() -> None:
    text = Parsed(progress_html(shown())).text
    assert "1,203 of 4,000 mini-batches · 3 failed · 2 running · 12,030 items (30 failed)" in text
    assert "60.0/s · about 46.7 s left · 20.0 s so far" in text
    assert "/runs/score-1" in text


def test_while_inputs_are_listed_nothing_is_promised() -> None:
    text = Parsed(progress_html(shown(replace(RUNNING, total=None, seconds_left=None)))).text
    assert "1,203 of at least 4,000 mini-batches" in text
    assert "time left not known yet" in text
    text = Parsed(progress_html(shown(replace(RUNNING, total=None, created=0, stage="starting workers")))).text
    assert "starting workers" in text
    assert "no mini-batches yet" in text


def test_at_the_end_it_tells_where_the_output_is_or_why_there_is_none() -> None:
    done = replace(RUNNING, state="Completed", succeeded=3997, running=0, seconds_left=0.0)
    text = Parsed(progress_html(shown(done, output="/out/rows.txt"))).text
    assert "Completed" in text
    assert "/out/rows.txt" in text
    assert "left" not in text
    failed = replace(RUNNING, state="Failed")
    text = Parsed(progress_html(shown(failed, error="no <b>workers", resume="prs-dask resume /runs/score-1"))).text
    assert "no <b>workers" in text
    assert "prs-dask resume /runs/score-1" in text


def test_the_bar_shows_what_succeeded_failed_and_runs() -> None:
    tags = Parsed(progress_html(shown())).tags
    (bar,) = [attributes for _, attributes in tags if attributes.get("role") == "progressbar"]
    assert bar["aria-valuenow"] == "30"
    widths = {attributes["title"]: attributes["style"] for _, attributes in tags if "title" in attributes}
    assert widths["1,200 succeeded"].startswith("width:30.000%")
    assert set(widths) == {"1,200 succeeded", "3 failed", "2 running"}


HOSTILE = st.text(alphabet=st.characters(), max_size=50) | st.sampled_from(
    ["<script>alert(1)</script>", "\x1b[31mred", "\ud800", '"><img src=x onerror=y>', "&lt;"]
)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_texts_of_users_are_texts(name: str, folder: str, error: str, resume: str) -> None:
    html = progress_html(shown(name=name, run_folder=folder, error=error, resume=resume, output=name, note=folder))
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.tags} <= {"div", "span", "b", "i", "code", "pre"}
    assert {key for _, attributes in parsed.tags for key in attributes} <= {
        "style",
        "title",
        "role",
        "aria-hidden",
        "aria-valuemin",
        "aria-valuemax",
        "aria-valuenow",
    }
    assert not parsed.open
    html.encode()
    assert "\x1b" not in html


def test_an_error_of_any_length_stays_small() -> None:
    assert len(progress_html(shown(error="x" * 1_000_000))) < 10_000

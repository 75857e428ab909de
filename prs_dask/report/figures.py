"""The report's figures, drawn with Bokeh. No text of users stands in them: numbers, and names that prs_dask gave.

Grounds are transparent; the page sets the colours of lines and text by the reader's scheme (``page.js``).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Span
from bokeh.models.glyphs import Line, Quad, Scatter
from bokeh.plotting import figure
from numpy.typing import NDArray

from prs_dask.logs.roll_up import Histogram, Process, RollUp
from prs_dask.logs.text import process_label
from prs_dask.quantities import format_seconds
from prs_dask.report.folded_time import FoldedTime
from prs_dask.report.lives import Life
from prs_dask.report.resource_usage import NodeUsage
from prs_dask.report.timeline import DOING, FAILED, READ, REST, RUN, STARTING, WAITING, ExactAttempts, Timeline

__all__ = [
    "MOST_DRAWN_LANES",
    "TimeAxis",
    "color_of",
    "lanes",
    "rates",
    "run_times",
    "shares",
    "throughput",
    "where_time_went",
]

MOST_DRAWN_LANES = 64
_LEAST_BARS, _MOST_BARS = 24, 240
_MOST_EDGES = 6
_MOST_LANE_BARS = 100
_LEAST_SHARE = 0.02
"""Of a bar in a lane: less cannot be seen."""

_GOOD, _BAD, _AGAIN, _OVERTAKEN = (DOING[kind].color for kind in (RUN, FAILED, STARTING, REST))
_LINES = ("#3b82f6", "#f59e0b", "#14b8a6", "#a78bfa", "#ef4444", "#94a3b8")
_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))

Floats = NDArray[np.float64]


class TimeAxis:
    """The axis that all figures over time share: folded seconds since the first process, in a unit that fits.

    Parameters
    ----------
    time
        The time.
    since, until
        Folded seconds that are shown.
    """

    def __init__(self, time: FoldedTime, since: float, until: float) -> None:
        self.unit, self._seconds = next((unit for unit in _UNITS if until - since >= 3 * unit[1]), ("seconds", 1.0))
        self.time = time
        margin = max(until - since, 0.01) * 0.01
        self.start, self.end = self.of(since - margin), self.of(until + margin)
        self.range = Range1d(start=self.start, end=self.end)

    def of(self, seconds: Any) -> Any:
        """Folded seconds, in the unit."""
        return seconds / self._seconds

    def figure(self, height: int, y_label: str, y_range: Any = None) -> Any:
        """An empty figure over time; a dashed line where time is folded."""
        drawn = _figure(height, f"{self.unit} since the first worker process was started", y_label, self.range, y_range)
        for fold in self.time.folds:
            drawn.add_layout(
                Span(
                    location=self.of(float(self.time.of(fold.start))),
                    dimension="height",
                    line_dash="dashed",
                    line_color="#94a3b8",
                )
            )
        return drawn


def where_time_went(axis: TimeAxis, timeline: Timeline) -> Any:
    """What how many processes were doing, over time."""
    drawn = axis.figure(220, "processes")
    bins = timeline.whole.coarser(_MOST_BARS)
    bottom = np.zeros(bins.used)
    for kind, doing in enumerate(DOING):
        seconds = timeline.waiting(bins) if kind == WAITING else bins.amounts(kind)
        top = bottom + seconds / bins.width
        shown = top > bottom
        source = _source(
            left=axis.of(bins.edges[:-1])[shown],
            right=axis.of(bins.edges[1:])[shown],
            bottom=bottom[shown],
            top=top[shown],
            processes=(top - bottom)[shown],
        )
        bars = _bars(
            drawn,
            source,
            color=doing.color,
            fill_alpha=0.3 if kind == WAITING else 0.9,
        )
        _hover(drawn, bars, [(doing.name, "@processes{0.00} processes"), (axis.unit, "@left{0.00}")])
        bottom = top
    drawn.y_range.start = 0
    return drawn


def lanes(axis: TimeAxis, timeline: Timeline, lives: Mapping[Process, Life]) -> Any:
    """A lane for each process: its attempts, or where they are many, shares of its time."""
    chosen = drawn_processes(timeline)
    height = 60 + max(12, min(22, 700 // max(len(chosen), 1))) * len(chosen)
    drawn = axis.figure(height, "", Range1d(start=len(chosen) - 0.4, end=-0.6))
    drawn.yaxis.ticker = FixedTicker(ticks=list(range(len(chosen))))
    drawn.yaxis.major_label_overrides = {at: process_label(*process) for at, process in enumerate(chosen)}
    drawn.yaxis.major_tick_line_color = None
    drawn.ygrid.visible = False
    place = {process: at for at, process in enumerate(chosen)}
    _draw_lives(drawn, axis, place, lives)
    exact = timeline.exact
    places = np.full(max(len(timeline.lanes), 1), -1)
    for process, lane in timeline.lanes.items():
        places[lane] = place.get(process, -1)
    if exact is not None:
        _draw_attempts(drawn, axis, exact, places)
    else:
        _draw_shares(drawn, axis, timeline, places)
    return drawn


def drawn_processes(timeline: Timeline) -> list[Process]:
    """Those that have a lane in the figure: the busiest, in order of their numbers."""
    busy = sum((timeline.by_lane.of_rows(kind).sum(axis=1) for kind in (RUN, FAILED, READ, REST)), np.zeros(1))
    busiest = sorted(timeline.lanes, key=lambda process: -float(busy[timeline.lanes[process]]))
    return sorted(busiest[:MOST_DRAWN_LANES])


def _draw_lives(drawn: Any, axis: TimeAxis, place: Mapping[Process, int], lives: Mapping[Process, Life]) -> None:
    known = [(process, life) for process, life in lives.items() if process in place]
    at = np.array([place[process] for process, _ in known], np.float64)
    start, ready, end = (
        axis.of(np.array([getattr(life, name) for _, life in known], np.float64)) for name in ("start", "ready", "end")
    )
    label = [process_label(*process) for process, _ in known]
    ground = _source(left=ready, right=end, top=at - 0.08, bottom=at + 0.08, label=label)
    _bars(drawn, ground, color=DOING[WAITING].color, fill_alpha=0.5)
    begun = ready > start
    source = _source(
        left=start[begun],
        right=ready[begun],
        top=at[begun] - 0.4,
        bottom=at[begun] + 0.4,
        label=[one for one, kept in zip(label, begun, strict=True) if kept],
    )
    bars = _bars(drawn, source, color=DOING[STARTING].color)
    early = np.array([life.early for _, life in known], bool)
    width = (axis.end - axis.start) * 2e-3
    ends = _source(
        left=end[early],
        right=end[early] + width,
        top=at[early] - 0.48,
        bottom=at[early] + 0.48,
        label=[one for one, kept in zip(label, early, strict=True) if kept],
    )
    marks = _bars(drawn, ends, color=_BAD)
    _hover(drawn, marks, [("process", "@label"), ("ended early", f"@left{{0.00}} {axis.unit}")])
    _hover(drawn, bars, [("process", "@label"), (DOING[STARTING].name, f"@left{{0.00}} to @right{{0.00}} {axis.unit}")])


def _draw_attempts(drawn: Any, axis: TimeAxis, exact: ExactAttempts, places: NDArray[np.int64]) -> None:
    records = exact.records
    at = np.where(exact.lanes >= 0, places[np.maximum(exact.lanes, 0)], -1).astype(np.float64)
    good = records["category"] == 0
    read, run = records["read"].astype(np.float64), records["run"].astype(np.float64)
    run_start = exact.starts + read
    end = exact.starts + records["elapsed"]
    everywhere = np.ones(len(records), bool)
    parts = (
        (READ, everywhere, exact.starts, run_start),
        (RUN, good, run_start, run_start + run),
        (FAILED, ~good, run_start, run_start + run),
        (REST, everywhere, run_start + run, end),
    )
    names = np.array(exact.names, object)
    least = (axis.end - axis.start) * 2e-4  # less cannot be seen, but for run() itself
    for kind, of_kind, left, right in parts:
        shown = of_kind & (at >= 0)
        if kind in (READ, REST):
            shown &= axis.of(right - left) > least
        source = _source(
            left=axis.of(left)[shown],
            right=axis.of(right)[shown],
            top=at[shown] - 0.4,
            bottom=at[shown] + 0.4,
            seconds=(right - left)[shown],
            name=list(names[shown]),
            attempt=records["attempt"][shown].astype(np.uint16),
            items=records["items"][shown],
        )
        bars = _bars(
            drawn,
            source,
            color=DOING[kind].color,
            line_color="#ffffff",
            line_alpha=0.4,
            line_width=0.5,
        )
        told = [
            ("mini-batch", "@name, attempt @attempt, @items items"),
            (DOING[kind].name, "@seconds{0.000} s"),
            (axis.unit, "@left{0.000} to @right{0.000}"),
        ]
        _hover(drawn, bars, told)


def _draw_shares(drawn: Any, axis: TimeAxis, timeline: Timeline, places: NDArray[np.int64]) -> None:
    bins = timeline.by_lane.coarser(_MOST_LANE_BARS)
    bottom = np.zeros((len(places), bins.used))
    left, right = axis.of(bins.edges[:-1]), axis.of(bins.edges[1:])
    for kind in (RUN, FAILED, READ, REST):
        share = np.minimum(bins.of_rows(kind)[: len(places)] / bins.width, 1.0)
        top = np.minimum(bottom + share, 1.0)
        lane, number = np.nonzero((share >= _LEAST_SHARE) & (places[:, None] >= 0))
        at = places[lane]
        source = _source(
            left=left[number],
            right=right[number],
            top=at + 0.4 - 0.8 * top[lane, number],
            bottom=at + 0.4 - 0.8 * bottom[lane, number],
            share=share[lane, number] * 100,
        )
        bars = _bars(drawn, source, color=DOING[kind].color)
        _hover(drawn, bars, [(DOING[kind].name, "@share{0}% of the time"), (axis.unit, "@left{0.00} to @right{0.00}")])
        bottom = np.where(share >= _LEAST_SHARE, top, bottom)


def throughput(axis: TimeAxis, roll_up: RollUp) -> Any:
    """Attempts that ended, by the second."""
    # Of few attempts, a bar holds some: one for each would be a comb.
    bins = roll_up.over_time.coarser(min(_MOST_BARS, max(_LEAST_BARS, roll_up.total.attempts // 8)))
    drawn = axis.figure(220, "mini-batches a second")
    bottom = np.zeros(bins.used)
    kinds = (
        (RollUp.SUCCEEDED, "succeeded", _GOOD),
        (RollUp.FAILED, "failed for good", _BAD),
        (RollUp.RETRIED, "failed, tried again", _AGAIN),
        (RollUp.OVERTAKEN, "another was faster", _OVERTAKEN),
    )
    items = bins.amounts(RollUp.ITEMS) / bins.width
    for kind, name, color in kinds:
        rate = bins.amounts(kind) / bins.width
        top, shown = bottom + rate, rate > 0
        source = _source(
            left=axis.of(bins.edges[:-1])[shown],
            right=axis.of(bins.edges[1:])[shown],
            bottom=bottom[shown],
            top=top[shown],
            rate=rate[shown],
            items=items[shown],
        )
        bars = _bars(drawn, source, color=color, fill_alpha=0.85)
        told = [(name, "@rate{0,0.0} a second"), ("items", "@items{0,0.0} a second"), (axis.unit, "@left{0.00}")]
        _hover(drawn, bars, told)
        bottom = top
    drawn.y_range.start = 0
    return drawn


def run_times(roll_up: RollUp) -> Any:
    """How long run() took, by the logarithm."""
    good, bad = roll_up.run_times
    used = np.flatnonzero(good.counts + bad.counts)
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    together = max(1, -(-(last - first + 1) // 60))  # bins to one bar
    drawn = _figure(220, "time in run()", "attempts")
    decade = Histogram.PER_DECADE
    low, high = first // decade, -(-(last + 1) // decade)
    steps = (1, 2, 5) if high - low <= 3 else (1,)  # of few decades more than their ends are told
    marks = [step * 10.0 ** (power + Histogram.LOWEST) for power in range(low, high + 1) for step in steps]
    bounds = np.arange(first // together * together, last + 1 + together, together)
    edges = Histogram.LOWEST + bounds / decade
    if sum(edges[0] <= np.log10(mark) <= edges[-1] for mark in marks) < 2:  # all take about the same
        marks = (10.0 ** edges[:: -(-len(edges) // _MOST_EDGES)]).tolist()
    drawn.xaxis.ticker = FixedTicker(ticks=[float(np.log10(mark)) for mark in marks])
    drawn.xaxis.major_label_overrides = {float(np.log10(mark)): _short_seconds(mark) for mark in marks}
    bottom = np.zeros(len(bounds) - 1)
    for histogram, name, color in ((good, "succeeded", _GOOD), (bad, "failed", _BAD)):
        padded = np.concatenate([histogram.counts, np.zeros(together, np.int64)])
        counts = np.array([padded[a:b].sum() for a, b in pairwise(bounds)], np.float64)
        shown = counts > 0
        spans = [f"{format_seconds(10.0**a)} to {format_seconds(10.0**b)}" for a, b in pairwise(edges)]
        source = _source(
            left=edges[:-1][shown],
            right=edges[1:][shown],
            bottom=bottom[shown],
            top=(bottom + counts)[shown],
            count=counts[shown],
            span=[span for span, kept in zip(spans, shown, strict=True) if kept],
        )
        bars = _bars(
            drawn,
            source,
            color=color,
            line_width=0.5,
            line_color=color,
            fill_alpha=0.75,
        )
        _hover(drawn, bars, [(name, "@count{0,0} attempts"), ("run()", "@span")])
        bottom = bottom + counts
    drawn.y_range.start = 0
    return drawn


def shares(axis: TimeAxis, usage: NodeUsage) -> Any:
    """CPU, memory and GPUs of a node, in percent."""
    drawn = axis.figure(180, "percent", Range1d(start=0, end=102))
    _draw_lines(drawn, axis, usage.times, usage.shares, "%")
    return drawn


def rates(axis: TimeAxis, usage: NodeUsage) -> Any:
    """Disk and network of a node."""
    drawn = axis.figure(150, "MB a second")
    _draw_lines(drawn, axis, usage.times, usage.rates, "MB/s")
    drawn.y_range.start = 0
    return drawn


def color_of(line: int) -> str:
    """The colour of a figure's line, by its number."""
    return _LINES[line % len(_LINES)]


def _draw_lines(drawn: Any, axis: TimeAxis, times: Floats, lines: Mapping[str, Floats], unit: str) -> None:
    at = axis.of(axis.time.of(times))
    for number, (name, values) in enumerate(lines.items()):
        color = color_of(number)
        source = _source(x=at, y=values)
        line = drawn.add_glyph(source, Line(x="x", y="y", line_color=color, line_width=1.5))
        if len(at) <= 60:
            drawn.add_glyph(source, Scatter(x="x", y="y", fill_color=color, line_color=color, size=4))
        _hover(drawn, line, [(name, f"@y{{0.0}} {unit}"), (axis.unit, "@x{0.00}")], mode="vline")


def _figure(height: int, x_label: str, y_label: str, x_range: Any = None, y_range: Any = None) -> Any:
    ranges = {name: one for name, one in (("x_range", x_range), ("y_range", y_range)) if one is not None}
    drawn = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,reset",
        active_drag=None,
        active_scroll=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",
        x_axis_label=x_label,
        y_axis_label=y_label,
        min_border_right=12,
        **ranges,
    )
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.xgrid.visible = False
    drawn.axis.axis_label_text_font_style = "normal"
    drawn.yaxis.minor_tick_line_color = None
    drawn.yaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    drawn.xaxis.minor_tick_line_color = None
    return drawn


def _bars(drawn: Any, source: ColumnDataSource, color: str, line_color: str | None = None, **style: Any) -> Any:
    """Bars from ``left``, ``right``, ``top`` and ``bottom``, without the glyphs for selections that ``quad()`` adds."""
    bars = Quad(
        left="left", right="right", top="top", bottom="bottom", fill_color=color, line_color=line_color, **style
    )
    return drawn.add_glyph(source, bars)


def _hover(drawn: Any, renderer: Any, told: list[tuple[str, str]], mode: Literal["mouse", "vline"] = "mouse") -> None:
    drawn.add_tools(HoverTool(renderers=[renderer], tooltips=told, mode=mode, visible=False))


def _source(**columns: Any) -> ColumnDataSource:
    """Columns of numbers in 4 bytes each: they are seen, not computed with."""
    small = {
        name: column.astype(np.float32) if isinstance(column, np.ndarray) and column.dtype == np.float64 else column
        for name, column in columns.items()
    }
    return ColumnDataSource(small)


def _short_seconds(seconds: float) -> str:
    for most, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (1e5, 1.0, "s")):
        if seconds < most * 0.999:
            return f"{float(f'{seconds * factor:.3g}'):g} {unit}"
    return f"{seconds:.0e} s"

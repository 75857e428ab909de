"""The directive ``lifecycle``: the life of a mini-batch as a picture and a table.

Both are drawn from ``prs_dask.attempts.lifecycle.TRANSITIONS``; only the places of the states are
given here. The picture is plain SVG in the page: nothing is loaded, and it follows the theme.
"""

from __future__ import annotations

import math
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from prs_dask.attempts.lifecycle import TRANSITIONS, Event, State

PLACES = {
    State.PLANNED: (70, 150),
    State.QUEUED: (250, 150),
    State.RUNNING: (470, 150),
    State.SUCCEEDED: (690, 70),
    State.FAILED: (690, 230),
    State.COMMITTED: (880, 150),
    State.DROPPED: (250, 330),
}
WIDTH, HEIGHT = 110.0, 34.0
BEND = 0.18  # how far a curve leaves the straight line, as a part of its length


def words(name: str) -> str:
    """``FAIL_FOR_GOOD`` as people write it."""
    return name.lower().replace("_", " ")


def arrows() -> dict[tuple[State, State], list[Event]]:
    """What leads from one state to another one."""
    found: dict[tuple[State, State], list[Event]] = {}
    for state, row in TRANSITIONS.items():
        for event, following in row.items():
            if following != state:
                found.setdefault((state, following), []).append(event)
    return found


def unchanged() -> dict[Event, list[State]]:
    """Events that leave a state as it is."""
    found: dict[Event, list[State]] = {}
    for state, row in TRANSITIONS.items():
        for event, following in row.items():
            if following == state:
                found.setdefault(event, []).append(state)
    return found


def _border(center: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a box's center leaves the box."""
    dx, dy = towards[0] - center[0], towards[1] - center[1]
    scale = 1 / max(abs(dx) / (WIDTH / 2 + 3), abs(dy) / (HEIGHT / 2 + 3))
    return center[0] + dx * scale, center[1] + dy * scale


def _arrow(start: State, end: State, events: list[Event]) -> str:
    (x1, y1), (x2, y2) = PLACES[start], PLACES[end]
    length = math.hypot(x2 - x1, y2 - y1)
    bend = BEND * length if (end, start) in arrows() else 0.0
    bent = ((x1 + x2) / 2 + (y2 - y1) / length * bend, (y1 + y2) / 2 - (x2 - x1) / length * bend)
    (ax, ay), (bx, by) = _border((x1, y1), bent), _border((x2, y2), bent)
    along = 0.7 if end == State.DROPPED else 0.5
    x, y = (
        (1 - along) ** 2 * a + 2 * along * (1 - along) * bend_at + along**2 * b
        for a, bend_at, b in ((ax, bent[0], bx), (ay, bent[1], by))
    )
    y += 0 if not bend else -8 if bent[1] < y1 else 12  # beside a curve, on a straight line
    labels = [escape(words(event.name)) for event in events]
    lines = "".join(f'<tspan x="{x:.0f}" dy="{14 * (n > 0)}">{label}</tspan>' for n, label in enumerate(labels))
    return (
        f'<path d="M {ax:.0f} {ay:.0f} Q {bent[0]:.0f} {bent[1]:.0f} {bx:.0f} {by:.0f}" fill="none" '
        f'stroke="currentColor" marker-end="url(#prs-tip)" data-from="{start.name}" data-to="{end.name}"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="12" fill="currentColor" '
        f'paint-order="stroke" stroke="var(--pst-color-background, white)" stroke-width="6">{lines}</text>'
    )


def _box(state: State) -> str:
    x, y = PLACES[state]
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" rx="6" '
        f'fill="none" stroke="currentColor"/><text x="{x}" y="{y + 4}" text-anchor="middle" font-size="13" '
        f'fill="currentColor">{state.name}</text>'
    )


def svg() -> str:
    """The picture."""
    width = max(x for x, _ in PLACES.values()) + WIDTH / 2 + 10
    height = max(y for _, y in PLACES.values()) + HEIGHT / 2 + 10
    tip = (
        '<defs><marker id="prs-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M 0 0 L 8 4 L 0 8 z" fill="currentColor"/></marker></defs>'
    )
    drawn = "".join(_arrow(start, end, events) for (start, end), events in arrows().items())
    boxes = "".join(_box(state) for state in PLACES)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'style="max-width: 100%"><title>The life of a mini-batch</title>{tip}{drawn}{boxes}</svg>'
    )


def table() -> nodes.table:
    """Every transition: state, event, following state."""
    rows = [(state, event, following) for state, row in TRANSITIONS.items() for event, following in row.items()]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in range(3)), cols=3)
    group += nodes.thead("", _row("A mini-batch that is", "meets", "and is then"))
    group += nodes.tbody("", *(_row(state.name, words(event.name), after.name) for state, event, after in rows))
    return nodes.table("", group)


def _row(*texts: str) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts))


class LifecycleDirective(SphinxDirective):
    """The picture, what changes nothing, and the table."""

    def run(self) -> list[nodes.Node]:
        quiet = "; ".join(
            f"{words(event.name)} changes nothing for {', '.join(state.name for state in states)}"
            for event, states in unchanged().items()
        )
        sentence = f"Whatever is not in the table cannot happen, and raises. Not drawn: {quiet}."
        return [nodes.raw("", svg(), format="html"), nodes.paragraph("", sentence), table()]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("lifecycle", LifecycleDirective)
    return {"parallel_read_safe": True}

"""What the report says, as texts for the template; nothing is escaped here. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prs_dask.attempts.records import Category
from prs_dask.config import SETTINGS
from prs_dask.logs import places
from prs_dask.logs.process_lives import Life
from prs_dask.logs.roll_up import Process, RollUp, Sums
from prs_dask.logs.text import one_line, process_label, shortened
from prs_dask.quantities import format_bytes, format_count, format_rate, format_seconds
from prs_dask.redaction import without_hashes
from prs_dask.report.contents import MOST_FAILED, Attempts, Contents
from prs_dask.report.figures import MOST_DRAWN_LANES, color_of
from prs_dask.report.links import Links
from prs_dask.report.run_reading import KILLED, RUNNING, RunReading
from prs_dask.report.timeline import DOING

__all__ = ["words"]

MOST_ERRORS = 50
MOST_PROCESSES = 200
_TONES = {"Completed": "good", "Failed": "bad", "Canceled": "warn", KILLED: "bad", RUNNING: ""}
_TOLD_STATE = {RUNNING: "running", KILLED: "its driver was killed"}


def words(contents: Contents, figures: Mapping[str, Any], links: Links, now: float, version: str) -> dict[str, Any]:
    """Everything the template says.

    Parameters
    ----------
    figures
        Those that are drawn, by name.
    now
        Seconds since the epoch.
    version
        Of prs_dask.
    """
    attempts = contents.attempts
    total = attempts.roll_up.total
    return {
        "head": _head(contents.reading, attempts),
        "tiles": _tiles(contents.reading, total),
        "errors": _errors(contents, links),
        "went": _went(contents) if total.attempts else None,
        "throughput": _throughput(attempts, total),
        "run_times": {"told": _run_times(attempts)},
        "nodes": _nodes(contents, figures),
        "failed": _failed(contents, links),
        "slowest": _slowest(attempts, links),
        "has_read": total.read > 0,
        "processes": _processes(contents, links),
        "profile": _profile(contents),
        "settings": _settings(contents.reading),
        "logs": _logs(links),
        "footer": f"Written by prs_dask {version} at {_utc(now)} from {contents.reading.folder.path}. Times are UTC.",
    }


def _head(reading: RunReading, attempts: Attempts) -> dict[str, Any]:
    summary = reading.summary
    told = [str(reading.record.get("run_id") or ""), f"begun {_utc(reading.begun)}"]
    if reading.state == RUNNING:
        told.append(f"driven by {reading.driver}")
    elif reading.state == KILLED:
        told.append(f"last heard of {_utc(reading.last_sign)}")
    told.append(f"{format_seconds(summary.total_seconds)} {'so far' if not reading.has_ended else 'in all'}")
    if reading.journal.resumed:
        told.append(f"resumed {_count(reading.journal.resumed, 'time')}")
    gaps = list(reading.gaps)
    if attempts.unreadable:
        gaps.append(f"{_count(attempts.unreadable, 'row')} of the table of attempts cannot be read and are left out")
    return {
        "name": one_line(reading.name, 200),
        "state": _TOLD_STATE.get(reading.state, reading.state),
        "tone": _TONES.get(reading.state, ""),
        "told": " · ".join(text for text in told if text),
        "cause": shortened(reading.cause, 4000),
        "resume": reading.resume,
        "gaps": gaps,
    }


def _tiles(reading: RunReading, total: Sums) -> list[dict[str, str]]:
    summary = reading.summary
    done = summary.succeeded_mini_batches + summary.failed_mini_batches
    left = summary.mini_batches - done
    of_all = format_count(summary.mini_batches) if reading.listed_all or reading.has_ended else "an unfinished listing"
    failed, lost = summary.failed_mini_batches, summary.failed_items
    speed = done / summary.seconds if summary.seconds > 0 and not reading.journal.resumed else 0.0
    tiles = [
        ("mini-batches succeeded", f"{format_count(summary.succeeded_mini_batches)}", "", f"of {of_all}"),
        ("mini-batches failed", format_count(failed), "bad" if failed else "", ""),
        ("mini-batches not run", format_count(left), "warn", "") if left > 0 and reading.has_ended else None,
        ("items", format_count(summary.items), "", ""),
        ("items failed", format_count(lost), "bad" if lost else "", ""),
        ("attempts", format_count(summary.attempts), "", _again(total)),
        ("rows", format_count(summary.rows), "", "") if summary.rows else None,
        ("from the first mini-batch to the last row", format_seconds(summary.seconds), "", ""),
        ("mini-batches a second", format_rate(speed).removesuffix("/s"), "", "") if speed >= 1 else None,
        ("mini-batches", format_rate(speed), "", "") if 0 < speed < 1 else None,
    ]
    return [
        {"text": f"{text} {more}".strip(), "value": value, "tone": tone}
        for text, value, tone, more in (tile for tile in tiles if tile is not None)
    ]


def _again(total: Sums) -> str:
    told = [f"{format_count(total.retried)} failed and were tried again"] if total.retried else []
    told += [f"{format_count(total.overtaken)} overtaken by another one"] if total.overtaken else []
    return f"({', '.join(told)})" if told else ""


def _errors(contents: Contents, links: Links) -> dict[str, Any]:
    errors = contents.errors
    groups = errors.most_frequent(MOST_ERRORS)
    count = len(errors.most_frequent())
    rest = count - len(groups)
    return {
        "told": f"{_count(errors.total, 'error')}, {format_count(count)} distinct, the most frequent first.",
        "groups": [
            {
                "count": format_count(group.count),
                "type": one_line(group.type, 200),
                "where": one_line(group.where, 300),
                "source": one_line(group.source, 300),
                "message": shortened(group.message, 1200),
                "example": one_line(group.example, 300),
                "log": links.to(group.log, _last(group.log)),
            }
            for group in groups
        ],
        "more": f"{format_count(rest)} more are in {places.ERRORS}." if rest else "",
    }


def _went(contents: Contents) -> dict[str, Any]:
    attempts = contents.attempts
    seconds = attempts.timeline.seconds()
    whole = sum(seconds) or 1.0
    parts = []
    for doing, spent in zip(DOING, seconds, strict=True):
        name = doing.name
        if not attempts.roll_up.total.read and name == "rows and the rest":
            name = "reading, rows and the rest"
        if spent > 0:
            parts.append(
                {
                    "name": name,
                    "share": spent / whole,
                    "percent": _percent(spent / whole),
                    "seconds": format_seconds(spent),
                    "color": doing.color,
                }
            )
    known = len(attempts.timeline.lanes) + len(attempts.timeline.left_out)
    each = "each bar is an attempt" if attempts.timeline.exact is not None else "heights are shares of time"
    lanes = f"Processes, {each}."
    if known > MOST_DRAWN_LANES:
        lanes = f"{format_count(MOST_DRAWN_LANES)} of {format_count(known)} processes, the busiest; {each}."
    if any(life.early for life in contents.lives.values()):
        lanes += (
            " A red mark: the process ended, or failed to start, while the step run went on; the table of processes"
            " says why."
        )
    folds = [
        f"A dashed line: {format_seconds(fold.seconds)} are left out, from {_utc(fold.start)}, in which nothing ran."
        for fold in attempts.time.folds[:3]
    ]
    return {
        "told": f"The time of all worker processes together: {format_seconds(whole)}.",
        "parts": parts,
        "folds": folds,
        "lanes": lanes,
    }


def _throughput(attempts: Attempts, total: Sums) -> str:
    bins = attempts.roll_up.over_time
    ended = sum(bins.amounts(kind).sum() for kind in range(RollUp.ITEMS))
    return f"{format_count(int(ended))} attempts, by when they ended; {_utc(attempts.time.begun or 0)} is 0."


def _run_times(attempts: Attempts) -> str:
    good, _ = attempts.roll_up.run_times
    count = int(good.counts.sum())
    if not count:
        return "No attempt succeeded."
    told = [f"{name} {_brief(good.quantile(share))}" for share, name in ((0.5, "half"), (0.9, "90 %"), (0.99, "99 %"))]
    return f"Of {format_count(count)} attempts that succeeded, {', '.join(told)} or less."


def _nodes(contents: Contents, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    nodes = []
    for usage in contents.usage:
        memory = f"; it has {format_bytes(usage.memory * 2**20)} of memory" if usage.memory > 0 else ""
        parts = [
            {"figure": name, "key": [(line, color_of(at)) for at, line in enumerate(lines)]}
            for name, lines in ((f"shares-{usage.node}", usage.shares), (f"rates-{usage.node}", usage.rates))
            if name in figures
        ]
        if parts:
            told = f"Measured {_count(usage.samples, 'time')}{memory}."
            nodes.append({"name": usage.node, "told": told, "parts": parts})
    return nodes


def _failed(contents: Contents, links: Links) -> dict[str, Any]:
    attempts = contents.attempts
    finished = contents.reading.journal.finished
    rows = [one for one in attempts.failed if not contents.reading.journal.resumed or _number(one.name) not in finished]
    told = f"{format_count(attempts.failed_count)} failed for good"
    if attempts.failed_count > MOST_FAILED:
        told += f"; the first {format_count(MOST_FAILED)}. All items: {places.FAILED_ITEMS}"
    return {
        "told": f"{told}.",
        "rows": [
            {
                "name": one_line(one.name, 60),
                "attempt": format_count(one.attempt),
                "category": one_line(one.category, 60),
                "message": one_line(one.message, 400),
                "detail": one_line(one.detail, 300),
                "log": links.errors_of(one.process),
            }
            for one in rows
        ],
    }


def _slowest(attempts: Attempts, links: Links) -> list[dict[str, Any]]:
    return [
        {
            "name": one_line(slow.name, 60),
            "attempt": format_count(slow.attempt),
            "elapsed": _brief(slow.elapsed),
            "run": _brief(slow.run),
            "read": _brief(slow.read),
            "began": _clock(attempts.time.unfolded(slow.started)),
            "status": _status(slow.category),
            "log": links.errors_of(slow.process),
            "detail": one_line(slow.detail, 300),
        }
        for slow in attempts.roll_up.slowest
    ]


def _processes(contents: Contents, links: Links) -> dict[str, Any]:
    attempts, told = contents.attempts.roll_up.processes, contents.told
    unfolded = contents.attempts.time.unfolded
    nothing, unknown = Sums(), Life()
    processes = list(dict.fromkeys((*attempts, *told)))
    busiest = sorted(processes, key=lambda process: -attempts.get(process, nothing).elapsed)[:MOST_PROCESSES]
    rows = []
    for process in sorted(busiest):
        sums, life = attempts.get(process, nothing), told.get(process, unknown)
        rows.append(
            {
                "label": process_label(*process) if process[1] >= 0 else "lost with their workers",
                "started": "" if life.started is None else _clock(life.started),
                "init": "" if life.ready is None else _brief(life.init_seconds),
                "ended": "" if life.ended is None else _clock(life.ended),
                "why": one_line(f"could not start: {life.why}" if life.failed else life.why, 300),
                "attempts": format_count(sums.attempts),
                "failed": format_count(sums.failed + sums.retried),
                "busy": _brief(sums.elapsed),
                "run": _brief(sums.run),
                "read": _brief(sums.read),
                "cpu": _brief(sums.cpu),
                "first": _clock(unfolded(sums.first)) if sums.attempts else "",
                "last": _clock(unfolded(sums.last)) if sums.attempts else "",
                "logs": links.of_process(process),
            }
        )
    shown = f"The {format_count(len(rows))} busiest" if len(rows) < len(processes) else "All"
    return {
        "told": f"{_count(len(processes), 'process', 'processes')} on {_count(_node_count(processes), 'node')}."
        + _replaced(told.values()),
        "has_lives": bool(told),
        "summary": f"{shown}, by their numbers",
        "rows": rows,
    }


def _replaced(lives: Collection[Life]) -> str:
    failed = sum(life.failed for life in lives)
    early = sum(life.ended_early for life in lives) - failed
    return (f" {_count(failed, 'start')} failed." if failed else "") + (f" {early:,} ended early." if early else "")


def _profile(contents: Contents) -> dict[str, Any]:
    of = _count(contents.profiles, "process", "processes")
    return {
        "told": f"From the profiles of {of}; the most time of their own first.",
        "rows": [
            {
                "name": one_line(function.name, 120),
                "place": one_line(function.place, 200),
                "calls": format_count(function.calls),
                "own": _brief(function.own),
                "total": _brief(function.total),
            }
            for function in contents.functions
        ],
    }


def _settings(reading: RunReading) -> dict[str, Any]:
    record = reading.record
    settings = record.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    settings = without_hashes(dict(settings))
    changed = [
        ("output", record.get("output")),
        ("arguments", without_hashes(record.get("arguments") or [])),
        *((f"input {number}", one) for number, one in enumerate(without_hashes(record.get("inputs") or []))),
        *((f"side input {number}", one) for number, one in enumerate(without_hashes(record.get("side_inputs") or []))),
        ("prs_dask", record.get("prs_dask")),
    ]
    others: list[tuple[str, Any]] = []
    for name, value in settings.items():
        known = SETTINGS.get(name)
        (others if known is not None and known.default == value else changed).append((name, value))
    return {
        "changed": [(one_line(name, 80), _value(value)) for name, value in changed if value not in (None, [], "")],
        "others": [(one_line(name, 80), _value(value)) for name, value in others],
    }


def _logs(links: Links) -> list[dict[str, str]]:
    told = {
        places.JOB_RESULT: "how it ended",
        places.DRIVER_LOG: "what the driver did",
        places.MASTER_ROLE: "what the scheduler's side saw",
        places.ERRORS: "every distinct error",
        places.FAILED_ITEMS: "every item that failed",
        places.ATTEMPTS: "a row for each attempt",
        places.PROCESS_SUMMARY: "a row for each process",
        places.NODE_SUMMARY: "a row for each node",
        places.PROGRESS: "progress over time",
        places.METRICS: "what the script logged as metrics",
    }
    named = [links.to(name, told=text) for name, text in told.items()]
    overviews, faults = (
        [links.to(name, told=text) for name in links.every(pattern)]
        for pattern, text in (
            (places.OVERVIEW.format(hour="*"), "progress, a line a minute"),
            (places.ENGINE_ERROR.format(component="*"), "errors of prs_dask itself"),
        )
    )
    return [one for one in (named[0], *overviews, *named[1:], *faults) if one["href"]]


def _value(value: object) -> str:
    if isinstance(value, str):
        return one_line(value, 600)
    if isinstance(value, Mapping):
        return one_line(", ".join(f"{name}: {_value(one)}" for name, one in value.items()), 600)
    if isinstance(value, Sequence):
        return one_line(" ".join(_value(one) for one in value), 600)
    return one_line(str(value), 600)


def _status(category: int) -> str:
    return "succeeded" if category == 0 else next((one.label for one in Category if one == category), "failed")


def _number(name: str) -> int:
    digits = name.partition("[")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 19 else -1


def _node_count(processes: Collection[Process]) -> int:
    return len({node for node, _ in processes if node >= 0})


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{format_count(number)} {noun if number == 1 else nouns or noun + 's'}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def _brief(seconds: float) -> str:
    """Seconds with enough digits for short ones: ``0.4 ms``."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.00995 else format_seconds(seconds)


def _last(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"

"""What lies in the folder of a run, as values: read here, judged by `oracle`.

The formats are read by code of its own, not by that of the engine, so that a fault of the engine's
readers is not the oracle's.
"""

from __future__ import annotations

import csv
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.plans import Plan, from_json
from tests.packed_files import contents

__all__ = ["Attempt", "Evidence", "FailedItem", "Run", "Session", "Trace", "collect"]

FAILED_ATTEMPT, OVERTAKEN = "Failed attempt", "Overtaken"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the table of attempts.

    ``part``: which items of its mini-batch, by their place in it, where that was bisected. ``started``: seconds
    since the epoch. ``ran``: it came as far as ``run()``.
    """

    mini_batch: int
    part: tuple[int, int] | None
    number: int
    started: float
    total: int
    succeeded: int
    failed: int
    ran: bool
    status: str
    category: str

    @property
    def final(self) -> bool:
        """Did it decide its mini-batch?"""
        return self.status not in (FAILED_ATTEMPT, OVERTAKEN)

    @property
    def overtaken(self) -> bool:
        """Was another attempt of its mini-batch faster?"""
        return self.status == OVERTAKEN


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A line of ``failed_items.jsonl``: one item by its ``name``, or without one so many of a mini-batch."""

    mini_batch: int
    part: tuple[int, int] | None
    name: str | None
    count: int
    category: str


@dataclass(frozen=True, slots=True)
class Run:
    """One call of ``run()`` as the entry script told it.

    ``ended`` is None where it neither returned nor raised; ``good``: it returned.
    """

    first: int
    items: int
    attempt: int
    began: float
    ended: float | None
    good: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """What one worker process told, and when it died: None where it was not seen, or lived to the end.

    ``part``: of which part of the step run it was, see `Session`; 0 where it did not tell.
    """

    pid: int
    events: tuple[str, ...]
    began: float
    runs: tuple[Run, ...]
    death: float | None
    part: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """One driver: when it started and ended, and what it said (None where it was killed).

    ``part``: which part of the step run is its own, the first or that of a resume; 0 where its log does not tell. The
    processes of a driver that was killed go on for a while, and others begin, beside those of the next one.
    """

    number: int
    started: float
    part: int
    ended: float
    wall: float
    code: int
    hung: bool
    said: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The folder.

    Parameters
    ----------
    journal
        Its lines, without the check sums.
    torn
        Lines of the journal that are damaged.
    output
        The file's bytes; None where there is none. ``partial``: it has not got its name.
    beside_output, beside_journal
        All names in the output folder and in the run folder.
    result
        The text of ``job_result.txt``; empty where there is none.
    counts
        Its numbers.
    attempts
        The table.
    failed_items
        The lines of ``failed_items.jsonl``.
    faults
        Those that were done: name, processes hit, driver, start and end.
    left
        What was left: after the step run (``run``), in a cluster that goes on (``cluster``), after a cluster died
        (``orphans``), after all (``all``).
    late
        (when, seconds) that the watch was late.
    tells_canary
        Files that hold a secret, packed or not.
    """

    plan: Plan
    journal: tuple[Mapping[str, Any], ...] = ()
    torn: int = 0
    output: bytes | None = None
    partial: bool = False
    beside_output: tuple[str, ...] = ()
    beside_journal: tuple[str, ...] = ()
    result: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    failed_items: tuple[FailedItem, ...] = ()
    traces: tuple[Trace, ...] = ()
    sessions: tuple[Session, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    left: Mapping[str, list[str]] = field(default_factory=dict)
    late: tuple[tuple[float, float], ...] = ()
    tells_canary: tuple[str, ...] = ()


def collect(folder: Path) -> Evidence:
    """All of it."""
    plan = from_json((folder / "plan.json").read_text())
    run, out = folder / "disk" / "run", folder / "disk" / "out" / "parallel_run_step.txt"
    partial = out.with_name(out.name + ".partial")
    journal, torn = _journal(run / "journal.jsonl")
    result = _text(run / "logs" / "job_result.txt")
    return Evidence(
        plan=plan,
        journal=journal,
        torn=torn,
        output=next((path.read_bytes() for path in (out, partial) if path.exists()), None),
        partial=not out.exists(),
        beside_output=_names(out.parent),
        beside_journal=_names(run),
        result=result,
        counts=_counts(result),
        attempts=tuple(_attempts(run / "logs" / "sys" / "job_report" / "processed_mini-batches.csv")),
        failed_items=tuple(map(_failed_item, _lines(run / "logs" / "user" / "failed_items.jsonl"))),
        traces=_traces(folder),
        sessions=_sessions(folder),
        faults=tuple(entry for entry in _lines(folder / "events.jsonl") if entry["what"] == "fault" and entry["hit"]),
        left=json.loads(_text(folder / "left.json") or "{}"),
        late=tuple((entry["time"], entry["late"]) for entry in _lines(folder / "late.jsonl")),
        tells_canary=tuple(_with_canary(plan, folder)),
    )


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(folder))) if folder.exists() else ()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines()]


def _journal(path: Path) -> tuple[tuple[Mapping[str, Any], ...], int]:
    entries, torn = [], 0
    for line in _text(path).splitlines(keepends=True):
        head, rest = line[: len('{"crc":"00000000",')], line[len('{"crc":"00000000",') : -1]
        if head != f'{{"crc":"{zlib.crc32(rest.encode()):08x}",' or not line.endswith("\n"):
            torn += 1
            continue
        entries.append(json.loads("{" + rest))
    return tuple(entries), torn


def _counts(text: str) -> dict[str, int]:
    """The numbers of ``job_result.txt``."""
    found: dict[str, int] = {}
    for line, names in {
        "Mini-batches": ("mini_batches", "succeeded_mini_batches", "failed_mini_batches"),
        "Items": ("items", "succeeded_items", "failed_items"),
        "Attempts": ("attempts",),
        "Rows": ("rows",),
    }.items():
        content = re.search(rf"^{line}: (.*)$", text, re.MULTILINE)
        if content:
            numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", content[1])]
            found |= dict(zip(names, numbers, strict=False))
    return found


def _attempts(path: Path) -> Iterator[Attempt]:
    if not path.exists():
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield Attempt(
                *_name(row["Mini-batch Id"]),
                int(row["Picked Count"]),
                datetime.fromisoformat(row["Process Start Time"]).timestamp(),
                int(row["Total"]),
                int(row["Succeeded"]),
                int(row["Failed"]),
                float(row["Run Method Seconds"]) > 0,
                row["Status"],
                row["Error Category"],
            )


def _failed_item(line: Mapping[str, Any]) -> FailedItem:
    number, part = _name(line.get("part") or str(line["mini_batch"]))
    count = 1 if line["item"] is not None else line["items"]
    return FailedItem(number, part, line["item"], count, line["category"])


def _name(text: str) -> tuple[int, tuple[int, int] | None]:
    """``7`` or ``7[3:5]``."""
    number, _, part = text.partition("[")
    if not part:
        return int(number), None
    start, _, stop = part.rstrip("]").partition(":")
    return int(number), (int(start), int(stop))


def _traces(folder: Path) -> tuple[Trace, ...]:
    deaths = {entry["pid"]: entry["time"] for entry in _lines(folder / "deaths.jsonl") if entry["seen"]}
    return tuple(_trace(path, deaths) for path in sorted((folder / "traces").glob("*.jsonl")))


def _trace(path: Path, deaths: Mapping[int, float]) -> Trace:
    lines = _lines(path)
    runs: list[Run] = []
    for line in lines:
        if line["event"] == "run":
            runs.append(Run(line["first"], line["items"], line["attempt"], line["time"], None))
        elif line["event"] in ("done", "raised") and runs:
            last, good = runs[-1], line["event"] == "done"
            runs[-1] = Run(last.first, last.items, last.attempt, last.began, line["time"], good)
    pid = int(path.name.partition("-")[0])
    events = tuple(line["event"] for line in lines if line["pid"] == pid)
    folder = re.search(r"/prs-dask-\d+/[^/]*?(?:\.(\d+))?-[0-9a-f]{8}/", lines[0].get("folder", "") if lines else "")
    part = int(folder[1] or 0) + 1 if folder else 0
    return Trace(pid, events, lines[0]["time"] if lines else 0.0, tuple(runs), deaths.get(pid), part)


def _sessions(folder: Path) -> tuple[Session, ...]:
    events = _lines(folder / "events.jsonl")
    ends = {entry["driver"]: entry for entry in events if entry["what"] == "driver ended"}
    logged = _logged(folder / "disk" / "run" / "logs" / "driver_log.txt")
    found = []
    for entry in events:
        if entry["what"] == "driver started" and entry["driver"] in ends:
            number, end = entry["driver"], ends[entry["driver"]]
            said = _said(folder, number, entry.get("how"), end["code"])
            span = (entry["time"], _part(logged, entry, end), end["time"])
            found.append(Session(number, *span, entry["wall"], end["code"], end["hung"], said))
    return tuple(found)


def _part(logged: Sequence[tuple[float, str]], start: Mapping[str, Any], end: Mapping[str, Any]) -> int:
    """As its log says: the first one tells only that it runs a step run."""
    offset = start["wall"] - start["time"]
    for when, text in logged:
        if start["time"] <= when - offset <= end["time"]:
            resumed = re.match(r"resumed, part (\d+):", text)
            if resumed or text.startswith("step run "):
                return int(resumed[1]) if resumed else 1
    return 0


def _logged(path: Path) -> list[tuple[float, str]]:
    """Seconds since the epoch, and what was said, of each first line of an entry of ``driver_log.txt``."""
    lines = re.findall(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z) (.*)$", _text(path), re.MULTILINE)
    return [(datetime.fromisoformat(when).timestamp(), text) for when, text in lines]


_EXIT_CODES = {0: "Completed", 1: "Failed", 2: "Refused", 130: "Canceled"}


def _said(folder: Path, number: int, how: str | None, code: int) -> dict[str, Any] | None:
    """What the driver said of its end: the command line by its exit code, and by what it printed."""
    if how == "cli" and code in _EXIT_CODES:
        return {"state": _EXIT_CODES[code], "error": _text(folder / f"driver-{number}.txt")}
    text = _text(folder / f"driver-{number}.json")
    return json.loads(text) if text else None


def _with_canary(plan: Plan, folder: Path) -> Iterator[str]:
    canaries = [canary.encode() for canary in plan.canaries]
    for above, folders, names in os.walk(folder):
        if above == str(folder):
            folders.remove("data")  # thousands of files, written before the secrets were known
        for name in sorted(names):
            path = Path(above, name)
            data = path.read_bytes() if path.is_file() else b""
            if any(canary in part for part in contents(data) for canary in canaries):
                yield str(path.relative_to(folder))

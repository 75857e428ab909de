"""Every path of ``logs/``: there, of its format, in agreement with the summary and with the others, over random jobs.

`CHECKS` has one for each path of `prs_dask.logs.places`: a path that is added there needs one here. A few jobs are run
each time; ``RANDOM_JOBS=50 pytest tests/end_to_end/test_every_log.py`` runs more, ``RANDOM_JOBS=17..17`` one again.
"""

from __future__ import annotations

import csv
import json
import os
import pstats
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from prs_dask.logs import places

SCRIPT = r"""
import json, logging, os, re, subprocess, sys, time
from prs_dask import EntryScript
from azureml.core import Run

FATES = json.loads(sys.argv[1])
print("process begins", os.getpid(), flush=True)

def init():
    EntryScript().logger.warning("init")

def run(mini_batch, context):
    what = f"{context.minibatch_index} {context.attempt}"
    print("run", what)
    print("run", what, file=sys.stderr)
    tell = "echo run {0} {1}; echo run {0} {1} >&2"
    subprocess.run(["sh", "-c", f"{tell.format(what, 'child')}; sh -c '{tell.format(what, 'grandchild')}'"])
    EntryScript().logger.info("run %s", what)
    with open(os.path.join(EntryScript().log_dir, "<b>own &.txt"), "a") as own:
        own.write(f"run {what}\n")
    Run.get_context().log("tries", context.attempt)
    rows = []
    for path in mini_batch:
        name = os.path.basename(path)
        fate = FATES[name]
        if fate == "raises" or (fate == "second try" and context.attempt == 1):
            raise ValueError(f"<b>bad</b>, \x1b[31m\"{name}\"\nmore")
        if fate == "exits":
            os._exit(3)
        if fate == "hangs":
            re.match("(a+)+$", "a" * 60 + "b")
        if fate == "floods":
            sys.stdout.write("flood " * 20000 + "\n")
        if fate != "short":
            rows.append(name)
    return rows
"""
FATES = ("ok", "ok", "ok", "ok", "ok", "ok", "raises", "second try", "exits", "hangs", "floods", "short")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def seeds() -> list[int]:
    """Four, or as the environment says."""
    first, _, last = os.environ.get("RANDOM_JOBS", "4").rpartition("..")
    return list(range(int(first or 0), int(last) + bool(first)))


@dataclass
class Evidence:
    """A job that has ended, and what it was to do."""

    done: Any
    fates: dict[str, str]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        self.logs: Path = self.done.run.log_dir
        self.summary = self.done.run.summary()
        self.attempts: list[dict[str, str]] = self.done.attempts
        self.final = [row for row in self.attempts if row["Status"] != "Failed attempt"]
        self.failed = [row for row in self.attempts if row["Error Category"]]
        self.as_json = self.settings["logging_format"] == "json"

    def files(self, template: str) -> list[Path]:
        """Those that a path of `places` stands for."""
        return [path for path in self.logs.rglob("*") if path.is_file() and self._matches(template, path)]

    def file(self, template: str) -> Path:
        (found,) = self.files(template)
        return found

    def is_known(self, path: Path) -> bool:
        return any(self._matches(template, path) for template in all_places())

    def _matches(self, template: str, path: Path) -> bool:
        return re.fullmatch(_pattern(template), str(path.relative_to(self.logs))) is not None

    def table(self, path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """Rows of a table that has exactly these columns, in every row."""
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
        assert tuple(header) == columns, path
        assert all(len(row) == len(columns) for row in rows), path
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def lines(self, path: Path, log: str) -> list[Any]:
        """Lines of driver, overview, scheduler: JSON objects, or times and words."""
        text = path.read_text("utf-8")
        assert text.endswith("\n")
        lines = text.splitlines()
        assert all(line.isprintable() for line in lines)
        if self.as_json:
            told = [json.loads(line) for line in lines]
            assert {one["log"] for one in told} == {log}
            assert all(re.fullmatch(TIME, one["time"]) for one in told)
            return told
        assert all(re.match(TIME + " ", line) or line.startswith("    ") for line in lines)
        return lines

    def said(self, stream: str, who: str = "") -> Counter[tuple[str, str]]:
        """What ``run()`` told of itself, or a child of it did: mini-batch and attempt, of all processes together."""
        own = rf" {who}$" if who else r"(?! \w)\b"
        found: Counter[tuple[str, str]] = Counter()
        for path in self.files(places.STREAMS[stream]):
            found.update(re.findall(rf"run ([\d_-]+) (\d+){own}", path.read_text("utf-8", "replace"), re.MULTILINE))
        return found

    def attempted(self) -> Counter[tuple[str, str]]:
        """The same by the table of attempts."""
        return Counter((re.sub(r"\[(\d+):(\d+)\]", r"_\1-\2", row["Mini-batch Id"]), row["Picked Count"])
                       for row in self.attempts)  # fmt: skip


def all_places() -> set[str]:
    """Every path that `places` names."""
    named = {value for name, value in vars(places).items() if name.isupper() and isinstance(value, str)}
    return named | set(places.STREAMS.values())


def _pattern(template: str) -> str:
    parts = {"node": r"\d+", "process": r"process\d{3,}", "hour": r"\d{10}", "component": r"\w+"}
    return "".join(
        re.escape(text) if number % 2 == 0 else parts.get(text, ".+")
        for number, text in enumerate(re.split(r"\{(\w+)\}", template))
    )


# ---------------------------------------------------------------- one check for each path


def driver_log(the: Evidence) -> None:
    lines = the.lines(the.file(places.DRIVER_LOG), "driver")
    if the.as_json:
        events = {one["event"]: one for one in lines}
        assert events["settings"]["settings"]["run_max_try"] == the.settings["run_max_try"]
        assert {"dask", "distributed", "pandas", "pyarrow", "fsspec", "psutil"} < events["versions"].keys()
        assert events["cluster"]["workers"] == 2
        assert events["listed"]["mini_batches"] == the.summary.mini_batches
        assert sum(events["stages"]["stages"].values()) == pytest.approx(the.summary.total_seconds, abs=0.5)
        assert events["end"]["state"] == the.summary.state
    else:
        text = "\n".join(lines)
        assert f"    run_max_try: {the.settings['run_max_try']}\n" in text
        for words in (
            "versions: prs_dask ",
            "cluster: scheduler tcp://",
            "2 workers on 1 host",
            "running (starting work",
        ):
            assert words in text
        assert f": {the.summary.mini_batches:,} mini-batches" in text


def job_result(the: Evidence) -> None:
    the.done.check_counts()


def job_result_json(the: Evidence) -> None:
    told = json.loads(the.file(places.JOB_RESULT_JSON).read_bytes())
    assert told["summary"] == asdict(the.summary)
    assert told["cause"] == (the.done.run.error or "")


def overview(the: Evidence) -> None:
    (path,) = the.files(places.OVERVIEW)
    lines = the.lines(path, "overview")
    ended = the.summary.succeeded_mini_batches + the.summary.failed_mini_batches
    if the.as_json:
        last = [one for one in lines if one["event"] == "progress"][-1]
        assert (last["state"], last["succeeded"] + last["failed"], last["items"]) == (
            the.summary.state, ended, the.summary.items,
        )  # fmt: skip
        assert lines[-1]["event"] == "end"
        assert {name: lines[-1][name] for name in asdict(the.summary)} == asdict(the.summary)
    else:
        (last,) = [line for line in lines if f" {the.summary.state}: {ended:,} of " in line]
        assert f" {the.summary.items:,} items, {the.summary.failed_items:,} failed" in last
        assert any(f"State: {the.summary.state}" in line for line in lines)
        for stage in ("starting workers", "running", "finishing the output", "closing"):
            assert any(f"Running, {stage}" in line for line in lines)


def master_role(the: Evidence) -> None:
    lines = the.lines(the.file(places.MASTER_ROLE), "scheduler")
    if the.as_json:
        told = Counter((one["mini_batch"], one["attempt"]) for one in lines if one["event"] == "attempt")
    else:
        told = Counter(
            (found[1], int(found[2]))
            for line in lines
            if (found := re.search(r"Z mini-batch (\S+) failed .*?: attempt (\d+)", line))
        )
    assert told == Counter((row["Mini-batch Id"], int(row["Picked Count"])) for row in the.failed)


def attempts(the: Evidence) -> None:
    rows = the.table(the.file(places.ATTEMPTS), places.ATTEMPT_COLUMNS)
    assert rows == the.attempts
    for row in rows:
        assert re.fullmatch(TIME, row["Process Start Time"])
        assert int(row["Total"]) == int(row["Succeeded"]) + int(row["Failed"])
        read, run, elapsed = (float(row[name]) for name in ("Read Seconds", "Run Method Seconds", "Elapsed Seconds"))
        assert read + run <= elapsed + 0.01
        assert (row["Status"] == "Succeeded") == (not row["Error Category"]) == (not row["Error Message"])
        assert row["Mini-batch Detail"]
    slow = [row for row in rows if row["Error Category"] == "time limit"]
    limit = the.settings["run_invocation_timeout"]
    assert all(limit <= float(row["Run Method Seconds"]) < limit + 5 for row in slow)


def process_attempts(the: Evidence) -> None:
    own = []
    for path in the.files(places.PROCESS_ATTEMPTS):
        for row in the.table(path, places.PROCESS_COLUMNS):
            own.append({"Process": f"{path.parent.name}/{path.stem}", **row})
    same = ("Process", *set(places.PROCESS_COLUMNS) & set(places.ATTEMPT_COLUMNS))
    assert _rows(own, same) == _rows(the.attempts, same)


def _rows(rows: list[dict[str, str]], columns: tuple[str, ...]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(row[column] for column in columns) for row in rows)


SUMS = {"Items": "Total", "Succeeded Items": "Succeeded", "Failed Items": "Failed"}
SECONDS = ("Elapsed Seconds", "Process Seconds", "Run Method Seconds")


def _check_sums(row: dict[str, str], attempts: list[dict[str, str]]) -> None:
    states = Counter(one["Status"] for one in attempts)
    assert int(row["Attempts"]) == len(attempts)
    assert int(row["Succeeded Mini-batches"]) == states["Succeeded"]
    assert int(row["Failed Mini-batches"]) == states["Failed"]
    assert int(row["Failed Attempts Tried Again"]) == states["Failed attempt"]
    for name, column in SUMS.items():
        assert int(row[name]) == sum(int(one[column]) for one in attempts if one["Status"] != "Failed attempt")
    for name in SECONDS:
        assert float(row[name]) == pytest.approx(sum(float(one[name]) for one in attempts), abs=0.01)
    if attempts:
        assert row["First Start Time"] == min(one["Process Start Time"] for one in attempts)
        assert row["Last End Time"] >= max(one["Process Start Time"] for one in attempts)


def process_summary(the: Evidence) -> None:
    rows = the.table(the.file(places.PROCESS_SUMMARY), places.PROCESS_SUMMARY_COLUMNS)
    processes = [f"{row['Node']}/{row['Process']}" for row in rows]
    assert len(set(processes)) == len(processes)
    assert set(processes) >= {row["Process"] for row in the.attempts}
    for row, process in zip(rows, processes, strict=True):
        _check_sums(row, [one for one in the.attempts if one["Process"] == process])


def node_summary(the: Evidence) -> None:
    """Two nodes are in `tests/dask/test_no_shared_folders.py`."""
    (row,) = the.table(the.file(places.NODE_SUMMARY), places.NODE_SUMMARY_COLUMNS)
    assert row["Node"] == "0"
    _check_sums(row, the.attempts)
    assert int(row["Processes"]) == len(the.table(the.file(places.PROCESS_SUMMARY), places.PROCESS_SUMMARY_COLUMNS))


def progress(the: Evidence) -> None:
    rows = the.table(the.file(places.PROGRESS), places.PROGRESS_COLUMNS)
    for name in ("Datetime", "Scheduled Tasks", "Completed Tasks", "Failed Tasks", "Elapsed Time"):
        column = [row[name] if name == "Datetime" else float(row[name]) for row in rows]
        assert column == sorted(column), name
    last, summary = rows[-1], the.summary
    assert [last[name] for name in places.PROGRESS_COLUMNS[1:5]] == [
        str(summary.mini_batches), str(summary.mini_batches),
        str(summary.succeeded_mini_batches), str(summary.failed_mini_batches),
    ]  # fmt: skip
    assert float(last["Elapsed Time"]) == pytest.approx(summary.total_seconds, abs=0.01)
    assert float(last["Estimated Remaining Time"]) == 0


def errors(the: Evidence) -> None:
    found = the.files(places.ERRORS)
    assert len(found) == bool(the.failed)
    for path in found:
        text = path.read_text("utf-8")
        assert all(line.isprintable() for line in text.replace("\t", " ").splitlines())
        counts = [int(count.replace(",", "")) for count in re.findall(r"^\[([\d,]+) x\]", text, re.MULTILINE)]
        assert sum(counts) == len(the.failed)
        assert counts == sorted(counts, reverse=True)


def errors_json(the: Evidence) -> None:
    for path in the.files(places.ERRORS_JSON):
        told = json.loads(path.read_bytes())
        assert sum(group["count"] for group in told["groups"]) == told["total"] == len(the.failed)
        assert all((the.logs / group["log"]).is_file() for group in told["groups"])


def process_errors(the: Evidence) -> None:
    heads = [
        (f"{path.parent.name}/{path.stem}", mini_batch, attempt)
        for path in the.files(places.PROCESS_ERRORS)
        for mini_batch, attempt in re.findall(
            rf"^{TIME} mini-batch ([\d:\[\]]+), attempt (\d+), ", path.read_text("utf-8"), re.MULTILINE
        )
    ]
    assert Counter(heads) == Counter((row["Process"], row["Mini-batch Id"], row["Picked Count"]) for row in the.failed)


def failed_items(the: Evidence) -> None:
    lines = [json.loads(line) for path in the.files(places.FAILED_ITEMS) for line in path.read_bytes().splitlines()]
    failed = {row["Mini-batch Id"]: row for row in the.final if row["Status"] == "Failed"}
    names = [one.get("part") or str(one["mini_batch"]) for one in lines]
    short = {row["Mini-batch Id"]: row for row in the.final if row["Status"] != "Failed" and row["Failed"] != "0"}
    told = Counter()
    for one, name in zip(lines, names, strict=True):
        told[name] += 1 if one["item"] is not None else one["items"]
        row = failed.get(name) or short[name]
        assert (str(one["attempts"]), one["category"]) == (
            row["Picked Count"],
            row["Error Category"] or "missing result",
        )
        assert (
            one["item"] is None if name in short and row["Total"] != "1" else os.path.basename(one["item"]) in the.fates
        )
    assert told == Counter({name: int(row["Failed"]) for name, row in (failed | short).items()})
    assert told.total() == the.summary.failed_items


def metrics(the: Evidence) -> None:
    told = [json.loads(line) for line in the.file(places.METRICS).read_bytes().splitlines()]
    tries = Counter(one["value"] for one in told if one["name"] == "tries")
    assert tries == Counter(int(row["Picked Count"]) for row in the.attempts)


def _said_with_children(the: Evidence, stream: str) -> None:
    for who in ("", "child", "grandchild"):
        assert the.said(stream, who) == the.attempted(), who
    for path in the.files(places.STREAMS[stream]):
        lines = re.findall(r"^run (.*)$", path.read_text("utf-8", "replace"), re.MULTILINE)
        assert lines == [line for own in lines[::3] for line in (own, f"{own} child", f"{own} grandchild")], "in order"


def stdout(the: Evidence) -> None:
    _said_with_children(the, "stdout")
    for path in the.files(places.STREAMS["stdout"]):
        assert re.match(r"process begins \d+\n", path.read_text("utf-8", "replace"))


def stderr(the: Evidence) -> None:
    _said_with_children(the, "stderr")


def entry_script_log(the: Evidence) -> None:
    assert the.said("log") == the.attempted()
    for path in the.files(places.STREAMS["log"]):
        lines = path.read_text("utf-8").splitlines()
        if the.as_json:
            assert {json.loads(line)["process"] for line in lines} == {path.name.partition(".")[0]}
        assert "init" in lines[0]


def log_dir(the: Evidence) -> None:
    assert the.said("log_dir") == the.attempted()
    assert {path.name for path in the.files(places.STREAMS["log_dir"])} == {"<b>own &.txt"}


def process_events(the: Evidence) -> None:
    rows = the.table(the.file(places.PROCESS_EVENTS), places.PROCESS_EVENT_COLUMNS)
    lives: dict[str, list[str]] = {}
    for row in rows:
        assert re.fullmatch(TIME, row["Time"])
        lives.setdefault(row["Process"], []).append(row["Event"])
        assert (row["Why"] != "") == (row["Event"] in ("failed", "ended"))
    assert all(life in (["started", "ready", "ended"], ["started", "ended"]) for life in lives.values())
    summary = the.table(the.file(places.PROCESS_SUMMARY), places.PROCESS_SUMMARY_COLUMNS)
    assert {row["Process"]: row["Start Time"] for row in summary} == {
        row["Process"]: row["Time"] for row in rows if row["Event"] == "started"
    }
    assert {row["Process"]: row["End Reason"] for row in summary} == {
        row["Process"]: row["Why"] for row in rows if row["Event"] == "ended"
    }
    (node,) = the.table(the.file(places.NODE_SUMMARY), places.NODE_SUMMARY_COLUMNS)
    assert (int(node["Processes"]), node["Failed Starts"]) == (len(lives), "0")


def node_usage(the: Evidence) -> None:
    rows = the.table(the.file(places.NODE_USAGE), places.NODE_USAGE_COLUMNS)
    assert rows  # at the start and at the end, which may be one moment
    assert all(re.fullmatch(TIME, row["Utc Time"]) for row in rows)
    assert all(0 <= float(row["Cpu Percent"]) <= 100 and float(row["Memory Used (MB)"]) > 0 for row in rows)


def disk_usage(the: Evidence) -> None:
    rows = the.table(the.file(places.DISK_USAGE), places.DISK_USAGE_COLUMNS)
    assert _sampled(rows) == _sampled(the.table(the.file(places.NODE_USAGE), places.NODE_USAGE_COLUMNS))
    assert "/" in {row["Mount Point"] for row in rows}


def process_usage(the: Evidence) -> None:
    rows = the.table(the.file(places.PROCESS_USAGE), places.PROCESS_USAGE_COLUMNS)
    assert _sampled(rows) == _sampled(the.table(the.file(places.NODE_USAGE), places.NODE_USAGE_COLUMNS))
    started = {row["Process"] for row in the.table(the.file(places.PROCESS_EVENTS), places.PROCESS_EVENT_COLUMNS)}
    seen = {row["Process"] for row in rows}
    assert {"worker", "monitor"} <= seen <= {"worker", "monitor", *started}


def process_list(the: Evidence) -> None:
    listed = [path.read_text("utf-8") for path in the.files(places.PROCESS_LIST)]
    times = {time for text in listed for time in re.findall(rf"^# ({TIME})$", text, re.MULTILINE)}
    assert times <= _sampled(the.table(the.file(places.NODE_USAGE), places.NODE_USAGE_COLUMNS))
    assert times  # at the start and at the end, which may be one moment
    assert all(re.match(r"# \S+\n +PID +PPID ", text) for text in listed)


def _sampled(rows: list[dict[str, str]]) -> set[str]:
    return {row["Utc Time"] for row in rows}


def profiles(the: Evidence) -> None:
    files = the.files(places.STREAMS["cProfile"])
    assert bool(files) == the.settings["profiled"]
    assert all(pstats.Stats(str(path)).stats for path in files)  # type: ignore[attr-defined]
    ran = {row["Process"] for row in the.attempts if row["Status"] == "Succeeded"}
    assert {f"{path.parent.name}/{path.stem}" for path in files} >= (ran if the.settings["profiled"] else set())


def none_here(template: str) -> Callable[[Evidence], None]:
    """Such a file tells of what does not happen in these jobs."""

    def check(the: Evidence) -> None:
        assert not the.files(template), the.files(template)[0].read_text()

    return check


CHECKS: dict[str, Callable[[Evidence], None]] = {
    places.DRIVER_LOG: driver_log,
    places.JOB_RESULT: job_result,
    places.JOB_RESULT_JSON: job_result_json,
    places.OVERVIEW: overview,
    places.MASTER_ROLE: master_role,
    places.ENGINE_ERROR: none_here(places.ENGINE_ERROR),
    places.ATTEMPTS: attempts,
    places.PROCESS_ATTEMPTS: process_attempts,
    places.PROCESS_EVENTS: process_events,
    places.PROCESS_SUMMARY: process_summary,
    places.NODE_SUMMARY: node_summary,
    places.PROGRESS: progress,
    places.ERRORS: errors,
    places.ERRORS_JSON: errors_json,
    places.PROCESS_ERRORS: process_errors,
    places.LOST_WORKERS: none_here(places.LOST_WORKERS),
    places.FAILED_ITEMS: failed_items,
    places.METRICS: metrics,
    places.STREAMS["stdout"]: stdout,
    places.STREAMS["stderr"]: stderr,
    places.STREAMS["log"]: entry_script_log,
    places.STREAMS["log_dir"]: log_dir,
    places.NODE_USAGE: node_usage,
    places.DISK_USAGE: disk_usage,
    places.PROCESS_USAGE: process_usage,
    places.PROCESS_LIST: process_list,
    places.STREAMS["cProfile"]: profiles,
    places.STREAMS["memray"]: none_here(places.STREAMS["memray"]),
}


def test_every_path_has_its_check() -> None:
    assert set(CHECKS) == all_places()


def random_settings(rng: random.Random) -> Iterator[tuple[str, Any]]:
    yield "mini_batch_size", rng.choice([1, 1, 2, 3])
    yield "run_max_try", rng.choice([1, 2, 3])
    yield "on_failed_mini_batch", rng.choice(["fail", "fail", "bisect"])
    yield "logging_format", rng.choice(["text", "json"])
    yield "run_invocation_timeout", 1.5
    yield "append_row_order", rng.choice(["any", "input"])
    yield "profiled", rng.choice([True, False])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", seeds())
def test_every_log_agrees_with_the_summary_and_with_the_others(seed: int, job: Any) -> None:
    rng = random.Random(seed)
    fates = {f"{number:04d}": rng.choice(FATES) for number in range(rng.randint(3, 24))}
    fates["0000"] = "ok"
    settings = dict(random_settings(rng))
    asked_for = {name: value for name, value in settings.items() if name != "profiled"}
    profiling = ["--profiling_module", "cProfile"] * settings["profiled"]
    done = job(SCRIPT, len(fates), seconds=150, arguments=[json.dumps(fates), *profiling], **asked_for)
    the = Evidence(done, fates, settings)
    assert the.summary.state == "Completed", the.done.run.error
    for check in CHECKS.values():
        check(the)
    unknown = [path for path in the.logs.rglob("*") if path.is_file() and not the.is_known(path)]
    assert not unknown

"""Every cause of a failed attempt by its name, the same in every place where it is told."""

from __future__ import annotations

import html
import json
import re

from prs_dask import TabularDataset

SCRIPT = """
import ctypes, os, signal, sys, time

def killed(number):
    os.kill(os.getpid(), number)
    time.sleep(60)

def hog():
    kept = []
    while True:
        kept.append(b"x" * (32 << 20))

DOES = {
    "raise": lambda: 1 / 0,
    "sys.exit": lambda: sys.exit(3),
    "nothing": lambda: None,
    "a text": lambda: "a text",
    "sleep": lambda: time.sleep(60),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "SIGKILL": lambda: killed(signal.SIGKILL),
    "SIGTERM": lambda: killed(signal.SIGTERM),
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(7)": lambda: os._exit(7),
    "memory": hog,
    "work": lambda: ["done"],
}

def run(mini_batch):
    return DOES[mini_batch["do"][0]]()
"""

CAUSES = {
    "raise": ("exception", "ZeroDivisionError"),
    "sys.exit": ("exception", "SystemExit"),
    "nothing": ("bad return", "None"),
    "a text": ("bad return", "str"),
    "sleep": ("time limit", "run_invocation_timeout=4 s"),
    "segfault": ("process died", "killed by SIGSEGV"),
    "abort": ("process died", "killed by SIGABRT"),
    "SIGKILL": ("process died", "killed by SIGKILL from outside"),
    "SIGTERM": ("process died", "killed by SIGTERM"),
    "os._exit(0)": ("process died", "exit code 0"),
    "os._exit(7)": ("process died", "exit code 7"),
    "memory": ("out of memory", "more than the 300 MiB it may have"),
    "bad file": ("load error", "UTF-8"),
}


def test_every_cause_has_its_name_in_csv_failed_items_error_log_report_and_python(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    folder = tmp_path / "tables"
    folder.mkdir()
    for number, do in enumerate(CAUSES):
        text = b"do\n\xff\xfe\n" if do == "bad file" else f"do\n{do}\n".encode()
        (folder / f"{number:02d}.csv").write_bytes(text)
    for number in range(20, 30):
        (folder / f"{number}.csv").write_text("do\nwork\n")
    inputs = TabularDataset.from_delimited_files(folder)
    done = job(
        SCRIPT, inputs=inputs, run_max_try=2, run_invocation_timeout=4, memory_limit_per_process="300MB", seconds=120
    )
    assert done.state == "Completed", done.run.error
    assert done.rows == ["done"] * 10
    numbered = dict(enumerate(CAUSES.values()))

    for number, (category, words) in numbered.items():
        rows = [row for row in done.attempts if row["Mini-batch Id"] == str(number)]
        assert [row["Error Category"] for row in rows] == [category] * 2, rows
        assert all(words in row["Error Message"] for row in rows), rows

    told = {failure.id: failure for failure in done.run.failed_items()}
    assert {number: failure.category for number, failure in told.items()} == {
        number: category for number, (category, _) in numbered.items()
    }
    assert all(words in told[number].message for number, (_, words) in numbered.items())
    assert {failure.attempts for failure in told.values()} == {2}

    lines = [json.loads(line) for line in done.log("user/failed_items.jsonl").splitlines()]
    assert {line["mini_batch"]: line["category"] for line in lines} == {
        number: category for number, (category, _) in numbered.items()
    }
    errors = done.logs("user/error/*/*.txt")
    for number, (category, words) in numbered.items():
        [line] = [line for line in errors.splitlines() if f"mini-batch {number}, attempt 2, {category}" in line]
        assert words in line

    page = (done.run.run_folder / "report.html").read_text()
    shown = re.findall(
        r"<tr><td[^>]*>(\d+)</td><td[^>]*>2</td><td class=\"nowrap\">([^<]*)</td><td class=\"text\">([^<]*)</td>", page
    )
    rows = {int(number): (category, html.unescape(message)) for number, category, message in shown}
    assert {number: category for number, (category, _) in rows.items()} == {
        number: category for number, (category, _) in numbered.items()
    }
    assert all(words in rows[number][1] for number, (_, words) in numbered.items())

"""Every kind of news lands in its place."""

from __future__ import annotations

import csv
import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack
from prs_dask.logs import places
from prs_dask.logs.attempt_table import HEADER
from prs_dask.logs.error_groups import ErrorGroups
from prs_dask.logs.process_events import ProcessEvent
from prs_dask.logs.summary import Progress, StepSummary
from prs_dask.logs.tree import LogTree
from prs_dask.redaction import Redactor

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
ERROR = AttemptError("ValueError", "bad \x1b image", "Traceback:\n\tline\n", "script.py:3 in run", "child says no")


@pytest.fixture
def tree(tmp_path: Path) -> LogTree:
    return LogTree(tmp_path / "logs")


def text(tree: LogTree, name: str) -> str:
    return (tree.files.folder / name).read_text("utf-8")


def attempt(mini_batch: int, number: int, category: int = 0, final: int = 1) -> AttemptRecord:
    return AttemptRecord(mini_batch, number, category, final, 5, 5, 10, NOW, 1.0, 0.1, 0.8, 0.5)


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "state": "Running",
        "stage": "running",
        "total": 500,
        "created": 480,
        "succeeded": 118,
        "failed": 2,
        "running": 4,
        "failed_items": 20,
        "items": 1200,
        "rate": 12.34,
        "seconds_left": 31.0,
        "elapsed": 10.0,
    }
    return Progress(**(values | changes))


SUMMARY = StepSummary("Failed", 500, 118, 2, 1200, 1180, 20, 126, 1180, 9.5, 12.0)


def test_what_processes_print_is_kept_byte_for_byte(tree: LogTree) -> None:
    tree.add_stream("stdout", 0, 3, b"no newline \xff")
    tree.add_stream("stdout", 0, 3, b" go on")
    tree.add_stream("stderr", 1, 0, b"\x1b[31m")
    tree.add_stream("log", 1, 1000, b"logged")
    read = {str(p.relative_to(tree.files.folder)): p.read_bytes() for p in tree.files.folder.rglob("*.txt")}
    assert read == {
        "user/stdout/0/process003.stdout.txt": b"no newline \xff go on",
        "user/stderr/1/process000.stderr.txt": b"\x1b[31m",
        "user/entry_script_log/1/process1000.log.txt": b"logged",
    }


def test_attempts_become_rows_and_errors(tree: LogTree) -> None:
    tree.add_attempts(0, 1, pack([attempt(0, 1), attempt(1, 1, Category.EXCEPTION, 0)]), {1: "b.png"}, {1: ERROR})
    tree.add_attempts(0, 2, pack([attempt(1, 2, Category.EXCEPTION, 1)]), None, {1: ERROR})
    tree.add_attempts(0, 2, b"")
    with (tree.files.folder / "sys/job_report/processed_mini-batches.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Status"] for row in rows] == ["Succeeded", "Failed attempt", "Failed"]
    assert text(tree, "user/error/0/process001.txt") == (
        "2026-01-01T00:00:01.000Z mini-batch 1, attempt 1, exception: ValueError: bad \\x1b image [b.png]\n"
        "Traceback:\n\tline\noutput of the subprocess:\nchild says no\n\n"
    )
    tree.tick(NOW)
    assert "[2 x] ValueError at script.py:3 in run" in text(tree, "user/error.txt")
    assert "for example: mini-batch 1, attempt 1, b.png" in text(tree, "user/error.txt")


def test_an_attempt_that_was_overtaken_is_no_error_of_the_script(tree: LogTree) -> None:
    why = AttemptError("overtaken", "another attempt of it was faster")
    tree.add_attempts(0, 1, pack([attempt(7, 1, Category.OVERTAKEN, 0)]), {7: "b.png"}, {7: why})
    tree.tick(NOW)
    assert not (tree.files.folder / "user").exists()
    assert text(tree, "sys/master_role.txt") == (
        "2026-01-01T00:00:01.000Z mini-batch 7 has succeeded elsewhere: attempt 1 on 0/process001, overtaken:"
        " another attempt of it was faster\n"
    )
    assert ",Overtaken,overtaken," in text(tree, "sys/job_report/processed_mini-batches.csv")


def test_load_errors_and_lost_workers_have_their_places(tree: LogTree) -> None:
    tree.add_process_error(0, 5, AttemptError("ImportError", "no module"), NOW, "loading the entry script")
    tree.add_attempts(
        -1, -1, pack([attempt(3, 1, Category.WORKER_LOST)]), None, {3: AttemptError("worker lost", "gone")}
    )
    assert "loading the entry script: ImportError: no module" in text(tree, "user/error/0/process005.txt")
    assert "mini-batch 3, attempt 1, worker lost: worker lost: gone" in text(tree, "user/error/lost_workers.txt")


def test_errors_are_rewritten_every_second_at_most(tree: LogTree) -> None:
    tree.tick(NOW)
    assert not (tree.files.folder / "user/error.txt").exists()
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.tick(NOW)
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.tick(NOW + 0.9)
    assert "[1 x]" in text(tree, "user/error.txt")
    tree.tick(NOW + 1)
    assert "[2 x]" in text(tree, "user/error.txt")


def test_a_million_tracebacks_of_one_error_become_lines(tree: LogTree) -> None:
    long = ERROR._replace(traceback="x" * 10_000)
    for number in range(1100):
        tree.add_attempts(0, 0, pack([attempt(number, 1, 1)]), None, {number: long})
    content = text(tree, "user/error/0/process000.txt")
    assert content.count("x" * 10_000) == 1000
    assert content.count(" mini-batch ") == 1100
    assert "(seen 1,100 times by now" in content


def test_the_line_of_code_is_looked_up_in_the_source_as_it_was_sent(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("script.py", "import re\n\n    re.match(slow, 'canary-value')\n")
    tree = LogTree(tmp_path / "logs", Redactor({"storage_options": {"secret": "canary-value"}}))
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.tick(NOW)
    assert "    3 | re.match(slow, '***')\n" in text(tree, "user/error.txt")


def test_a_further_part_of_a_step_run_counts_on(tmp_path: Path) -> None:
    tree = LogTree(tmp_path / "logs")
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.finish(SUMMARY, NOW)
    further = LogTree(tmp_path / "logs")
    further.resumed("resumed", NOW + 1, failed_again=True)
    assert not (tmp_path / "logs/job_result.json").exists()
    further.add_process_error(0, 1, ERROR, NOW + 2, "loading the entry script")
    further.tick(NOW + 3)
    assert "[2 x, 1 of them since it was resumed] ValueError" in text(further, "user/error.txt")
    assert ErrorGroups.from_json(text(further, "user/error.json")).text() == text(further, "user/error.txt")


def test_a_line_that_a_killed_driver_left_torn_is_not_glued_to_the_next(tmp_path: Path) -> None:
    table, items = (tmp_path / "logs" / name for name in (places.ATTEMPTS, places.FAILED_ITEMS))
    for path in (table, items):
        path.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(HEADER + b"0,1,0/process000,2026-01-")
    items.write_text('{"item": "a"}\n{"item"')
    tree = LogTree(tmp_path / "logs")
    tree.resumed("resumed", NOW, failed_again=False)
    tree.add_attempts(0, 1, pack([attempt(7, 1)]))
    tree.add_failed_items(7, ["b"], 1, "exception", "no")
    assert [row["Mini-batch Id"] for row in csv.DictReader(text(tree, places.ATTEMPTS).splitlines())] == ["7"]
    assert [json.loads(line)["item"] for line in text(tree, places.FAILED_ITEMS).splitlines()] == ["a", "b"]


@pytest.mark.parametrize("as_json", [False, True])
def test_nor_is_one_of_the_logs_that_a_further_part_adds_to(tmp_path: Path, as_json: bool) -> None:
    before = LogTree(tmp_path / "logs", as_json=as_json)
    before.driver("begun", NOW)
    before.scheduler("seen", NOW)
    before.engine_error("lane", "a fault", NOW)
    before.progress(progress(), NOW)
    lost = AttemptError("WorkerLost", "gone", "", "")
    before.add_attempts(-1, -1, pack([attempt(1, 1, Category.WORKER_LOST)]), errors={1: lost})
    before.files.close()
    names = [places.DRIVER_LOG, places.MASTER_ROLE, places.ENGINE_ERROR.format(component="lane"), places.LOST_WORKERS]
    [overview] = (tmp_path / "logs").glob(places.OVERVIEW.format(hour="*"))
    paths = [*(tmp_path / "logs" / name for name in names), overview]
    whole = {path: path.read_bytes() for path in paths}
    for path in paths:
        with path.open("ab") as file:
            file.write(b'{"torn": "tor')
    after = LogTree(tmp_path / "logs", as_json=as_json)
    after.resumed("resumed", NOW + 1, failed_again=False)
    after.driver("goes on", NOW + 2)
    after.scheduler("goes on", NOW + 2)
    after.engine_error("lane", "another", NOW + 2)
    after.add_attempts(-1, -1, pack([attempt(1, 1, Category.WORKER_LOST)]), errors={1: lost})
    after.files.close()
    for path in paths:
        now = path.read_bytes()
        assert now.startswith(whole[path])
        assert len(now) > len(whole[path])
        assert b"torn" not in now
    for path in [path for path in paths if as_json and path.name != "lost_workers.txt"]:
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_progress_is_asked_for_when_nobody_can_write_an_older_one_behind_it(tree: LogTree) -> None:
    asked = threading.Event()

    def newest() -> Progress:
        asked.set()
        return progress(stage="newest")

    with tree._lock:
        waiting = threading.Thread(target=tree.progress, args=(newest, NOW))
        waiting.start()
        tree.progress(progress(stage="older"), NOW)
        assert not asked.wait(0.1)
    waiting.join()
    lines = text(tree, places.OVERVIEW.format(hour="2026010100")).splitlines()
    assert ["older" in lines[0], "newest" in lines[-1]] == [True, True]


def test_where_prs_dask_itself_failed_that_is_to_be_opened_first(tree: LogTree) -> None:
    assert f"{places.DRIVER_LOG}\n" in tree.finish(replace(SUMMARY, failed_items=0), NOW)
    tree.engine_error("lane", "a fault", NOW)
    assert f"{places.ENGINE_ERROR.format(component='lane')}\n" in tree.finish(replace(SUMMARY, failed_items=0), NOW)


def test_a_table_of_an_earlier_version_stays_as_it_began(tmp_path: Path) -> None:
    path = tmp_path / "logs" / places.ATTEMPTS
    path.parent.mkdir(parents=True)
    columns = ",".join(places.ATTEMPT_COLUMNS[:-1])
    path.write_text(columns + "\n0,1,0/process000,2026-01-01T00:00:00.000Z,1,1,0,1.0,1.0,1.0,Succeeded,,,a\n")
    tree = LogTree(tmp_path / "logs")
    tree.resumed("resumed", NOW, failed_again=False)
    tree.add_attempts(0, 1, pack([attempt(7, 1)]), {7: "b"})
    rows = list(csv.DictReader(text(tree, places.ATTEMPTS).splitlines(), strict=True))
    assert [(row["Mini-batch Id"], row["Mini-batch Detail"]) for row in rows] == [("0", "a"), ("7", "b")]
    assert all(None not in row and "Read Seconds" not in row for row in rows)


def test_where_earlier_errors_cannot_be_read_their_text_is_kept(tmp_path: Path) -> None:
    (tmp_path / "logs/user").mkdir(parents=True)
    (tmp_path / "logs/user/error.txt").write_text("of before")
    (tmp_path / "logs/user/error.json").write_text("torn")
    tree = LogTree(tmp_path / "logs")
    tree.resumed("resumed", NOW, failed_again=False)
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.tick(NOW)
    assert text(tree, "user/error.1.txt") == "of before"
    assert "[1 x]" in text(tree, "user/error.txt")


def _is_a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def _leads_to_itself(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(path.name)


def _holds_a_number_that_none_can_be(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(
        HEADER + b"9" * 30 + b",1,0/process000,2026-01-01T00:00:00.000Z,1,1,0,1.0,1.0,1.0,Succeeded,,,a,0\n"
    )


@pytest.mark.parametrize(
    ("name", "lacks", "break_"),
    [
        (places.ATTEMPTS, "attempts", _is_a_folder),
        (places.ATTEMPTS, "attempts", _leads_to_itself),
        (places.ATTEMPTS, "attempts", _holds_a_number_that_none_can_be),
        (places.PROCESS_EVENTS.format(node=0), "starts and ends", _is_a_folder),
    ],
    ids=["attempts in a folder", "attempts in a loop", "attempts that are damaged", "events in a folder"],
)
def test_an_earlier_log_that_cannot_be_read_is_a_gap_that_is_told(
    tmp_path: Path, name: str, lacks: str, break_: Callable[[Path], None]
) -> None:
    break_(tmp_path / "logs" / name)
    other = ProcessEvent(NOW, 1, 5, "started", "10.0.0.1", 71)
    before = LogTree(tmp_path / "logs")
    before.add_process_event(other)
    before.files.close()
    tree = LogTree(tmp_path / "logs")
    tree.resumed("resumed", NOW, failed_again=True)
    tree.add_process_event(other._replace(process=6))
    tree.tick(NOW)
    told = text(tree, places.DRIVER_LOG)
    assert f" cannot be read, so the summaries of processes and nodes lack {lacks}: " in told
    assert told.count(f"of earlier parts {name.replace('/0/', '/*/')} ") == told.count(" cannot be read, ") == 1
    assert "process006" in text(tree, places.PROCESS_SUMMARY)


def test_what_an_earlier_part_did_not_receive_to_its_end_is_gone_when_another_begins(tmp_path: Path) -> None:
    killed = LogTree(tmp_path / "logs")
    killed.add_stream("log_dir", 0, 1, b"half", b"model.bin", whole=True, more=True)
    killed.files.close()
    before = {path for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    assert len(before) == 1
    tree = LogTree(tmp_path / "logs")
    tree.resumed("resumed", NOW, failed_again=False)
    assert not before & set((tmp_path / "logs").rglob("*"))
    assert not (tmp_path / "logs/.coming").exists()
    tree.add_stream("log_dir", 0, 1, b"half ", b"model.bin", whole=True, more=True)
    tree.add_stream("log_dir", 0, 1, b"and half", b"model.bin")
    (model,) = (tmp_path / "logs").rglob("model.bin")
    assert model.read_bytes() == b"half and half"


def test_events_of_processes_are_in_their_nodes_table_and_tell_no_secret(tmp_path: Path) -> None:
    tree = LogTree(tmp_path / "logs", Redactor({"storage_options": {"secret": "s3cret-key"}}))
    tree.add_process_event(ProcessEvent(NOW, 2, 5, "started", "10.0.0.1", 71))
    tree.add_process_event(ProcessEvent(NOW, 2, 5, "failed", why='ValueError: "s3cret-key", a\nb'))
    tree.tick(NOW)
    rows = list(csv.DictReader(text(tree, "sys/node/2/processes.csv").splitlines()))
    assert tuple(rows[0]) == places.PROCESS_EVENT_COLUMNS
    assert [(row["Process"], row["Event"], row["Pid"]) for row in rows] == [
        ("process005", "started", "71"),
        ("process005", "failed", ""),
    ]
    assert rows[1]["Why"].endswith(r", a\nb")
    for name in ("sys/node/2/processes.csv", places.MASTER_ROLE, places.PROCESS_SUMMARY):
        assert "s3cret" not in text(tree, name)


def test_failed_items_are_json_lines(tree: LogTree) -> None:
    tree.add_failed_items(4, ["a\n.png", "b\udc80"], 3, "exception", "why?sig=canary")
    tree.add_failed_items(5, None, 1, "time limit", "", count=10)
    lines = [json.loads(line) for line in text(tree, "user/failed_items.jsonl").splitlines()]
    assert [line["item"] for line in lines] == ["a\n.png", "b\udc80", None]
    assert lines[0] == {
        "item": "a\n.png",
        "mini_batch": 4,
        "attempts": 3,
        "category": "exception",
        "message": "why?sig=***",
    }
    assert lines[2]["items"] == 10


def test_items_missing_in_a_short_result_are_listed_and_stay_when_failed_ones_are_tried_again(tree: LogTree) -> None:
    tree.add_failed_items(4, ["a"], 3, "exception", "no")
    short = attempt(5, 2, 0)._replace(items=10, results=7)
    single = attempt(1 << 63, 1, 0)._replace(items=1, results=0)
    tree.add_missing_results([(short, None, None), (single, "b?sig=canary", (6, "6[0:1]"))])
    missing = [
        {
            "item": None,
            "items": 3,
            "mini_batch": 5,
            "attempts": 2,
            "category": "missing result",
            "message": "run() returned 7 results for 10 items",
        },
        {
            "item": "b?sig=***",
            "mini_batch": 6,
            "part": "6[0:1]",
            "attempts": 1,
            "category": "missing result",
            "message": "run() returned 0 results for 1 items",
        },
    ]
    found = [json.loads(line) for line in text(tree, "user/failed_items.jsonl").splitlines()]
    assert found[1:] == missing
    tree.resumed("again", NOW, failed_again=True)
    assert [json.loads(line) for line in text(tree, "user/failed_items.jsonl").splitlines()] == missing


def test_the_overview_has_a_line_a_minute_and_one_at_each_change(tree: LogTree) -> None:
    for seconds in range(0, 130, 5):
        tree.progress(progress(), NOW + seconds)
    tree.progress(progress(stage="writing the output"), NOW + 131)
    tree.progress(progress(stage="writing the output", total=None, seconds_left=None), NOW + 132)
    tree.progress(progress(state="Canceled", stage="writing the output", total=None, seconds_left=None), NOW + 133)
    lines = text(tree, "job_progress_overview.2026010100.txt").splitlines()
    assert [line[14:19] for line in lines] == ["00:00", "01:00", "02:00", "02:11", "02:13"]
    assert lines[0] == (
        "2026-01-01T00:00:00.000Z Running, running: 120 of 500 mini-batches done"
        " (480 created, 4 running, 118 succeeded, 2 failed); 1,200 items, 20 failed; 12.3/s, 31.0 s left; 10.0 s so far"
    )
    assert "120 of 480 or more mini-batches" in lines[-1]
    assert "time left unknown" in lines[-1]


def test_the_overview_rotates_daily(tree: LogTree) -> None:
    for hours in (23.5, 23.9, 24.1, 30, 47.9, 48.0):
        tree.progress(progress(stage=str(hours)), NOW + hours * 3600)
    counts = {p.name: len(p.read_text().splitlines()) for p in tree.files.folder.glob("*.txt")}
    assert counts == {
        "job_progress_overview.2026010123.txt": 2,
        "job_progress_overview.2026010200.txt": 3,
        "job_progress_overview.2026010300.txt": 1,
    }


def test_the_end_tells_state_cause_counts_and_what_to_do(tree: LogTree) -> None:
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    tree.tick(NOW)
    tree.add_process_error(0, 0, ERROR, NOW, "loading the entry script")
    result = tree.finish(
        SUMMARY, NOW + 1, cause="20 items failed\n\x1b[2J?sig=canary", resume="prs-dask resume /runs/x", output="/out"
    )
    assert text(tree, "job_result.txt") == result
    assert result.splitlines() == [
        "State: Failed",
        "Cause: 20 items failed",
        "    \\x1b[2J?sig=***",
        "Mini-batches: 500 (118 succeeded, 2 failed, 380 not run)",
        "Items: 1,200 (1,180 succeeded, 20 failed)",
        "Attempts: 126",
        "Rows: 1,180",
        "Time: 9.5 s from the first mini-batch handed out to the last row on disk, 12.0 s from submit",
        "Output: /out",
        f"Open first: {tree.files.folder}/user/error.txt",
        "Resume: prs-dask resume /runs/x",
    ]
    assert "State: Failed" in text(tree, "job_progress_overview.2026010100.txt")
    assert "[2 x]" in text(tree, "user/error.txt")


def test_the_end_tells_of_logs_that_did_not_come(tree: LogTree) -> None:
    assert "Logs:" not in tree.finish(SUMMARY, NOW)
    told = tree.finish(SUMMARY, NOW, missing_logs="not all have come")
    assert told.endswith("Logs: not all have come\n")
    assert text(tree, places.JOB_RESULT) == told


def test_what_went_wrong_is_explained_also_where_nothing_was_raised(tree: LogTree) -> None:
    assert tree.explanation(replace(SUMMARY, failed_items=0)) == ""
    table = tree.files.folder / "sys/job_report/processed_mini-batches.csv"
    assert tree.explanation(SUMMARY).startswith("run() returned fewer results than it was given items")
    assert f"Open first: {table}" in tree.finish(SUMMARY, NOW)
    tree.add_process_error(0, 0, ERROR, NOW, "shutdown()")
    assert tree.explanation(SUMMARY).startswith("most frequent error, 1 x: ValueError")


def test_lines_may_be_json(tmp_path: Path) -> None:
    tree = LogTree(tmp_path, as_json=True)
    tree.driver("running", NOW, "stage", stage="running")
    tree.scheduler("worker tcp://x came", NOW)
    tree.engine_error("driver loop", "Traceback\nlast", NOW)
    tree.progress(progress(), NOW)
    tree.finish(SUMMARY, NOW, cause="why")
    told = [json.loads(line) for path in sorted(tmp_path.rglob("*.txt")) if path.name != "job_result.txt"
            for line in path.read_text().splitlines()]  # fmt: skip
    assert [(one["log"], one["event"], one["level"]) for one in told] == [
        ("driver", "stage", "INFO"),
        ("overview", "progress", "INFO"),
        ("overview", "end", "ERROR"),
        ("error", "fault", "ERROR"),
        ("scheduler", "note", "INFO"),
        ("scheduler", "progress", "INFO"),
    ]
    assert (told[1]["succeeded"], told[1]["seconds_left"], told[2]["mini_batches"]) == (118, 31.0, 500)
    assert (told[2]["cause"], told[2]["state"], told[3]["component"]) == ("why", "Failed", "driver loop")
    assert json.loads((tmp_path / "job_result.json").read_text())["cause"] == "why"  # as ever


def test_several_threads_may_write_at_once(tree: LogTree) -> None:
    def write(process: int) -> None:
        for number in range(50):
            tree.add_attempts(0, process, pack([attempt(number, 1)]))
            tree.driver(f"{process} {number}", NOW)
            tree.tick(NOW + number)
            tree.progress(progress(stage=f"{process} {number}"), NOW)

    threads = [threading.Thread(target=write, args=(process,)) for process in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(text(tree, places.ATTEMPTS).splitlines()) == 201
    assert sorted(line.split()[1:] for line in text(tree, "driver_log.txt").splitlines()) == sorted(
        [str(process), str(number)] for process in range(4) for number in range(50)
    )
    assert tree.files.failures == 0


def test_lines_of_driver_scheduler_and_engine(tmp_path: Path) -> None:
    tree = LogTree(tmp_path, Redactor({"storage_options": {"secret": "canary-value"}}))
    tree.driver("two\nlines with canary-value", NOW)
    tree.scheduler("worker tcp://x came", NOW)
    tree.engine_error("../driver loop", "Traceback", NOW)
    assert text(tree, "driver_log.txt") == "2026-01-01T00:00:00.000Z two\n    lines with ***\n"
    assert text(tree, "sys/master_role.txt") == "2026-01-01T00:00:00.000Z worker tcp://x came\n"
    assert (tmp_path / "sys/error/___driver_loop.txt").exists()


def test_logs_that_cannot_be_written_never_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    told: list[str] = []
    tree = LogTree(tmp_path / "logs", on_trouble=told.append)
    tree.add_stream("stdout", 0, 0, b"x")
    tree.add_attempts(0, 0, pack([attempt(1, 1, 1)]), None, {1: ERROR})
    tree.add_failed_items(1, ["a"], 1, "exception", "m")
    tree.progress(progress(), NOW)
    tree.driver("x", NOW)
    result = tree.finish(SUMMARY, NOW)
    assert len(told) == 1
    assert "Logs: 14 writes failed, first " in result

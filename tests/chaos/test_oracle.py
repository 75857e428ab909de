"""Each rule of the oracle catches what it is there for: a folder that is right in all else, broken in this.

A check that cannot fail is worth nothing, so no rule may be without a folder that breaks it.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.evidence import collect
from tests.chaos.oracle import RULES, judge, runs_again
from tests.chaos.plans import Fault, Plan, Settings, to_json
from tests.chaos.rules_of_ends import failed_items_file
from tests.chaos.rules_of_items import budgets
from tests.chaos.rules_of_processes import finished_is_not_run_again
from tests.chaos.workload import Poison, Workload, row_of

BAD, HANGING = 3, 5
PLAN = Plan(
    seed=7,
    workload=Workload("files", 8, 1, poisons=(Poison(BAD, "raise"), Poison(HANGING, "loop", flaky=True))),
    cluster="bare",
    lanes=2,
    settings=Settings(run_max_try=2, run_seconds=1.0, order="input", action="append_row", error_threshold=1),
    faults=(Fault("stop_worker", 0.5),),
)
"""Eight mini-batches of one item; one fails for good, one hangs in its first attempt."""

COLUMNS = (
    "Mini-batch Id,Picked Count,Process,Process Start Time,Total,Succeeded,Failed,Elapsed Seconds,"
    "Process Seconds,Run Method Seconds,Status,Error Category,Error Message,Mini-batch Detail"
)


FAILED_ITEMS = "disk/run/logs/user/failed_items.jsonl"


class Folder:
    """A folder as `jobs.play` leaves it after a run in which all went as it should."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run, self.out = path / "disk" / "run", path / "disk" / "out" / "parallel_run_step.txt"
        for folder in (
            self.run / "logs/sys/job_report",
            self.run / "logs/user",
            self.out.parent,
            path / "traces",
            path / "data",
        ):
            folder.mkdir(parents=True)
        (path / "plan.json").write_text(to_json(PLAN))
        good = [item for item in range(8) if item != BAD]
        self.out.write_text("".join(row_of(item) + "\n" for item in good))
        self.journal(
            {"kind": "header", "format": 1},
            {"kind": "commit", "output": 48, "finished": "0-2", "failed": []},
            {"kind": "commit", "output": 112, "finished": "4-7", "failed": [{"id": BAD, "items": 1, "attempts": 2}]},
            {"kind": "end", "state": "Completed"},
        )
        self.table = [self.row(item) for item in good if item != HANGING]
        self.table += [self.row(BAD, 1, "Failed attempt", "exception"), self.row(BAD, 2, "Failed", "exception")]
        self.table += [self.row(HANGING, 1, "Failed attempt", "time limit"), self.row(HANGING, 2)]
        self.write_table()
        self.lines(FAILED_ITEMS, {"item": "/data/000003", "mini_batch": BAD, "attempts": 2, "category": "exception"})
        self.result(State="Completed", Rows="7")
        self.driver(state="Completed", error=None, left=[], summary=self.counts())
        self.lines(
            "events.jsonl",
            {"what": "driver started", "driver": 1, "time": 10.0, "wall": 1e9, "pid": 1},
            {"what": "driver ended", "driver": 1, "time": 30.0, "code": 0, "hung": False, "said": True, "wall": 1e9},
        )
        self.lines("late.jsonl")
        self.left()
        self.trace(100, *[self.call(item, 12.0 + item / 10) for item in (0, 1, 2, BAD)], last=14.0)
        self.trace(101, *[self.call(item, 13.0 + item / 10) for item in (4, 6, 7, BAD)], last=15.0)
        self.trace(102, [("run", 16.0, {"first": HANGING, "items": 1, "attempt": 1})])
        self.trace(103, self.call(HANGING, 17.5, attempt=2), last=18.0)
        self.lines("deaths.jsonl", *[{"pid": pid, "time": 17.1, "seen": True} for pid in (102,)])

    def counts(self, **changed: int) -> dict[str, int]:
        names = (
            "mini_batches succeeded_mini_batches failed_mini_batches items succeeded_items failed_items attempts rows"
        )
        return dict(zip(names.split(), (8, 7, 1, 8, 7, 1, 10, 7), strict=True)) | changed

    def lines(self, name: str, *entries: dict[str, Any]) -> None:
        (self.path / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def journal(self, *entries: dict[str, Any]) -> None:
        text = ""
        for entry in entries:
            rest = json.dumps(entry, separators=(",", ":"))[1:]
            text += f'{{"crc":"{zlib.crc32(rest.encode()):08x}",{rest}\n'
        (self.run / "journal.jsonl").write_text(text)

    def row(self, item: int | str, attempt: int = 1, status: str = "Succeeded", category: str = "") -> list[Any]:
        good = status == "Succeeded"
        when = "2026-01-31T08:15:00.123Z"
        return [item, attempt, "0/process000", when, 1, int(good), int(not good), 1, 1, 1, status, category, "", ""]

    def write_table(self) -> None:
        with (self.run / "logs/sys/job_report/processed_mini-batches.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS.split(","), *self.table])

    def result(self, **changed: str) -> None:
        lines = {
            "State": "Completed",
            "Mini-batches": "8 (7 succeeded, 1 failed)",
            "Items": "8 (7 succeeded, 1 failed)",
            "Attempts": "10",
            "Rows": "7",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        (self.run / "logs/job_result.txt").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))

    def driver(self, **said: Any) -> None:
        path = self.path / "driver-1.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | said))

    def left(self, **left: list[str]) -> None:
        (self.path / "left.json").write_text(json.dumps({"run": [], "all": []} | left))

    def call(self, item: int, began: float, attempt: int = 1) -> list[tuple[str, float, dict[str, int]]]:
        what = {"first": item, "items": 1, "attempt": attempt}
        ends = [("raised" if item == BAD else "done", began + 0.01, what)]
        return [("run", began, what), *ends]

    def trace(
        self,
        pid: int,
        *calls: list[tuple[str, float, dict[str, int]]],
        began: float = 11.0,
        last: float | None = None,
        part: int = 1,
    ) -> None:
        run_id = "chaos-0a" if part == 1 else f"chaos-0a.{part - 1}"
        told = {"folder": f"/tmp/prs-dask-0/{run_id}-0123abcd/worker-1-x/process000/work"}
        events: list[tuple[str, float, dict[str, Any]]] = [("import", began, told), ("init", began, {})]
        events += [("ready", began, {})]
        events += [event for call in calls for event in call]
        events += [("shutdown", last, {})] if last else []
        path = f"traces/{pid}-1.jsonl"
        self.lines(path, *[{"pid": pid, "time": time, "event": name, **more} for name, time, more in events])

    def fault(self, name: str, start: float = 12.0, end: float = 12.0) -> None:
        with (self.path / "events.jsonl").open("a") as file:
            about = {"what": "fault", "name": name, "hit": [1], "driver": 1, "start": start, "time": end}
            file.write(json.dumps(about) + "\n")

    def killed_and_resumed(self, when: float) -> None:
        """The first driver was killed then, and a second one goes on at 40."""
        self.fault("kill_driver", when, when)
        (self.path / "driver-1.json").rename(self.path / "driver-2.json")
        said = {1.0: "step run chaos-0a of step chaos", 31.0: "resumed, part 2: before it all was well"}
        times = {datetime.fromtimestamp(1e9 + when, UTC).isoformat(): text for when, text in said.items()}
        log = "".join(f"{when.replace('+00:00', 'Z')} {text}\n" for when, text in times.items())
        (self.run / "logs" / "driver_log.txt").write_text(log)
        ends = {"what": "driver ended", "driver": 2, "time": 60.0, "code": 0, "hung": False, "wall": 1e9 + 50}
        with (self.path / "events.jsonl").open("a") as file:
            for event in ({"what": "driver started", "driver": 2, "time": 40.0, "wall": 1e9 + 30, "pid": 2}, ends):
                file.write(json.dumps(event) + "\n")

    def end(self, state: str, error: str) -> None:
        """The step run has ended otherwise; nothing but that is changed."""
        self.driver(state=state, error=error)
        text = (self.run / "journal.jsonl").read_text().splitlines(keepends=True)[:-1]
        entries = [json.loads("{" + line[len('{"crc":"00000000",') :]) for line in text]
        self.journal(*entries, {"kind": "end", "state": state})
        self.out.rename(self.out.with_name(self.out.name + ".partial"))

    def replan(self, **settings: Any) -> None:
        self._change_plan("settings", settings)

    def rework(self, **workload: Any) -> None:
        self._change_plan("workload", workload)

    def _change_plan(self, name: str, changes: dict[str, Any]) -> None:
        plan = json.loads((self.path / "plan.json").read_text())
        plan[name] |= changes
        (self.path / "plan.json").write_text(json.dumps(plan))

    def change(self, name: str, old: str, new: str) -> None:
        path = self.path / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def violations(folder: Folder) -> list[str]:
    return list(judge(collect(folder.path)))


def rewrite(folder: Folder, lines: list[str]) -> None:
    folder.out.write_text("".join(lines))


BREAKS: dict[str, tuple[str, Callable[[Folder], object]]] = {}
"""By what is wrong: the rule that says so, and how it is brought about."""


def breaks(rule: str) -> Callable[[Callable[[Folder], object]], Callable[[Folder], object]]:
    def keep(function: Callable[[Folder], object]) -> Callable[[Folder], object]:
        BREAKS[function.__name__] = (rule, function)
        return function

    return keep


def commits(
    folder: Folder, first: str, second: str, failed: tuple[int, ...] = (BAD,), state: str = "Completed"
) -> None:
    failures = [{"id": number, "items": 1, "attempts": 2} for number in failed]
    folder.journal(
        {"kind": "header", "format": 1},
        {"kind": "commit", "output": 48, "finished": first, "failed": []},
        {"kind": "commit", "output": 112, "finished": second, "failed": failures},
        {"kind": "end", "state": state},
    )


@breaks("every_item_once")
def a_mini_batch_is_committed_twice(folder: Folder) -> None:
    commits(folder, "0-2", "2,4-7")


@breaks("every_item_once")
def a_mini_batch_is_finished_and_failed(folder: Folder) -> None:
    commits(folder, "0-3", "4-7")


@breaks("every_item_once")
def a_mini_batch_is_neither_and_yet_it_has_completed(folder: Folder) -> None:
    commits(folder, "0-2", "4-6")


@breaks("every_item_once")
def a_mini_batch_is_told_that_does_not_exist(folder: Folder) -> None:
    commits(folder, "0-2", "4-8")


@breaks("rows")
def a_row_stands_there_twice(folder: Folder) -> None:
    folder.out.write_text(folder.out.read_text() + row_of(7) + "\n")


@breaks("rows")
def a_row_is_missing(folder: Folder) -> None:
    rewrite(folder, folder.out.read_text().splitlines(keepends=True)[1:])


@breaks("rows")
def a_row_is_torn(folder: Folder) -> None:
    rewrite(folder, [folder.out.read_text().replace(row_of(2) + "\n", row_of(2)[:9] + "\n")])


@breaks("rows")
def the_last_row_has_no_end(folder: Folder) -> None:
    rewrite(folder, [folder.out.read_text()[:-1]])


@breaks("rows")
def a_row_of_a_failed_mini_batch_is_there(folder: Folder) -> None:
    folder.out.write_text(folder.out.read_text() + row_of(BAD) + "\n")


@breaks("rows")
def there_is_no_output_at_all(folder: Folder) -> None:
    folder.out.unlink()


@breaks("rows")
def rows_of_a_mini_batch_do_not_stand_together(folder: Folder) -> None:
    folder.rework(items=16, size=2, poisons=[{"item": 6, "harm": "raise", "flaky": False}])
    order = [0, 2, 1, *range(3, 6), *range(8, 16)]
    rewrite(folder, [row_of(item) + "\n" for item in order])


@breaks("rows")
def summary_only_writes_rows(folder: Folder) -> None:
    folder.replan(action="summary_only", order="any")


@breaks("output_file")
def it_has_completed_and_the_output_is_partial(folder: Folder) -> None:
    folder.out.rename(folder.out.with_name(folder.out.name + ".partial"))


@breaks("output_file")
def it_has_failed_and_the_output_has_its_name(folder: Folder) -> None:
    folder.end("Failed", "1 failed items are more than error_threshold=0 allows")
    folder.out.with_name(folder.out.name + ".partial").rename(folder.out)


@breaks("output_file")
def the_partial_output_is_longer_than_the_journal_says(folder: Folder) -> None:
    folder.end("Failed", "1 failed items are more than error_threshold=0 allows")
    with folder.out.with_name(folder.out.name + ".partial").open("a") as file:
        file.write(row_of(BAD))


@breaks("input_order")
def the_output_is_in_another_order(folder: Folder) -> None:
    rewrite(folder, folder.out.read_text().splitlines(keepends=True)[::-1])


@breaks("journal_is_whole")
def a_line_of_the_journal_is_damaged(folder: Folder) -> None:
    folder.change("disk/run/journal.jsonl", '"output":48', '"output":49')


@breaks("journal_is_whole")
def the_journal_does_not_say_how_it_ended(folder: Folder) -> None:
    commits(folder, "0-2", "4-7", state="Failed")


def overtake(folder: Folder, item: int, number: int = 1, items: int = 0, times: int = 1) -> None:
    """An attempt of it is overtaken; one more attempt is told everywhere."""
    row = folder.row(item, number, "Overtaken", "overtaken")
    row[4:7], row[9] = [items, 0, items], 0
    folder.table[:0] = [row] * times
    folder.write_table()
    folder.result(Attempts=str(10 + times), Rows="7")
    folder.driver(summary=folder.counts(attempts=10 + times))
    folder.trace(104, [("run", 12.0, {"first": item, "items": 1, "attempt": number})])


@breaks("second_attempts")
def an_attempt_is_overtaken_where_none_was_wanted(folder: Folder) -> None:
    overtake(folder, 2)


@breaks("second_attempts")
def an_attempt_is_overtaken_by_one_that_failed(folder: Folder) -> None:
    folder.replan(speculate=True)
    overtake(folder, BAD)


@breaks("second_attempts")
def an_attempt_is_overtaken_by_another_try(folder: Folder) -> None:
    folder.replan(speculate=True)
    overtake(folder, 2, number=2)


@breaks("second_attempts")
def items_of_an_attempt_that_was_overtaken_are_counted(folder: Folder) -> None:
    folder.replan(speculate=True)
    overtake(folder, 2, items=1)


@breaks("second_attempts")
def a_mini_batch_is_started_twice_more(folder: Folder) -> None:
    folder.replan(speculate=True)
    overtake(folder, 2, times=2)


@breaks("budgets")
def two_attempts_of_one_number_where_none_are_started_twice(folder: Folder) -> None:
    folder.table.insert(0, folder.row(2, 1, "Failed attempt", "time limit"))
    folder.write_table()


@breaks("bad_items")
def what_is_bad_has_finished(folder: Folder) -> None:
    commits(folder, "0-3", "4-7", failed=())


@breaks("bad_items")
def what_is_good_has_failed(folder: Folder) -> None:
    commits(folder, "0-2", "5-7", failed=(BAD, 4))


@breaks("budgets")
def a_mini_batch_has_more_attempts_than_it_may(folder: Folder) -> None:
    folder.table.insert(-2, folder.row(BAD, 3, "Failed", "exception"))
    folder.write_table()


@breaks("budgets")
def a_mini_batch_fails_before_its_budget_is_used_up(folder: Folder) -> None:
    folder.table = [row for row in folder.table if row[:2] != [BAD, 2]]
    folder.change("disk/run/logs/job_result.txt", "Attempts: 10", "Attempts: 9")
    folder.table[[row[0] for row in folder.table].index(BAD)][10] = "Failed"
    folder.write_table()


@breaks("budgets")
def an_innocent_is_charged_and_no_fault_did_it(folder: Folder) -> None:
    folder.table.insert(0, folder.row(0, 1, "Failed attempt", "process died"))
    folder.table[1][1] = 2
    folder.write_table()


@breaks("budgets")
def attempts_are_numbered_wrong(folder: Folder) -> None:
    folder.table[0][1] = 2
    folder.write_table()


@breaks("budgets")
def a_mini_batch_goes_on_after_its_end(folder: Folder) -> None:
    folder.table.append(folder.row(0, 2))
    folder.write_table()


@breaks("counts")
def the_result_file_counts_otherwise(folder: Folder) -> None:
    folder.result(Items="8 (8 succeeded, 0 failed)")


@breaks("counts")
def the_summary_counts_otherwise(folder: Folder) -> None:
    folder.driver(summary=folder.counts(rows=8))


@breaks("counts")
def the_number_of_attempts_differs(folder: Folder) -> None:
    folder.driver(summary=folder.counts(attempts=11))


@breaks("counts")
def the_table_lacks_a_mini_batch(folder: Folder) -> None:
    del folder.table[0]
    folder.write_table()


@breaks("failed_items_file")
def failed_items_lacks_one(folder: Folder) -> None:
    folder.lines(FAILED_ITEMS)


@breaks("failed_items_file")
def failed_items_lacks_what_a_short_result_lacks(folder: Folder) -> None:
    poisons = [{"item": BAD, "harm": "raise", "flaky": False}, {"item": 5, "harm": "short", "flaky": False}]
    folder.rework(poisons=poisons)


@breaks("failed_items_file")
def failed_items_has_one_twice(folder: Folder) -> None:
    path = folder.path / FAILED_ITEMS
    path.write_text(path.read_text() * 2)


@breaks("failed_items_file")
def failed_items_names_another_file(folder: Folder) -> None:
    folder.change(FAILED_ITEMS, "000003", "000004")


@breaks("failed_items_file")
def failed_items_names_one_file_twice_instead_of_two(folder: Folder) -> None:
    folder.rework(items=16, size=2, poisons=[{"item": 6, "harm": "raise", "flaky": False}])
    line = {"item": "/data/000006", "mini_batch": BAD, "attempts": 2, "category": "exception"}
    folder.lines(FAILED_ITEMS, line, line)


@breaks("failed_items_file")
def failed_items_names_another_row_than_the_part_holds(folder: Folder) -> None:
    bisected_table(folder, "part-0.csv bytes 40..80, row 0")


@breaks("failed_items_file")
def failed_items_has_another_category_than_the_table(folder: Folder) -> None:
    folder.change(FAILED_ITEMS, '"exception"', '"time limit"')


def bisected_table(folder: Folder, name: str) -> None:
    """Row groups of two rows; of mini-batch 3 the second one has failed, and is named so."""
    folder.rework(kind="parquet", items=16, size=2, poisons=[{"item": 7, "harm": "raise", "flaky": False}])
    folder.replan(bisect=True)
    failure = {"id": BAD, "items": 1, "attempts": 2, "part": [1, 2, 2]}
    folder.journal(
        {"kind": "commit", "output": 0, "finished": "0-2,4-7", "parts": [[BAD, 0, 1, 2]], "failed": [failure]},
        {"kind": "end", "state": "Completed"},
    )
    folder.table = [folder.row("3[1:2]", 2, "Failed", "exception")]
    folder.write_table()
    line = {"item": name, "mini_batch": BAD, "part": "3[1:2]", "attempts": 2, "category": "exception"}
    folder.lines(FAILED_ITEMS, line)


@breaks("ends_as_it_should")
def it_has_completed_though_a_threshold_is_broken(folder: Folder) -> None:
    folder.replan(error_threshold=0)


@breaks("ends_as_it_should")
def it_has_completed_though_too_many_mini_batches_failed(folder: Folder) -> None:
    folder.replan(allowed_failed_count=0)


@breaks("ends_as_it_should")
def it_has_failed_though_the_thresholds_hold(folder: Folder) -> None:
    folder.end("Failed", "2 failed items are more than error_threshold=1 allows")


@breaks("ends_as_it_should")
def it_has_failed_and_names_no_cause(folder: Folder) -> None:
    folder.end("Failed", "")


@breaks("ends_as_it_should")
def it_has_failed_for_nothing_that_was_done(folder: Folder) -> None:
    folder.end("Failed", "the scheduler does not answer any more")


@breaks("ends_as_it_should")
def a_driver_died_and_nobody_killed_it(folder: Folder) -> None:
    (folder.path / "driver-1.json").unlink()


@breaks("ends_as_it_should")
def a_driver_hung(folder: Folder) -> None:
    folder.change("events.jsonl", '"hung": false', '"hung": true')


@breaks("ends_as_it_should")
def a_driver_was_refused(folder: Folder) -> None:
    folder.driver(state="Refused", error="output: found something")


@breaks("folders")
def it_has_completed_and_an_owner_stands_beside_the_output(folder: Folder) -> None:
    folder.out.with_name(folder.out.name + ".partial.owner").touch()


@breaks("folders")
def it_has_completed_and_the_partial_output_is_there_too(folder: Folder) -> None:
    folder.out.with_name(folder.out.name + ".partial").touch()


@breaks("folders")
def it_has_completed_and_files_wait_beside_the_output(folder: Folder) -> None:
    (folder.out.parent / ".prs-dask-7" / "coming").mkdir(parents=True)


@breaks("folders")
def it_has_completed_and_pieces_of_rows_are_left(folder: Folder) -> None:
    (folder.run / "pieces").mkdir()


@breaks("folders")
def it_has_failed_and_half_a_file_is_left_in_the_run_folder(folder: Folder) -> None:
    folder.end("Failed", "2 failed items are more than error_threshold=1 allows")
    (folder.run / "run.json.new").touch()


@breaks("init_before_run")
def run_comes_before_init_has_ended(folder: Folder) -> None:
    call = {"pid": 103, "first": HANGING, "items": 1, "attempt": 2}
    begin = {"pid": 103, "time": 11.0, "event": "import"}
    folder.lines(
        "traces/103-1.jsonl",
        begin,
        {"time": 17.5, "event": "run", **call},
        {"time": 17.51, "event": "done", **call},
    )


@breaks("init_before_run")
def init_is_called_twice(folder: Folder) -> None:
    folder.change("traces/103-1.jsonl", '"shutdown"', '"init"')


@breaks("init_before_run")
def run_comes_after_shutdown(folder: Folder) -> None:
    folder.trace(104, [("shutdown", 20.0, {})], folder.call(0, 21.0))


@breaks("traces_agree")
def run_was_called_once_more_than_is_told(folder: Folder) -> None:
    folder.trace(104, folder.call(0, 20.0))


@breaks("traces_agree")
def an_attempt_is_told_that_never_was(folder: Folder) -> None:
    (folder.path / "traces" / "103-1.jsonl").unlink()


@breaks("finished_is_not_run_again")
def a_mini_batch_is_run_again_that_had_ended_long_before_its_driver_was_killed(folder: Folder) -> None:
    folder.killed_and_resumed(25.0)
    folder.trace(104, folder.call(0, 45.0), folder.call(1, 45.1), began=44.0, part=2)


@breaks("nothing_is_left")
def a_process_lives_on_after_the_step_run(folder: Folder) -> None:
    folder.left(run=["process 99: sleep"])


@breaks("nothing_is_left")
def a_temporary_folder_is_left_at_the_end(folder: Folder) -> None:
    folder.left(all=["temporary folder prs-dask-0"])


@breaks("nothing_is_left")
def a_worker_that_goes_on_has_a_descriptor_too_many(folder: Folder) -> None:
    folder.left(cluster=["descriptor of process 99: anon_inode:[pidfd]"])


@breaks("nothing_is_left")
def processes_outlive_a_scheduler_that_was_killed(folder: Folder) -> None:
    folder.left(orphans=["process 99: python"])


@breaks("nothing_is_left")
def the_driver_has_a_descriptor_too_many(folder: Folder) -> None:
    folder.driver(left=["descriptor 9: /dev/null"])


@breaks("time_limits")
def a_process_lives_too_long_after_its_limit(folder: Folder) -> None:
    folder.change("deaths.jsonl", "17.1", "18.3")


@breaks("time_limits")
def a_call_that_returns_late_was_not_ended(folder: Folder) -> None:
    folder.change("traces/103-1.jsonl", "17.51", "19.6")


@breaks("time_limits")
def a_process_is_killed_before_its_limit(folder: Folder) -> None:
    folder.change("deaths.jsonl", "17.1", "16.5")


@breaks("init_limits")
def a_process_hangs_in_init_beyond_its_limit(folder: Folder) -> None:
    events = ({"pid": 104, "time": 11.0, "event": "import"}, {"pid": 104, "time": 11.1, "event": "init"})
    folder.lines("traces/104-1.jsonl", *events)
    folder.lines(
        "deaths.jsonl", *[{"pid": pid, "time": time, "seen": True} for pid, time in ((102, 17.1), (104, 20.5))]
    )


@breaks("no_secret")
def a_secret_of_the_storage_options_is_in_a_log(folder: Folder) -> None:
    (folder.run / "logs" / "driver_log.txt").write_text(f"options: {PLAN.canaries[0]}")


@breaks("no_secret")
def a_secret_of_the_environment_is_on_the_disk_of_a_worker(folder: Folder) -> None:
    (folder.path / "dask").mkdir()
    (folder.path / "dask" / "spool").write_bytes(b"\0\xff" + PLAN.canaries[1].encode())


@breaks("no_secret")
def a_secret_is_in_the_listing_of_the_inputs(folder: Folder) -> None:
    members = (b"{}\n", f'{{"storage_options": "{PLAN.canaries[0]}"}}\n'.encode())
    (folder.run / "inputs.jsonl.gz").write_bytes(b"".join(map(gzip.compress, members)))


@breaks("no_secret")
def a_secret_is_in_the_archive_of_the_source(folder: Folder) -> None:
    with zipfile.ZipFile(folder.run / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.py", "def run(mini_batch): ...")
        archive.writestr("settings.txt", f"{PLAN.canaries[1]} {'x' * 999}")


@breaks("no_secret")
def a_secret_is_in_what_is_left_of_a_torn_listing(folder: Folder) -> None:
    noise = random.Random(0).randbytes(4096).hex()
    data = gzip.compress(f"{PLAN.canaries[0]} {noise}".encode())
    (folder.run / "inputs.jsonl.gz").write_bytes(data[: len(data) // 2])


def test_a_run_in_which_all_went_as_it_should_breaks_no_rule(folder: Folder) -> None:
    assert violations(folder) == []


@pytest.mark.parametrize("what", BREAKS)
def test_it_is_caught_that(folder: Folder, what: str) -> None:
    rule, function = BREAKS[what]
    function(folder)
    assert rule in {re.match(r"\w+", sentence)[0] for sentence in violations(folder)}


def test_no_rule_is_without_a_folder_that_breaks_it() -> None:
    assert {rule for rule, _ in BREAKS.values()} == {rule.__name__ for rule in RULES}


def test_a_limit_may_be_missed_by_as_much_as_the_machine_was_late(folder: Folder) -> None:
    folder.change("deaths.jsonl", "17.1", "18.3")
    folder.lines("late.jsonl", {"time": 17.0, "late": 0.4})
    assert violations(folder) == []


def test_what_ran_while_a_worker_was_stopped_may_be_late(folder: Folder) -> None:
    folder.change("deaths.jsonl", "17.1", "20.3")
    folder.fault("stop_worker", 16.5, 19.5)
    assert violations(folder) == []


def test_an_innocent_may_be_charged_for_a_fault_that_does_that(folder: Folder) -> None:
    an_innocent_is_charged_and_no_fault_did_it(folder)
    folder.result(Attempts="11")
    folder.driver(summary=folder.counts(attempts=11))
    folder.trace(104, [("run", 11.5, {"first": 0, "items": 1, "attempt": 1})])
    folder.fault("kill_child")
    assert violations(folder) == []


def test_a_driver_may_die_that_was_killed(folder: Folder) -> None:
    (folder.path / "driver-1.json").unlink()
    folder.fault("kill_driver")
    assert violations(folder) == []


def test_what_had_ended_just_before_its_driver_was_killed_may_be_run_again(folder: Folder) -> None:
    folder.killed_and_resumed(12.9)
    folder.trace(104, folder.call(0, 45.0), folder.call(1, 45.1), began=44.0, part=2)
    assert list(finished_is_not_run_again(collect(folder.path))) == []


def test_what_a_worker_had_done_that_was_lost_then_may_be_run_again_even_much_later(folder: Folder) -> None:
    a_mini_batch_is_run_again_that_had_ended_long_before_its_driver_was_killed(folder)
    folder.fault("kill_worker", 12.5, 12.5)
    assert list(finished_is_not_run_again(collect(folder.path))) == []


def test_what_processes_do_that_a_killed_driver_has_left_on_the_cluster_counts_for_nobody(folder: Folder) -> None:
    folder.killed_and_resumed(25.0)
    folder.trace(104, folder.call(0, 45.0), folder.call(1, 45.1), began=44.0)  # though it began under the second one
    assert list(finished_is_not_run_again(collect(folder.path))) == []
    folder.trace(105, folder.call(0, 43.0), folder.call(1, 43.1), began=42.0, part=2)
    assert list(finished_is_not_run_again(collect(folder.path)))


def test_a_process_that_does_not_tell_of_which_part_it_was_is_told(folder: Folder) -> None:
    folder.trace(104, folder.call(0, 20.0))
    folder.change("traces/104-1.jsonl", "prs-dask-0", "elsewhere")
    [told] = finished_is_not_run_again(collect(folder.path))
    assert told == "nobody knows of which part of the step run process 104 was"


def test_mini_batches_that_were_run_again_are_counted(folder: Folder) -> None:
    assert runs_again(collect(folder.path)) == 0
    folder.trace(104, folder.call(0, 20.0), folder.call(1, 21.0))
    assert runs_again(collect(folder.path)) == 2


def test_a_driver_of_the_command_line_speaks_by_its_exit_code_and_by_what_it_prints(folder: Folder) -> None:
    (folder.path / "driver-1.json").unlink()
    folder.change("events.jsonl", '"driver started"', '"driver started", "how": "cli"')
    assert violations(folder) == []
    folder.change("events.jsonl", '"code": 0', '"code": 2')
    (folder.path / "driver-1.txt").write_text("run_folder: found nothing")
    assert "ends_as_it_should: driver 1 was refused: run_folder: found nothing" in violations(folder)


def test_a_bisected_mini_batch_has_its_tries_each_part_one_and_each_single_item_all_of_them(folder: Folder) -> None:
    folder.rework(items=32, size=4, poisons=[{"item": 13, "harm": "raise", "flaky": False}])
    folder.replan(bisect=True)
    tries = [folder.row(name, 1, "Failed attempt", "exception") for name in ("3", "3[0:2]", "3[1:2]")]
    whole_again, item_again = (
        folder.row("3", 2, "Failed attempt", "exception"),
        folder.row("3[1:2]", 2, "Failed", "exception"),
    )
    folder.table = [tries[0], whole_again, *tries[1:], item_again, folder.row("3[0:1]"), folder.row("3[2:4]")]
    folder.write_table()
    assert list(budgets(collect(folder.path))) == []

    folder.table = [tries[0], folder.row("3", 2, "Failed", "exception")]
    folder.write_table()
    assert any("without being halved" in sentence for sentence in budgets(collect(folder.path)))

    folder.table = [tries[1], folder.row("3[0:2]", 2, "Failed attempt", "exception")]
    folder.write_table()
    assert any("2 attempts and 0 losses, it has 1" in sentence for sentence in budgets(collect(folder.path)))


def test_a_row_that_failed_alone_is_named_by_its_place_in_its_mini_batch(folder: Folder) -> None:
    bisected_table(folder, "part-0.csv bytes 40..80, row 1")
    assert list(failed_items_file(collect(folder.path))) == []


def test_a_part_that_is_told_twice_is_caught(folder: Folder) -> None:
    folder.journal(
        {"kind": "header", "format": 1},
        {"kind": "commit", "output": 48, "finished": "0-2", "parts": [[3, 0, 1, 1]], "failed": []},
        {"kind": "commit", "output": 112, "finished": "4-7", "failed": [{"id": 3, "items": 1, "part": [0, 1, 1]}]},
        {"kind": "end", "state": "Completed"},
    )
    assert "every_item_once: item 3 is told as finished 1, as failed 1 times" in violations(folder)


def test_a_command_that_gets_sigterm_may_cancel(folder: Folder) -> None:
    (folder.path / "driver-1.json").unlink()
    folder.change("events.jsonl", '"driver started"', '"driver started", "how": "cli"')
    folder.change("events.jsonl", '"code": 0', '"code": 130')
    (folder.path / "driver-1.txt").write_text("Canceled: as it was asked to")
    assert any(sentence.startswith("ends_as_it_should: driver 1 ended as Canceled") for sentence in violations(folder))
    folder.fault("term_driver")
    assert not any(sentence.startswith("ends_as_it_should") for sentence in violations(folder))


def test_an_attempt_that_was_overtaken_is_right_where_that_is_wanted(folder):
    folder.replan(speculate=True)
    overtake(folder, 2)
    assert violations(folder) == []


def test_two_attempts_that_failed_may_be_one_try_where_that_is_wanted(folder):
    folder.replan(speculate=True)
    folder.table.insert(0, folder.row(BAD, 1, "Failed attempt", "exception"))
    folder.write_table()
    assert list(budgets(collect(folder.path))) == []
    folder.table.insert(0, folder.row(BAD, 1, "Failed attempt", "exception"))
    folder.write_table()
    assert any("numbered [1, 1, 1, 2]" in sentence for sentence in budgets(collect(folder.path)))

"""The driver is killed at any moment, and the step run goes on: the rows are those of an undisturbed one.

The entry scripts note each mini-batch that they begin, in a file beside the items: what the journal holds when the
driver is dead is never run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from prs_dask import FileDataset, OutputError, ParallelRunConfig, ParallelRunStep, ResumeError, StepRun
from prs_dask.output.journal import JournalState, read_journal
from prs_dask.output.order_file import OrderFile

ITEMS = 300

NOTES = """
import os
import time

NOTES = {notes!r}


def note(name):
    with open(NOTES, "a") as file:
        file.write(f"{{name}}\\n")
    time.sleep({pause})
"""
FILES = (
    NOTES
    + """
def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    note(names[0])
    return names
"""
)
TABLE = (
    NOTES
    + """
def run(mini_batch):
    note(mini_batch["row"].iloc[0])
    return [f"{{row:06d}}" for row in mini_batch["row"]]
"""
)


class Killed:
    """``prs-dask run`` in a process of its own, killed, and what its run folder holds then."""

    def __init__(self, command: Any, script: str = FILES, pause: float = 0.01) -> None:
        self.command = command
        self.folder: Path = command.folder
        self.notes = self.folder / "notes"
        self.notes.touch()
        self.run_folder = self.folder / "run"
        self.output = self.folder / "output" / "parallel_run_step.txt"
        self.script = command.script(script.format(notes=str(self.notes), pause=pause))

    def start(self, *more: object) -> subprocess.Popen[str]:
        own = ("--entry-script", "script.py", "--run-folder", "run", "--output", "output")
        own += ("--process-count-per-node", "2", "--output-action", "append_row")
        process: subprocess.Popen[str] = self.command.start("run", *own, *more)
        return process

    @property
    def journal(self) -> JournalState:
        path = self.run_folder / "journal.jsonl"
        return read_journal(path) if path.exists() else JournalState()

    def kill(self, process: subprocess.Popen[str], finished: int, wait: Any) -> None:
        """SIGKILL, when so many mini-batches are in the journal, or a moment later."""
        wait(lambda: len(self.journal.finished) >= finished or process.poll() is not None, 60, "the journal")
        time.sleep(random.random() * 0.1)
        self.kill_now(process)

    def kill_now(self, process: subprocess.Popen[str], *, alone: bool = False) -> None:
        """The driver, and unless it alone is meant all that it has started: the machine is switched off."""
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for child in [] if alone else self.command.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        if not alone:
            shutil.rmtree(self.command.temporary)
            self.command.temporary.mkdir()

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def step(self, inputs: Any, **settings: Any) -> ParallelRunStep:
        """The step that the command line has made, from Python."""
        config = ParallelRunConfig(
            **{
                "entry_script": self.script,
                "output_action": "append_row",
                "error_threshold": 0,
                "process_count_per_node": 2,
                **settings,
            }
        )
        return ParallelRunStep("again", config, inputs, self.folder / "output")


@pytest.fixture
def killed(command: Any) -> Killed:
    return Killed(command)


def table(folder: Path, rows: int) -> Path:
    path = folder / "table.csv"
    path.write_text("row,filler\n" + "".join(f"{row},{'x' * 30}\n" for row in range(rows)))
    return path


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file below a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("order", ["any", "input"])
@pytest.mark.parametrize("by", ["command", "python"])
def test_a_killed_driver_loses_no_row_and_doubles_none(killed: Killed, wait: Any, order: str, by: str) -> None:
    killed.command.items(ITEMS)
    more = ("--input", "items", "--mini-batch-size", "1", "--append-row-order", order)
    killed.kill(killed.start(*more), random.randrange(1, ITEMS // 2), wait)
    before, run_before = killed.journal, killed.noted()
    assert before.end_state is None
    assert len(before.finished) < ITEMS
    if by == "command":
        code, out, err = killed.command("resume", "run")
        assert (code, "300 rows" in out) == (0, True), err
    else:
        step = killed.step(FileDataset.from_files(killed.folder / "items"), mini_batch_size=1, append_row_order=order)
        run = step.submit(resume=killed.run_folder)
        assert run.wait_for_completion(timeout_seconds=60) == "Completed"
        summary = run.summary()
        assert (summary.mini_batches, summary.items, summary.rows) == (ITEMS, ITEMS, ITEMS)
    rows = killed.output.read_text().splitlines()
    expected = [f"{number:04d}" for number in range(ITEMS)]
    assert (rows if order == "input" else sorted(rows)) == expected
    again = killed.noted()[len(run_before) :]
    assert not {int(name) for name in again} & set(before.finished), "something that was finished was run again"
    assert len(again) == ITEMS - len(before.finished)
    assert not list(killed.output.parent.glob("*.partial*"))
    table_of_attempts = (killed.run_folder / "logs/sys/job_report/processed_mini-batches.csv").read_text()
    assert table_of_attempts.count("Mini-batch Id") == 1
    assert "resumed, part 2" in (killed.run_folder / "logs/driver_log.txt").read_text()


@pytest.mark.timeout(180)
def test_a_table_in_input_order_is_byte_for_byte_the_same(command: Any, wait: Any) -> None:
    killed = Killed(command, TABLE)
    table(killed.folder, 6000)
    more = ("--input", "table.csv", "--input-format", "delimited", "--mini-batch-size", "1KB")
    killed.kill(killed.start(*more, "--append-row-order", "input"), random.randrange(1, 60), wait)
    before, run_before = killed.journal, len(killed.noted())
    assert before.end_state is None
    code, _, err = killed.command("resume", "run")
    assert code == 0, err
    assert killed.output.read_text() == "".join(f"{row:06d}\n" for row in range(6000))
    mini_batches = len(killed.journal.finished)
    assert len(killed.noted()) - run_before == mini_batches - len(before.finished)


@pytest.mark.timeout(180)
def test_results_that_are_only_counted_are_counted_once(killed: Killed, wait: Any) -> None:
    killed.command.items(ITEMS)
    more = ("--input", "items", "--mini-batch-size", "1", "--output-action", "summary_only")
    killed.kill(killed.start(*more), random.randrange(1, ITEMS // 2), wait)
    before = killed.journal
    code, out, err = killed.command("resume", "run")
    assert code == 0, err
    assert "Completed" in out
    assert f"{ITEMS} of {ITEMS} items succeeded" in out
    assert len(before.finished) < ITEMS
    assert killed.journal.counts["items"] == ITEMS


@pytest.mark.timeout(300)
def test_it_may_be_killed_again_and_again_at_any_moment(command: Any, wait: Any) -> None:
    killed = Killed(command, pause=0.05)
    killed.command.items(ITEMS)
    process = killed.start("--input", "items", "--mini-batch-size", "1", "--append-row-order", "input")
    wait(lambda: killed.journal.header is not None, 60, "the journal's first line")
    for moment in ("before there is a worker", "while they start", "while they work"):
        if moment == "while they start":
            time.sleep(1)
        elif moment == "while they work":
            before = len(killed.journal.finished)
            wait(lambda: len(killed.journal.finished) > before, 60, "something more that has ended")  # noqa: B023
        killed.kill_now(process, alone=True)  # what it has started may live on for a while
        assert killed.journal.end_state is None, moment
        process = killed.command.start("resume", "run")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert killed.output.read_text() == "".join(f"{number:04d}\n" for number in range(ITEMS))
    finished = killed.journal
    assert (finished.counts["items"], finished.counts["rows"]) == (ITEMS, ITEMS)
    assert f"{ITEMS} of {ITEMS} mini-batches" in out
    wait(lambda: not killed.command.processes(), 60, "the end of all that the killed drivers had started")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("left", ["journal", "twin", "owner", "ordered"])
def test_a_kill_while_the_output_gets_its_name(killed: Killed, wait: Any, left: str) -> None:
    killed.command.items(40)
    more = ("--input", "items", "--mini-batch-size", "1")
    order = "input" if left == "ordered" else "any"
    code, _, err = killed.command.finish(killed.start(*more, "--append-row-order", order))
    assert code == 0, err
    expected = killed.output.read_bytes()
    journal = killed.run_folder / "journal.jsonl"
    *lines, end = journal.read_bytes().splitlines(keepends=True)
    assert b'"kind":"end"' in end
    journal.write_bytes(b"".join(lines) + end[:10])
    partial = killed.output.with_name("parallel_run_step.txt.partial")
    if left != "journal":
        partial.with_name(f"{partial.name}.owner").write_text(str(killed.run_folder))
    if left == "twin":
        os.link(killed.output, partial)
    elif left == "ordered":
        os.link(killed.output, partial.with_name(f"{partial.name}.ordered"))
        records = OrderFile(killed.run_folder / "order.records", 40)
        places = sorted(records.sorted_places(), key=lambda place: place.offset)
        records.close()
        partial.write_text("".join(f"{place.mini_batch:04d}\n" for place in places))
    code, out, err = killed.command("resume", "run")
    assert code == 0, err
    assert "Completed" in out
    assert killed.output.read_bytes() == expected
    assert [path.name for path in killed.output.parent.iterdir()] == ["parallel_run_step.txt"]
    assert len(killed.noted()) == 40
    assert killed.journal.end_state == "Completed"


@pytest.mark.timeout(120)
def test_a_completed_one_is_told_so_and_no_byte_is_changed(killed: Killed) -> None:
    killed.command.items(10)
    code, _, err = killed.command.finish(killed.start("--input", "items", "--mini-batch-size", "3"))
    assert code == 0, err
    before = state_of(killed.folder)
    code, out, err = killed.command("resume", "run")
    assert (code, "completed already; nothing is left to do" in out) == (0, True), err
    shutil.move(killed.folder / "items", killed.folder / "elsewhere")
    code, out, _ = killed.command("resume", "run")
    assert (code, "completed already" in out) == (0, True)
    shutil.move(killed.folder / "elsewhere", killed.folder / "items")
    run = killed.step(FileDataset.from_files(killed.folder / "items")).submit(resume=killed.run_folder)
    assert run.wait_for_completion() == "Completed"
    assert (run.summary().mini_batches, run.summary().items, run.output_file) == (4, 10, killed.output)
    assert run.summary().attempts == 4
    run.cancel()
    assert run.get_status() == "Completed"
    assert state_of(killed.folder) == before


@pytest.mark.timeout(120)
def test_what_has_changed_is_named_and_nothing_is_touched(killed: Killed, wait: Any) -> None:
    items = FileDataset.from_files(killed.command.items(ITEMS))
    more = ("--input", "items", "--mini-batch-size", "1")
    killed.kill(killed.start(*more, "--", "--rate", "0.5"), 5, wait)
    before = state_of(killed.folder)

    def refused(*arguments: object, **settings: Any) -> set[str]:
        step = killed.step(items, **{"mini_batch_size": 1, **settings})
        step = ParallelRunStep("again", step.config, items, killed.folder / "output", arguments=arguments)
        with pytest.raises(ResumeError) as caught:
            step.submit(resume=killed.run_folder)
        return {fault.name for fault in caught.value.faults}

    assert refused("--rate", 0.6) == {"arguments"}
    assert refused("--rate", 0.5, mini_batch_size=2, append_row_order="input") == {
        "mini_batch_size",
        "append_row_order",
    }
    code, _, err = killed.command("resume", "run", "--mini-batch-size", "7")
    assert (code, "mini_batch_size: found 7 now; allowed: 1, as it was when the step run began" in err) == (2, True), (
        err
    )
    code, _, err = killed.command("resume", "run", "--", "--rate", "0.7")
    assert (code, '["--rate", "0.7"] now; allowed: ["--rate", "0.5"]' in err) == (2, True), err
    source = killed.script.read_text()
    killed.script.write_text(source.replace("0.01", "0.02"))
    code, _, err = killed.command("resume", "run")
    assert (code, "source: found script.py (changed)" in err, "--accept-changes" in err) == (2, True, True), err
    killed.script.write_text(source)
    now = state_of(killed.folder)
    assert {name for name in now if now[name][0] != before.get(name, ("",))[0]} == set()
    killed.script.write_text(source.replace("0.01", "0.001"))
    code, out, err = killed.command("resume", "run", "--accept-changes")
    assert (code, f"{ITEMS} rows" in out) == (0, True), err


@pytest.mark.timeout(120)
def test_a_source_that_is_gone_is_taken_from_the_run_folder(killed: Killed, wait: Any) -> None:
    killed.command.items(ITEMS)
    source = killed.folder / "source"
    (source / "package").mkdir(parents=True)
    (source / "package" / "names.py").write_text("def name(path):\n    return path.rsplit('/', 1)[1]\n")
    text = "import time\nfrom package.names import name\n\ndef run(mini_batch):\n    time.sleep(0.01)\n"
    (source / "main.py").write_text(f"{text}    return [name(path) for path in mini_batch]\n")
    more = ("--input", "items", "--mini-batch-size", "1", "--source-directory", "source", "--entry-script", "main.py")
    killed.kill(killed.start(*more), 5, wait)
    shutil.rmtree(source)
    code, _, err = killed.command("resume", "run")
    assert code == 0, err
    assert sorted(killed.output.read_text().split()) == [f"{number:04d}" for number in range(ITEMS)]


@pytest.mark.timeout(120)
def test_two_drivers_never_work_on_one_run_folder(killed: Killed, wait: Any) -> None:
    items = killed.command.items(ITEMS)
    process = killed.start("--input", "items", "--mini-batch-size", "1")
    wait(lambda: killed.journal.header is not None, 60, "the journal")
    second = killed.command.start("resume", "run")
    out, err = second.communicate(timeout=60)
    assert second.returncode == 2, out
    assert f"which process {process.pid} on " in err
    with pytest.raises(OutputError, match=f"process {process.pid} on"):
        killed.step(FileDataset.from_files(items), mini_batch_size=1).submit(resume=killed.run_folder)
    out, _ = killed.command.start("status", "run").communicate(timeout=60)
    assert f"process {process.pid} on" in out
    code, out, err = killed.command.finish(process)
    assert (code, f"{ITEMS} rows" in out) == (0, True), err


FAILING = """
import os

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    if not os.path.exists({mended!r}) and names[0].endswith("7"):
        raise ValueError("not yet")
    return names
"""


@pytest.fixture
def failed(killed: Killed) -> Killed:
    """A step run that failed: 2 of 20 mini-batches did, and no failure was allowed."""
    killed.command.items(20)
    killed.script = killed.command.script(FAILING.format(mended=str(killed.folder / "mended")))
    more = ("--input", "items", "--mini-batch-size", "1", "--run-max-try", "2", "--error-threshold", "1")
    code, _, err = killed.command.finish(killed.start(*more))
    assert code == 1
    assert f"to go on with it: prs-dask resume {killed.run_folder}" in err
    assert f"Resume: prs-dask resume {killed.run_folder}" in (killed.run_folder / "logs/job_result.txt").read_text()
    return killed


@pytest.mark.timeout(120)
def test_what_had_failed_is_tried_again(failed: Killed) -> None:
    (failed.folder / "mended").touch()
    code, out, err = failed.command("resume", "run")
    assert (code, "20 of 20 items succeeded" in out) == (0, True), err
    assert sorted(failed.output.read_text().split()) == [f"{number:04d}" for number in range(20)]
    logs = failed.run_folder / "logs"
    assert not (logs / "user/failed_items.jsonl").exists()
    assert "[4 x, 0 of them since it was resumed] ValueError" in (logs / "user/error.txt").read_text()
    assert "State: Completed" in (logs / "job_result.txt").read_text()


@pytest.mark.timeout(120)
def test_what_had_failed_stays_so_where_that_is_wanted(failed: Killed) -> None:
    code, _, err = failed.command("resume", "run", "--no-retry-failed")
    assert (code, "2 failed items are more than error_threshold=1 allows" in err) == (1, True), err
    (failed.folder / "mended").touch()
    code, out, err = failed.command("resume", "run", "--no-retry-failed", "--error-threshold", "5")
    assert (code, "18 of 20 items succeeded" in out) == (0, True), err
    rows = failed.output.read_text().split()
    assert len(rows) == 18
    step = failed.step(FileDataset.from_files(failed.folder / "items"))
    run = step.submit(resume=failed.run_folder)
    assert sorted(failure.id for failure in run.failed_items()) == [7, 17]
    assert (run.summary().failed_mini_batches, run.summary().failed_items, run.summary().rows) == (2, 2, 18)


@pytest.mark.timeout(120)
def test_a_canceled_one_goes_on_with_other_limits_and_counts_over_all_parts(submit: Any, tmp_path: Path) -> None:
    script = (
        "import os, time\ndef run(mini_batch):\n    time.sleep(0.02)\n    return [os.path.basename(mini_batch[0])]\n"
    )
    run: StepRun = submit(script, 200, append_row_order="input")
    while run.progress().succeeded < 20:
        time.sleep(0.01)
    run.cancel()
    before = run.summary()
    assert before.state == "Canceled"
    journal = read_journal(run.run_folder / "journal.jsonl")
    assert before.succeeded_mini_batches == len(journal.finished) < 200
    config = ParallelRunConfig(**{**vars(run._step.config), "run_max_try": 7, "logging_level": "DEBUG"})
    step = ParallelRunStep("other-name", config, run._step.inputs, tmp_path / "output")
    again = step.submit(resume=run, compute_target="local")
    assert again.id == run.id
    assert again.progress().succeeded >= before.succeeded_mini_batches
    assert again.wait_for_completion(timeout_seconds=60) == "Completed"
    summary = again.summary()
    assert (summary.succeeded_mini_batches, summary.items, summary.rows, summary.failed_items) == (200, 200, 200, 0)
    assert summary.attempts == 200
    assert again.output_file is not None
    assert again.output_file.read_text() == "".join(f"{number:04d}\n" for number in range(200))

"""The driver dies, at any moment and in any way, or is stopped: nothing is left, and the run folder can be resumed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time

import pytest

from prs_dask.output.journal import read_journal

pytestmark = pytest.mark.timeout(150)

GRANDCHILDREN = """
import os, re, subprocess, sys
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number >= 4:
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
        re.match(r"(a+)+$", "a" * 64 + "b")
    return [number]
"""
"""Four quick ones, then every process holds its interpreter's lock for ever, and has started another."""

QUICK = """
import os, time
def run(mini_batch):
    time.sleep(0.01)
    return [os.path.basename(mini_batch[0])]
"""

PROGRAM = """
import os, signal, sys, time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep
from prs_dask.engine import run_settings

run_settings.SILENT_SECONDS = {silent}

if __name__ == "__main__":
    config = ParallelRunConfig(
        entry_script="script.py", output_action="append_row", error_threshold=0, mini_batch_size=1,
        process_count_per_node=2, run_invocation_timeout=600, compute_target="local",
    )
    step = ParallelRunStep("program", config, FileDataset.from_files("items"), "answers")
    step_run = step.submit(run_folder="run")
    while step_run.summary().rows < {rows}:
        time.sleep(0.01)
    print("submitted", flush=True)
    {then}
"""

COMMAND = (
    *("run", "--entry-script", "script.py", "--output-action", "append_row", "--input", "items"),
    *("--output", "answers", "--mini-batch-size", "1", "--run-folder", "run", "--compute-target", "local"),
    *("--process-count-per-node", "2", "--run-invocation-timeout", "600", "--error-threshold", "0"),
)


def partial(command):
    return command.folder / "answers/parallel_run_step.txt.partial"


def rows_on_disk(command):
    return partial(command).read_bytes().count(b"\n") if partial(command).exists() else 0


def expect_nothing_left(command, wait, seconds=20.0):
    """Well within the minute that is promised, however busy the machine."""
    wait(lambda: not command.processes(), seconds, "the end of all that it has started")
    wait(lambda: not command.left_over(), seconds, "the end of its temporary folders")


def expect_resumable(command):
    """Where there is a journal it reads well, and the output is at its last commit or beyond."""
    if not (command.folder / "run/journal.jsonl").exists():
        return
    state = read_journal(command.folder / "run/journal.jsonl")
    if state.output_length:
        rows = partial(command).read_bytes()[: state.output_length]
        assert rows.count(b"\n") == len(state.finished) == len(set(rows.split()))


@pytest.fixture
def stuck(command, wait):
    """The command in the middle: four rows on disk, two processes stuck, two grandchildren."""
    command.items(12)
    command.script(GRANDCHILDREN)
    process = command.start(*COMMAND)
    wait(lambda: rows_on_disk(command) == 4, 30, "four rows")
    wait(lambda: sum("time.sleep(600)" in str(one.cmdline()) for one in command.processes()) == 2, 10, "two stuck")
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_killed_driver_leaves_no_process_and_no_folder(command, wait, stuck):
    stuck.kill()
    stuck.wait()
    expect_nothing_left(command, wait)
    expect_resumable(command)
    assert read_journal(command.folder / "run/journal.jsonl").end_state is None
    assert rows_on_disk(command) == 4


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0, 1.4, 2.0])
def test_a_driver_that_is_killed_while_it_starts_leaves_nothing(command, wait, seconds):
    command.items(12)
    command.script(GRANDCHILDREN)
    process = command.start(*COMMAND)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    expect_nothing_left(command, wait)
    expect_resumable(command)


@pytest.mark.parametrize("rows", [1, 60, 150, 299])
def test_a_driver_that_is_killed_among_quick_mini_batches_has_every_row_once(command, wait, rows):
    command.items(300)
    command.script(QUICK)
    process = command.start(*COMMAND)
    wait(lambda: rows_on_disk(command) >= rows or process.poll() is not None, 30)
    process.kill()
    process.communicate()
    expect_nothing_left(command, wait)
    if partial(command).exists():
        expect_resumable(command)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_command_cancels_in_order_when_it_is_told_to_end(command, wait, stuck, number):
    stuck.send_signal(number)
    code, _, err = command.finish(stuck, 30)
    assert code == 130, err
    assert "Traceback" not in err
    assert read_journal(command.folder / "run/journal.jsonl").end_state == "Canceled"
    expect_resumable(command)


def test_the_command_cancels_in_order_when_its_terminal_is_closed(command, wait):
    command.items(12)
    command.script(GRANDCHILDREN)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "prs_dask", *COMMAND],
        cwd=command.folder,
        env={**os.environ, "TMPDIR": str(command.temporary)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.set_blocking(ours, False)

    def four_rows():
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 1 << 16)  # a terminal that nobody reads fills up
        return rows_on_disk(command) == 4

    wait(four_rows, 30, "four rows")
    os.close(ours)
    assert process.wait(30) == 130
    expect_nothing_left(command, wait)
    assert "State: Canceled" in (command.folder / "run/logs/job_result.txt").read_text()
    expect_resumable(command)


@pytest.mark.parametrize("then", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGTERM)", "os.abort()"])
def test_a_program_that_goes_without_a_word_leaves_nothing(command, wait, then):
    command.items(12)
    command.script(GRANDCHILDREN)
    (command.folder / "program.py").write_text(PROGRAM.format(silent=45, rows=4, then=then))
    process = command.start("program.py", python=True)
    # Not through its pipes: what outlives it would hold them open.
    assert process.wait(60) != 0
    expect_nothing_left(command, wait)
    process.communicate()
    expect_resumable(command)


def test_a_stopped_driver_of_this_machine_leaves_no_user_code_running_and_goes_on_when_it_is_continued(command, wait):
    """As with Ctrl-Z: the scheduler stands in the same process, so there is nobody who could have ended it."""
    command.items(200)
    command.script(QUICK)
    (command.folder / "program.py").write_text(
        PROGRAM.format(silent=3, rows=20, then="print(step_run.wait_for_completion(), flush=True)")
    )
    process = command.start("program.py", python=True)
    assert process.stdout.readline() == "submitted\n"
    process.send_signal(signal.SIGSTOP)
    running = [one for one in command.processes() if "worker_process.main" in str(one.cmdline())]
    assert len(running) == 2
    wait(lambda: not any(one.is_running() and one.status() != "zombie" for one in running), 15, "the end of user code")
    on_disk = rows_on_disk(command)
    time.sleep(3)
    assert rows_on_disk(command) == on_disk
    process.send_signal(signal.SIGCONT)
    code, out, err = command.finish(process, 60)
    assert (code, out) == (0, "Completed\n"), err
    rows = (command.folder / "answers/parallel_run_step.txt").read_text().split()
    assert sorted(map(int, rows)) == list(range(200))
    table = (command.folder / "run/logs/sys/job_report/processed_mini-batches.csv").read_text()
    assert "Failed" not in table.partition("\n")[2]

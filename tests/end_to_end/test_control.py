"""Cancel, Ctrl-C, waiting, an interpreter that ends, and a driver or workers that are killed."""

import os
import signal
import sys
import textwrap
import threading
import time

import psutil
import pytest

from prs_dask import FileDataset, StepRunFailed, parallel_run

SLOW = """
import os, time
def run(mini_batch):
    time.sleep(0.1)
    return [os.path.basename(mini_batch[0])]
"""

FOREVER = """
import os, re, subprocess, sys
def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number >= 4:
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
        print("stuck", flush=True)
        re.match(r"(a+)+$", "a" * 64 + "b")
    return [number]
"""

PROGRAM = """
import sys, time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

if __name__ == "__main__":
    config = ParallelRunConfig(
        entry_script="script.py", output_action="append_row", error_threshold=0, mini_batch_size=1,
        process_count_per_node=2, run_invocation_timeout=600, compute_target="local",
    )
    step = ParallelRunStep("program", config, FileDataset.from_files("items"), "answers")
    step_run = step.submit(run_folder="run")
    while step_run.summary().rows < {rows}:
        time.sleep(0.02)
    print("submitted", flush=True)
    {then}
"""


def running(process_count=2):
    """Arguments of a step that runs on this machine."""
    return (
        *("run", "--entry-script", "script.py", "--output-action", "append_row", "--input", "items"),
        *("--output", "answers", "--mini-batch-size", "1", "--run-folder", "run", "--compute-target", "local"),
        *("--process-count-per-node", process_count, "--run-invocation-timeout", "600"),
    )


def partial_rows(folder):
    path = folder / "answers" / "parallel_run_step.txt.partial"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def whole_rows(path):
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return sorted(map(int, content.split()))


@pytest.fixture
def stuck(command, wait):
    """``prs-dask run`` with four rows on disk and every process stuck with the GIL held."""
    command.items(12)
    command.script(FOREVER)
    process = command.start(*running())
    wait(lambda: partial_rows(command.folder) == [0, 1, 2, 3], 20, "four rows")
    wait(lambda: sum("time.sleep(600)" in " ".join(_words(one)) for one in command.processes()) == 2, 10, "two stuck")
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


def _words(process):
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_one_ctrl_c_cancels_in_order_and_ends_with_130(command, stuck):
    begun = time.monotonic()
    stuck.send_signal(signal.SIGINT)
    code, out, err = command.finish(stuck, 20)
    assert code == 130
    assert time.monotonic() - begun < 6
    assert "Traceback" not in err
    assert "Ctrl-C again ends at once" in err
    assert "Canceled" in out
    assert f"rows so far: {command.folder / 'answers/parallel_run_step.txt.partial'}" in out
    assert partial_rows(command.folder) == [0, 1, 2, 3]
    assert not (command.folder / "answers/parallel_run_step.txt").exists()
    told = (command.folder / "run/logs/job_result.txt").read_text()
    assert "State: Canceled" in told
    assert "4 succeeded" in told


def test_ctrl_c_twice_ends_at_once_with_130_and_leaves_nothing(command, stuck):
    begun = time.monotonic()
    stuck.send_signal(signal.SIGINT)
    time.sleep(0.15)
    stuck.send_signal(signal.SIGINT)
    code, _, err = command.finish(stuck, 20)
    assert code == 130
    assert time.monotonic() - begun < 8
    assert "Traceback" not in err
    assert partial_rows(command.folder) == [0, 1, 2, 3]


def test_sigterm_is_a_ctrl_c(command, stuck):
    stuck.terminate()
    code, _, err = command.finish(stuck, 20)
    assert code == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("seconds", [0.35, 0.5, 0.8])
def test_ctrl_c_while_it_starts_leaves_nothing_and_ends_with_130(command, seconds):
    command.items(4)
    command.script(SLOW)
    process = command.start(*running())
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code, _, err = command.finish(process, 20)
    assert code == 130, err
    assert "Traceback" not in err, err


def test_ctrl_c_in_the_middle_of_quick_mini_batches_keeps_whole_rows_only(command, wait):
    command.items(3000)
    command.script("import os, time\ndef run(m):\n    time.sleep(0.001)\n    return [os.path.basename(m[0])]\n")
    process = command.start(*running())
    wait(lambda: (command.folder / "answers/parallel_run_step.txt.partial").exists(), 20)
    wait(lambda: (command.folder / "answers/parallel_run_step.txt.partial").stat().st_size > 500, 20)
    process.send_signal(signal.SIGINT)
    code, _, _ = command.finish(process, 20)
    rows = whole_rows(command.folder / "answers/parallel_run_step.txt.partial")
    assert code == 130
    assert len(rows) == len(set(rows)) < 3000
    told = (command.folder / "run/logs/job_result.txt").read_text()
    assert f"Rows: {len(rows):,}\n" in told


def test_cancel_stops_what_runs_keeps_what_is_finished_and_returns_when_that_is_done(submit, wait):
    run = submit(FOREVER, 12, run_invocation_timeout=600)
    wait(lambda: run.summary().rows == 4, 20)
    begun = time.monotonic()
    run.cancel()
    assert time.monotonic() - begun < 5
    assert run.get_status() == "Canceled"
    assert run.summary().rows == 4
    with pytest.raises(StepRunFailed, match="canceled"):
        run.wait_for_completion()
    assert run.wait_for_completion(raise_on_error=False) == "Canceled"
    run.cancel()  # again: nothing


def test_cancel_at_once_after_submit_and_from_many_threads(submit):
    run = submit(SLOW, 30)
    threads = [threading.Thread(target=run.cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert run.get_status() == "Canceled"


def test_waiting_no_longer_than_told_leaves_it_running(submit):
    run = submit(SLOW, 20)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait_for_completion(timeout_seconds=0.2)
    assert 0.2 <= time.monotonic() - begun < 1
    assert run.get_status() == "Running"
    assert run.wait_for_completion(timeout_seconds=30) == "Completed"
    assert run.summary().rows == 20


def test_a_failure_is_raised_with_its_cause_and_where_the_logs_are(submit):
    run = submit("def run(mini_batch): raise ValueError('of the user')", 4, error_threshold=0, run_max_try=1)
    with pytest.raises(StepRunFailed) as caught:
        run.wait_for_completion()
    error = caught.value
    assert error.state == "Failed"
    assert "error_threshold=0" in str(error)
    assert "of the user" in str(error)
    assert str(run.run_folder) in str(error)


def test_ctrl_c_in_parallel_run_cancels_first(tmp_path, cluster):
    (tmp_path / "items").mkdir()
    for number in range(100):
        (tmp_path / "items" / f"{number:04d}").touch()
    (tmp_path / "script.py").write_text(textwrap.dedent(SLOW))
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        parallel_run(
            tmp_path / "script.py",
            FileDataset.from_files(tmp_path / "items"),
            tmp_path / "output",
            mini_batch_size=1,
            run_folder=tmp_path / "run",
            compute_target=cluster.address,
        )
    assert "State: Canceled" in (tmp_path / "run/logs/job_result.txt").read_text()


def test_an_interpreter_that_ends_after_submit_cancels_in_order_and_says_so(command):
    command.items(50)
    command.script(SLOW)
    (command.folder / "program.py").write_text(PROGRAM.format(rows=3, then="pass"))
    _, out, err = command("program.py", python=True, timeout=30)
    assert out == "submitted\n"
    assert "canceled" in err
    assert "Traceback" not in err
    assert "State: Canceled" in (command.folder / "run/logs/job_result.txt").read_text()
    assert len(whole_rows(command.folder / "answers/parallel_run_step.txt.partial")) >= 3


@pytest.mark.parametrize("then", ["raise SystemExit(5)", "1 / 0", "sys.exit('gone')"])
def test_a_program_that_fails_after_submit_leaves_nothing_running(command, then):
    command.items(50)
    command.script(SLOW)
    (command.folder / "program.py").write_text(PROGRAM.format(rows=1, then=then))
    code, _, _ = command("program.py", python=True, timeout=30)
    assert code in (5, 1)
    assert "State: Canceled" in (command.folder / "run/logs/job_result.txt").read_text()


def test_a_killed_driver_leaves_no_process_and_the_next_run_sweeps_its_folders(command, stuck, wait):
    stuck.kill()
    stuck.communicate()
    wait(lambda: not command.processes(), 60, "the end of all that it has started")
    left = command.left_over()
    command.script(SLOW)
    code, _, err = command(
        *("run", "--entry-script", "script.py", "--output-action", "append_row", "--input", "items"),
        *("--output", "others", "--process-count-per-node", 1, "--mini-batch-size", 1),
    )
    assert code == 0, err
    assert command.left_over() == [], left


def test_a_job_of_a_killed_driver_is_not_doubled_by_the_next_on_the_same_output(command, stuck):
    stuck.kill()
    stuck.communicate()
    command.script(SLOW)
    second = command.start(*running(), "--run-folder", "second")
    _, err = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "partial" in err
    assert str(command.folder / "run") in err
    assert partial_rows(command.folder) == [0, 1, 2, 3]


def test_both_dask_workers_killed_in_the_middle_cost_no_row(submit, wait, no_leaks):
    run = submit(
        "import os, time\ndef run(m):\n    time.sleep(0.02)\n    return [os.path.basename(m[0])]\n",
        200,
        compute_target="local",
        run_max_try=5,
        error_threshold=0,
    )
    wait(lambda: run.summary().rows > 20, 20)
    reapers = [
        process for process in psutil.Process().children(recursive=True) if "reaper.py" in " ".join(_words(process))
    ]
    workers = {process.parent() for process in reapers}
    assert len(workers) == 2
    for process in workers:
        process.kill()
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert sorted(map(int, run.output_file.read_text().split())) == list(range(200))
    assert run.summary().failed_items == 0
    run.cancel()


@pytest.mark.slow
def test_workers_killed_again_and_again_cost_no_row(submit, wait, no_leaks):
    run = submit(
        "import os, time\ndef run(m):\n    time.sleep(0.02)\n    return [os.path.basename(m[0])]\n",
        300,
        compute_target="local",
        run_max_try=10,
        error_threshold=0,
    )
    killed = 0
    while run.get_status() == "Running" and killed < 4:
        for process in psutil.Process().children(recursive=True):
            children = process.children() if process.is_running() else []
            if any("reaper.py" in " ".join(_words(child)) for child in children):
                process.kill()
                killed += 1
                break
        time.sleep(1)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert killed >= 2
    assert sorted(map(int, run.output_file.read_text().split())) == list(range(300))


def test_progress_is_shown_in_lines_where_there_is_no_terminal(command):
    command.items(20)
    command.script(SLOW)
    code, out, err = command(*running())
    assert code == 0
    assert "Completed" in out
    assert "output: " in out
    assert "\x1b" not in out + err
    assert "20 of 20 mini-batches" in out
    assert sys.executable not in err

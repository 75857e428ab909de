"""Cancel, Ctrl-C, kill and the end of the interpreter while nothing has begun yet: whoever is asked does not answer."""

import signal
import socket
import threading
import time

import psutil
import pytest

from prs_dask import ClusterError, FileDataset, ParallelRunConfig, ParallelRunStep, SSHTarget, StepRun, clusters

SOON = 3.0
"""Seconds; what is waited for here would take ten and more."""

PROGRAM = """
import time
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

if __name__ == "__main__":
    config = ParallelRunConfig(
        entry_script="script.py", output_action="append_row", error_threshold=0, compute_target="{target}"
    )
    step_run = ParallelRunStep("program", config, FileDataset.from_files("items"), "answers").submit(run_folder="run")
    while step_run.progress().stage != "starting workers":
        time.sleep(0.02)
    time.sleep(0.5)
    print(time.time())
"""


@pytest.fixture
def silent():
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def submitted(command, target):
    command.items(4)
    script = command.script()
    config = ParallelRunConfig(entry_script=script, output_action="append_row", error_threshold=0)
    step = ParallelRunStep("canceled-start", config, FileDataset.from_files(command.folder / "items"), command.folder)
    return step.submit(run_folder=command.folder / "run", compute_target=target)


def until_it_waits(run, wait):
    wait(lambda: run.progress().stage == "starting workers", 10)
    time.sleep(0.5)


@pytest.fixture(params=["address", "SSH"])
def target(request, silent):
    return f"tcp://127.0.0.1:{silent}" if request.param == "address" else SSHTarget([f"127.0.0.1:{silent}"])


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_it_ends_at_once_as_canceled_and_can_be_resumed(no_leaks, command, wait, target, how):
    run = submitted(command, target)
    until_it_waits(run, wait)
    begun = time.monotonic()
    getattr(run, how)()
    assert run.wait_for_end(SOON)
    assert time.monotonic() - begun < SOON
    assert run.get_status() == "Canceled"
    assert "cancel() or Ctrl-C" in run.error or how == "kill"
    told = (run.log_dir / "job_result.txt").read_text()
    assert "State: Canceled" in told
    assert run.resume_hint in told
    again = ParallelRunStep(
        "canceled-start", run._config, FileDataset.from_files(command.folder / "items"), command.folder
    ).submit(resume=run.run_folder, compute_target="local")
    assert again.wait_for_completion(timeout_seconds=40) == "Completed"
    assert again.summary().rows == 4


def test_a_failure_before_it_is_canceled_is_told(no_leaks, command, wait, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        run = submitted(command, SSHTarget([f"127.0.0.1:{closed.getsockname()[1]}"]))
        assert run.wait_for_end(20)
    run.cancel()
    assert run.get_status() == "Failed"
    assert "no SSH server listens there" in run.error


def test_an_error_that_comes_of_canceling_is_only_noted(command, wait, monkeypatch):
    def fail_when_canceled(*_, cancellation, **__):
        wait(lambda: cancellation.asked, 10)
        raise ClusterError("the hosts are gone")

    monkeypatch.setattr(clusters, "open_cluster", fail_when_canceled)
    run = submitted(command, "local")
    run.cancel()
    assert run.get_status() == "Canceled"
    assert "while it was canceled: the hosts are gone" in (run.log_dir / "driver_log.txt").read_text()


def test_a_failure_is_not_hidden_by_a_cancel_while_it_is_cleared_away(command, monkeypatch):
    failed, canceled, clear_away = threading.Event(), threading.Event(), StepRun._clear_away

    def fail(*_, **__):
        raise ClusterError("the hosts are gone")

    def clear_away_late(*arguments):
        failed.set()
        canceled.wait(10)
        clear_away(*arguments)

    monkeypatch.setattr(clusters, "open_cluster", fail)
    monkeypatch.setattr(StepRun, "_clear_away", clear_away_late)
    run = submitted(command, "local")
    assert failed.wait(10)
    run.kill()
    canceled.set()
    assert run.wait_for_end(10)
    assert run.get_status() == "Failed"
    assert run.error == "the hosts are gone"


def test_ctrl_c_ends_it_with_130_and_tells_how_to_go_on(command, wait, silent):
    command.items(4)
    command.script()
    process = command.start(
        *("run", "--entry-script", "script.py", "--output-action", "append_row", "--input", "items"),
        *("--output", "answers", "--run-folder", "run", "--compute-target", f"tcp://127.0.0.1:{silent}"),
    )
    log = command.folder / "run/logs/driver_log.txt"
    wait(lambda: log.exists() and "starting workers" in log.read_text(), 20, "its start")
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, out, err = command.finish(process, 20)
    assert time.monotonic() - begun < SOON
    assert code == 130, err
    assert "Canceled" in out
    assert "to go on with it: prs-dask resume" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_store_that_does_not_answer_before_anything_is_started_does_not_hold_up_ctrl_c(command, wait, silent, number):
    command.script()
    process = command.start(
        *("run", "--entry-script", "script.py", "--output-action", "append_row", "--input-format", "files"),
        *("--input", f"http://127.0.0.1:{silent}/a.csv", "--output", "answers", "--run-folder", "run"),
    )
    ask = psutil.Process(process.pid).net_connections
    wait(lambda: any(one.raddr and one.raddr.port == silent for one in ask()), 20, "its request")
    begun = time.monotonic()
    process.send_signal(number)
    code, _, err = command.finish(process, 20)
    assert time.monotonic() - begun < 2 * SOON
    assert code == 130, err
    assert "Traceback" not in err
    assert not (command.folder / "run").exists()


def test_an_interpreter_that_ends_cancels_it_and_is_not_held_up(command, silent):
    command.items(4)
    command.script()
    (command.folder / "program.py").write_text(PROGRAM.format(target=f"tcp://127.0.0.1:{silent}"))
    code, out, err = command("program.py", python=True, timeout=30)
    assert time.time() - float(out) < SOON
    assert code == 0, err
    assert "canceled" in err
    assert "prs-dask resume" in err
    assert "Traceback" not in err
    assert "State: Canceled" in (command.folder / "run/logs/job_result.txt").read_text()

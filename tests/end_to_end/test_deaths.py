"""Processes that somebody kills from outside, and what is told of each kind of death."""

import pytest

RUN = "\ndef run(mini_batch): return [os.path.basename(mini_batch[0])]\n"


@pytest.mark.parametrize("where", ["import", "init"])
def test_kills_from_outside_before_a_process_is_ready_do_not_end_a_nodes_part(job, tmp_path, where):
    """With one process, three failures would end it."""
    body = f"""
        with open({str(tmp_path / "kills")!r}, "ab", 0) as file:
            file.write(b"x")
            if file.tell() <= 2: os.kill(os.getpid(), 9)
            if file.tell() <= 4: raise RuntimeError("not yet")
"""
    opening = "def init():\n" if where == "init" else "if True:\n"
    done = job("import os\n" + opening + body.lstrip("\n") + RUN, 10, process_count_per_node=1)
    assert done.state == "Completed", done.run.error
    assert done.items == list(range(10))
    assert done.run.summary().attempts == 10
    assert done.log("sys/master_role.txt").count("was killed by SIGKILL from outside") == 2
    assert "SIGKILL" in done.log("user/error.txt")


def test_kills_without_end_before_a_process_is_ready_are_counted_and_named(job):
    done = job("import os\ndef init(): os.kill(os.getpid(), 9)" + RUN, 5, seconds=40)
    assert done.state == "Failed"
    assert "the process was killed from outside 6 times before it was ready" in done.run.error
    assert "SIGKILL from outside during init()" in done.run.error


def test_processes_that_die_between_init_and_their_first_mini_batch_end_the_step_run(job):
    """init() succeeds each time: that alone forgets nothing."""
    script = "import os, threading\ndef init(): threading.Thread(target=os._exit, args=(7,)).start()" + RUN
    done = job(script, 5, seconds=40, process_count_per_node=1)
    assert done.state == "Failed"
    assert "exit code 7" in done.run.error


def test_a_first_error_of_init_is_shown_with_its_trace(job):
    script = (
        """
import os
def load_model(path): open(path)
def init(): load_model("/models/none")
"""
        + RUN
    )
    done = job(script, 3)
    assert done.state == "Failed"
    for text in (done.run.error, done.log("job_result.txt")):
        assert "import or init() failed" in text
        assert "FileNotFoundError" in text
        assert "in load_model" in text


def test_a_balloon_in_init_is_named_with_its_size(job):
    script = "import os\nKEPT = []\ndef init():\n    while True: KEPT.append(b'x' * (8 << 20))\n" + RUN
    done = job(script, 3, memory_limit_per_process="200MB", process_count_per_node=1)
    assert done.state == "Failed"
    assert "OutOfMemory" in done.run.error
    assert "more than the 200 MiB it may have (memory_limit_per_process)" in done.run.error


def test_a_shutdown_that_hangs_is_killed_at_its_limit_and_told_with_its_stack(job):
    script = """
import os, time
def run(mini_batch): return [os.path.basename(mini_batch[0])]
def shutdown(): waiting_for_godot()
def waiting_for_godot(): time.sleep(1000)
"""
    done = job(script, 6, arguments=["--shutdown_timeout", "0.5"])
    assert done.state == "Completed"
    assert done.items == list(range(6))
    assert done.run.summary().total_seconds < 10
    told = done.logs("user/error/*/*.txt")
    assert "shutdown() took longer than 0.5 s (--shutdown_timeout); the process was killed" in told
    assert "in waiting_for_godot" in told
    assert "shutdown()" in done.log("user/error.txt")


def test_a_shutdown_that_raises_is_told_and_fails_nothing(job):
    script = """
import os
def run(mini_batch): return [os.path.basename(mini_batch[0])]
def shutdown(): raise ValueError("the last straw")
"""
    done = job(script, 6)
    assert done.state == "Completed"
    assert "the last straw" in done.log("user/error.txt")

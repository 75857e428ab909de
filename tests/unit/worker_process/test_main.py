"""The worker process's life, in real processes: load, init(), mini-batches, shutdown(), ways to end."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prs_dask.worker_process.frames import FrameKind, ProcessSetup, write_frame
from prs_dask.worker_process.launch import EXIT_BROKEN, EXIT_SUPERVISOR_GONE, command
from prs_dask.worker_process.phase import Phase, new_page_descriptor

NOOP = "def run(mini_batch):\n    return mini_batch\n"


def test_import_init_run_and_shutdown_come_in_this_order_and_once(start):
    child = start("""
        print("import")
        def init(): print("init")
        def run(mini_batch): print("run"); return mini_batch
        def shutdown(): print("shutdown")
    """).ready()
    child.run()
    child.run()
    assert child.quit() == (0, None)
    assert child.stdout().split() == ["import", "init", "run", "run", "shutdown"]


def test_a_script_needs_neither_init_nor_shutdown(start):
    child = start(NOOP).ready()
    assert child.run("a", "b").rows == b"a\nb\n"
    assert child.quit() == (0, None)


def test_the_script_finds_its_command_line_its_folder_and_its_name(start):
    child = start(
        """
        import json, os, sys
        import helper
        def run(mini_batch):
            return [json.dumps([__name__, os.path.basename(__file__), sys.argv[1:], os.path.basename(sys.argv[0]),
                                os.getcwd(), sys.path[0], helper.VALUE, sys.modules["score"].run is run])]
        """,
        files={"helper.py": "VALUE = 41"},
    ).ready()
    setup = child.setup
    assert eval(child.run().rows.replace(b"true", b"True")) == [
        "score",
        "score.py",
        ["--threshold", "0.5"],
        "score.py",
        setup.working_folder,
        setup.source_folder,
        41,
        True,
    ]


def test_entry_script_tells_the_process_it_lives_in(start):
    child = start("""
        from azureml_user.parallel_run import EntryScript
        from prs_dask import EntryScript as Same
        def run(mini_batch):
            one = EntryScript()
            one.logger.info("scored %s", mini_batch)
            one.logger.debug("not at this level")
            open(one.output_dir + "/own.txt", "w").close()
            open(one.log_dir + "/own.log", "w").close()
            return [one is Same(), one.agent_name, one.node_id, one.logging_level, one.arguments, one.working_dir]
    """).ready()
    rows = child.run("a").rows.decode().splitlines()
    assert rows == [
        "True",
        "process007",
        "3",
        "INFO",
        "['--threshold', '0.5']",
        child.setup.working_folder,
    ]
    assert "INFO" in child.log()
    assert "scored ['a']" in child.log()
    assert "not at this level" not in child.log()
    assert (Path(child.setup.output_folder) / "own.txt").exists()
    assert (Path(child.setup.log_folder) / "files" / "own.log").exists()


def test_root_records_of_level_warning_go_to_stdout(start):
    child = start("""
        import logging
        logging.info("quiet"); logging.warning("loud")
        def run(mini_batch): logging.getLogger("x").error("louder"); return mini_batch
    """).ready()
    child.run()
    assert "loud" in child.stdout()
    assert "ERROR x: louder" in child.stdout()
    assert "quiet" not in child.stdout()
    assert child.stderr() == ""


def test_a_script_that_sets_the_root_logger_up_itself_gets_what_it_asked_for(start):
    child = start("""
        import logging, sys
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="mine %(message)s")
        logging.debug("detail")
        def run(mini_batch): return mini_batch
    """).ready()
    assert child.stderr() == "mine detail\n"
    assert child.stdout() == ""


def test_a_process_whose_script_never_logs_does_not_import_logging(start):
    child = start("import sys\ndef run(mini_batch): return ['logging' in sys.modules, 'dask' in sys.modules]").ready()
    assert child.run().rows == b"False\nFalse\n"


def test_objects_travel_by_cloudpickle(start):
    import cloudpickle

    class Scorer:
        def __init__(self):
            self.factor = 0

        def init(self):
            self.factor = 3

        def run(self, mini_batch, mini_batch_context):
            return [self.factor * len(path) for path in mini_batch] + [mini_batch_context.minibatch_index]

    Scorer.__module__ = "__main__"  # as in a notebook
    child = start(None, source_folder=None, script_object=cloudpickle.dumps(Scorer())).ready()
    assert child.run("a", "bb").rows == b"3\n6\n100\n"
    child.work([])
    assert child.outcome().header.items == 0


@pytest.mark.parametrize(
    ("script", "kind", "where"),
    [
        ("1/0\ndef run(mini_batch): ...", "ZeroDivisionError", "score.py:1 in <module>"),
        ("def init():\n    raise SystemExit(3)\ndef run(m): ...", "SystemExit", "score.py:2 in init"),
        ("import argparse\nargparse.ArgumentParser().parse_args()\ndef run(m): ...", "SystemExit", "score.py:2"),
        ("def run(:\n", "SyntaxError", "score.py:1"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError", "score.py:1"),
        ("async def run(mini_batch): ...", "EntryScriptError", ""),
        ("def run(): ...", "EntryScriptError", ""),
        ("def predict(mini_batch): ...", "EntryScriptError", ""),
        ("run = 3", "EntryScriptError", ""),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "score.py:1"),
        ("def init():\n  def f(): f()\n  f()\ndef run(m): ...", "RecursionError", "score.py:2 in f"),
    ],
)
def test_loading_that_fails_is_told_with_its_reason_and_ends_the_process(start, script, kind, where):
    child = start(script)
    error = child.load_failed()
    assert error.type == kind
    assert error.where.startswith(where)
    assert "/prs_dask/" not in error.traceback
    assert "frozen importlib" not in error.traceback
    assert child.process.wait(20) == 1


def test_a_lone_script_that_misses_a_module_says_what_to_set(start):
    error = start("import helper").load_failed()
    assert "source_directory is not set" in error.message


def test_init_is_a_phase_of_its_own(start):
    child = start("import time\ndef init(): time.sleep(100)\ndef run(m): return m")
    assert child.phase(Phase.INIT).sequence == -1


def test_shutdown_that_raises_is_told_and_the_process_still_ends_well(start):
    child = start("def run(m): return m\ndef shutdown(): raise OSError('flush')").ready()
    code, error = child.quit()
    assert (code, error.type, error.message) == (0, "OSError", "flush")
    assert error.where == "score.py:2 in shutdown"


def test_atexit_functions_run_on_the_normal_way_out_and_threads_do_not_hold_it_up(start):
    child = start("""
        import atexit, threading, time
        atexit.register(print, "bye")
        threading.Thread(target=time.sleep, args=(1000,)).start()
        def run(mini_batch): return mini_batch
    """).ready()
    assert child.quit() == (0, None)
    assert child.stdout() == "bye\n"


def test_mini_batches_of_one_frame_run_in_order_each_told_before_the_next(start):
    child = start("def run(m): print(*m); return m").ready()
    child.work(["a"], ["b"], ["c"])
    assert [child.outcome()[::2] for _ in range(3)] == [(0, b"a\n"), (1, b"b\n"), (2, b"c\n")]
    child.phase(Phase.IDLE)
    child.work(["d"])
    assert child.outcome().sequence == 3


def test_a_revoked_mini_batch_is_skipped_and_never_run(start):
    child = start("""
        import os, time
        def run(mini_batch):
            while mini_batch == ["first"] and not os.path.exists("go"): time.sleep(0.001)
            print(*mini_batch); return mini_batch
    """).ready()
    child.work(["first"], ["revoked"], ["kept"])
    child.phase(Phase.RUN)
    child.page.revoke(1, 2)
    Path(child.setup.working_folder, "go").touch()
    assert child.outcome().sequence == 0
    assert child.frame() == (FrameKind.SKIPPED, 1, b"")
    assert child.outcome().rows == b"kept\n"
    assert child.stdout() == "first\nkept\n"


def test_the_page_tells_what_runs_since_when_with_how_many_items(start):
    before = time.monotonic()
    child = start("import time\ndef run(m): time.sleep(1000)").ready()
    child.work(["a", "b", "c"])
    reading = child.phase(Phase.RUN)
    assert (reading.sequence, reading.items) == (0, 3)
    assert before < reading.since < time.monotonic()


def test_the_process_leaves_at_once_when_the_stream_ends(start):
    child = start(NOOP).ready()
    child.sock.shutdown(socket.SHUT_RDWR)
    assert child.process.wait(20) == EXIT_SUPERVISOR_GONE


def test_a_frame_that_makes_no_sense_ends_the_process_with_a_reason(start):
    child = start(NOOP).ready()
    write_frame(child.sock, FrameKind.SETUP)
    assert child.ended() == EXIT_BROKEN
    assert "allowed here: WORK, QUIT" in child.stderr()


def test_a_process_with_another_parent_than_its_own_leaves_before_it_does_anything(no_leaks):
    ours, theirs = socket.socketpair()
    page = new_page_descriptor()
    with ours, theirs:
        kept = (theirs.fileno(), page)
        process = subprocess.Popen(command(*kept, -1, 1), pass_fds=kept)
        os.close(page)
        assert process.wait(20) == EXIT_SUPERVISOR_GONE


def test_the_kernel_kills_a_process_busy_in_user_code_when_its_parent_is_killed(tmp_path, no_leaks):
    script, busy = tmp_path / "score.py", tmp_path / "busy"
    script.write_text(f"import time\nopen({str(busy)!r}, 'w').close()\ntime.sleep(1000)\ndef run(m): ...")
    ours, theirs = socket.socketpair()
    page = new_page_descriptor()
    kept = (theirs.fileno(), page)
    starts_it = (
        "import os, sys, time; print(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), flush=True); time.sleep(99)"
    )
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-c", starts_it, *command(*kept)], pass_fds=kept, stdout=subprocess.PIPE
        ) as parent,
    ):
        pid = int(parent.stdout.readline())
        theirs.close()
        os.close(page)
        folder = str(tmp_path)
        setup = ProcessSetup(str(script), None, folder, (), (), None, folder, folder, folder, "process000", 0, "INFO")
        write_frame(ours, FrameKind.SETUP, 0, pickle.dumps(setup))
        _until(busy.exists)
        parent.kill()
        parent.wait()
        _until(lambda: _state(pid) == "Z")


def _until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def _state(pid: int) -> str:
    """Z too where there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"

"""User code that does harm to its own process: the protocol lives on, or the process ends; it never hangs."""

from __future__ import annotations

import signal
import time

import pytest

from prs_dask.worker_process.phase import Phase

SURVIVED = {
    "closes stdout": "sys.stdout.close(); os.close(1)",
    "closes descriptors 0 to 2": "os.closerange(0, 3)",
    "closes descriptors 3 to 255": "os.closerange(3, 256)",
    "replaces stdout": "sys.stdout = sys.stderr = None",
    "changes its folder": "os.chdir('/')",
    "removes its folder": "os.rmdir(os.getcwd())",
    "clears its environment": "os.environ.clear()",
    "ignores all signals": "[signal.signal(s, signal.SIG_IGN) for s in signal.valid_signals() - {9, 19, 32, 33}]",
    "resets all signals": "[signal.signal(s, signal.SIG_DFL) for s in signal.valid_signals() - {9, 19, 32, 33}]",
    "sets up logging": "import logging; logging.basicConfig(force=True); logging.shutdown()",
    "disables the garbage collector": "import gc; gc.disable(); gc.freeze()",
    "clears sys.path": "sys.path.clear()",
    "clears sys.meta_path": "sys.meta_path.clear()",
    "sets a small recursion limit": "sys.setrecursionlimit(80)",
    "sets a timeout for sockets": "import socket; socket.setdefaulttimeout(0.01); time.sleep(0.05)",
    "leaves threads behind": "import threading; threading.Thread(target=time.sleep, args=(999,)).start()",
    "leaves an alarm behind": "signal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, 0.5)",
    "replaces builtins": "import builtins; builtins.open = builtins.print = None",
    "patches time": "time.time = time.monotonic = time.process_time = lambda: 'now'",
    "replaces sys.excepthook": "sys.excepthook = lambda *a: os._exit(5)",
    "traces": "sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "turns warnings into errors": "import warnings; warnings.simplefilter('error')",
    "leaves a module of the name": "sys.modules['traceback'] = sys.modules['json'] = None",
}


@pytest.mark.parametrize("place", ["module", "run"])
@pytest.mark.parametrize("what", SURVIVED)
def test_mini_batches_go_on_after_a_script(start, what, place):
    harm = f"harm() if {place!r} == here else None"
    child = start(f"""
import os, sys, signal, time
def late(*_): raise TimeoutError("too late")
def harm():
    {SURVIVED[what]}
def act(here): {harm}
act("module")
def run(m):
    if m == ["harm"]: act("run")
    if m == ["raise"]: raise ValueError("told")
    return m
""").ready()
    assert child.run("harm").rows == b"harm\n"
    if "alarm" in what:
        end = time.monotonic() + 10
        while "TimeoutError was raised between mini-batches" not in child.stderr():
            assert time.monotonic() < end
            time.sleep(0.005)
    assert child.run("good").rows == b"good\n"
    outcome = child.run("raise")
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "told")
    assert child.run("good").rows == b"good\n"
    assert child.quit() == (0, None)


DEADLY = {
    "os._exit(5)": 5,
    "os.abort()": -signal.SIGABRT,
    "os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
    "import ctypes; ctypes.string_at(0)": -signal.SIGSEGV,
    "import resource; os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])": 71,
    "os.execv('/bin/true', ['true'])": 0,
}


@pytest.mark.parametrize("statement", DEADLY)
def test_a_process_that_cannot_go_on_ends_and_what_it_printed_is_kept(start, statement):
    child = start(f"""
import os, signal
def run(m):
    if m == ["good"]: return m
    print("last words", end="")
    {statement}
    return m
""").ready()
    assert child.run("good").rows == b"good\n"
    child.work(["bad"], ["never begun"])
    assert child.ended() == DEADLY[statement]
    assert child.page.read().sequence == 1
    assert child.stdout() == "last words"


def test_a_segfault_leaves_the_python_stack_behind(start):
    child = start("import ctypes\ndef run(m): return ctypes.string_at(0)").ready()
    child.work(["a"])
    child.ended()
    stacks = (child.folder / "stacks").read_text()
    assert "Segmentation fault" in stacks
    assert 'score.py", line 2 in run' in stacks


HANGS = {
    "sleeps": "time.sleep(999)",
    "holds the GIL in C": "re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "holds the GIL in Python": "for _ in iter(int, 1): pass",
    "waits for a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
}


@pytest.mark.parametrize("what", HANGS)
def test_the_stacks_of_all_threads_can_be_had_while_run(start, what):
    child = start(f"""
import re, threading, time
def background(): time.sleep(999)
threading.Thread(target=background, daemon=True).start()
def run(m):
    {HANGS[what]}
""").ready()
    child.work(["a"])
    child.phase(Phase.RUN)
    time.sleep(0.05)
    stacks = child.stacks()
    assert "in run" in stacks
    assert "in background" in stacks
    assert child.process.poll() is None


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "lambda *_: None"])
def test_stacks_can_be_had_after_the_script_took_over_every_signal(start, handler):
    child = start(f"""
import signal, time
for number in signal.valid_signals() - {{9, 19, 32, 33}}:
    signal.signal(number, {handler})
def run(m):
    if m == ["hang"]: time.sleep(999)
    for number in signal.valid_signals() - {{9, 19, 32, 33}}:
        signal.signal(number, {handler})
    return m
""").ready()
    child.run("quick")
    child.work(["hang"])
    child.phase(Phase.RUN)
    time.sleep(0.05)
    assert "score.py" in child.stacks()
    assert child.process.poll() is None


def test_an_alarm_that_fires_in_a_later_run_fails_that_attempt_only(start):
    child = start("""
        import signal, time
        def late(*_): raise TimeoutError("alarm of another mini-batch")
        def run(m):
            if m == ["first"]:
                signal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, 0.1)
            if m == ["second"]:
                time.sleep(9)
            return m
    """).ready()
    child.work(["first"], ["second"], ["third"])
    assert child.outcome().rows == b"first\n"
    assert child.outcome().error.type == "TimeoutError"
    assert child.outcome().rows == b"third\n"


def test_output_without_end_of_line_and_output_of_subprocesses_is_kept(start):
    child = start("""
        import os, subprocess, sys
        def run(m):
            print("one", end=""); sys.stderr.write("two")
            subprocess.run(["sh", "-c", "printf three; printf four >&2"])
            os._exit(0)
    """).ready()
    child.work(["a"])
    child.ended()
    assert child.stdout() == "onethree"
    assert child.stderr() == "twofour"

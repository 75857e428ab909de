"""What run() may do to its process and its machine: print without end, close what is open, leave children behind.

None of it costs another mini-batch's rows, hangs the job or leaves a process.
"""

import re
import time

import pytest

PLACES = "import os\ndef number_of(mini_batch): return int(os.path.basename(mini_batch[0]))\n"


def test_what_was_printed_without_a_newline_before_dying_is_kept(job):
    script = (
        PLACES
        + """
import ctypes, sys
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 1:
        print("last words of one", end="")
        os._exit(1)
    if number == 2:
        sys.stderr.write("last words of two")
        ctypes.string_at(0)
    if number == 3:
        os.system("printf 'a child of three'")
        os.kill(os.getpid(), 9)
    if number == 4:
        ctypes.CDLL(None).puts(b"from C")
        os.abort()
    return [number]
"""
    )
    done = job(script, 20, run_max_try=1)
    assert done.items == [0, *range(5, 20)]
    assert "last words of one" in done.logs("user/stdout/*/*.txt")
    assert "last words of two" in done.logs("user/stderr/*/*.txt")
    assert "a child of three" in done.logs("user/stdout/*/*.txt")
    assert "from C" in done.logs("user/stdout/*/*.txt")


@pytest.mark.parametrize(
    "harm",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "os.close(0); os.close(1); os.close(2)",
        "os.closerange(0, 512)",
        "sys.stdout = sys.stderr = None",
        "os.chdir('/')",
        "os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())",
        "os.environ.clear()",
        "sys.path.clear(); sys.argv.clear()",
        "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 17, 19)]",
        "logging.basicConfig(force=True, filename=os.devnull); logging.disable()",
        "random.seed(1); os.umask(0o777)",
        "os.nice(5)",
        "os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None",
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001); signal.signal(signal.SIGALRM, lambda *_: None)",
        "gc.disable(); sys.setrecursionlimit(60)",
        "sys.settrace(lambda *_: None); sys.setswitchinterval(10)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))",
        "threading.Thread(target=time.sleep, args=(100,)).start()",
        "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
        "locale.setlocale(locale.LC_ALL, 'C'); os.putenv('PYTHONPATH', '/nowhere')",
        "sys.modules.clear()",
    ],
)
def test_what_a_script_does_to_its_own_process_does_not_stop_it(job, harm):
    script = f"""
import gc, locale, logging, os, random, resource, signal, sys, tempfile, threading, time
def run(mini_batch):
    if {harm!r} != os.__dict__.get("harmed"):
        os.harmed = {harm!r}
        {harm}
    return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 12, seconds=30)
    assert done.state == "Completed", done.run.error
    assert done.items == list(range(12))


def test_children_that_left_group_session_and_parent_are_dead_when_the_job_has_ended(job):
    script = (
        PLACES
        + """
import subprocess, sys, time
IGNORE = "for number in 1, 2, 15: signal.signal(number, signal.SIG_IGN)"
SLEEP = [sys.executable, "-S", "-c", f"import signal, time\\n{IGNORE}\\ntime.sleep(600)"]

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(SLEEP[0], SLEEP)
        os._exit(0)
    os.wait()

def run(mini_batch):
    number = number_of(mini_batch)
    if number == 0: subprocess.Popen(SLEEP)
    if number == 1: subprocess.Popen(SLEEP, start_new_session=True)
    if number == 2: daemon()
    if number == 3: subprocess.Popen(["nohup", *SLEEP], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if number == 4: subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & wait"])
    if number == 5: daemon(); os._exit(1)
    return [number]
"""
    )
    done = job(script, 30, run_max_try=2)
    assert done.items == [number for number in range(30) if number != 5]


@pytest.mark.parametrize("how", ["in a session of its own", "forked twice"])
def test_children_of_a_process_killed_at_its_limit_are_dead_before_the_next_attempt(job, tmp_path, how):
    script = (
        PLACES
        + f"""
import subprocess, sys, time
TWICE = {how == "forked twice"}
ALIVE = {str(tmp_path)!r} + "/alive"
CHILD = f"import time, os\\nwhile True: open({{ALIVE!r}}, 'a').write('x'); time.sleep(0.01)"
def run(mini_batch, context):
    if context.attempt == 1:
        if not TWICE or os.fork() == 0:
            subprocess.Popen([sys.executable, "-S", "-c", CHILD], start_new_session=True)
            if TWICE: os._exit(0)
        time.sleep(100)
    before = os.path.getsize(ALIVE)
    time.sleep(0.2)
    return [os.path.getsize(ALIVE) - before]
"""
    )
    done = job(script, 1, run_invocation_timeout=0.6)
    assert done.rows == ["0"]


def test_a_fork_that_returns_into_the_engine_neither_doubles_rows_nor_lives_on(job):
    script = (
        PLACES
        + """
def run(mini_batch):
    number = number_of(mini_batch)
    if number % 3 == 0 and os.fork() == 0:
        return ["child"]
    if number % 3 == 1 and os.fork() == 0:
        raise ValueError("in the child")
    return [number]
"""
    )
    done = job(script, 30)
    assert done.items == list(range(30))
    assert done.run.summary().attempts == 30


def test_multiprocessing_within_run_works(job):
    script = (
        PLACES
        + """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
def square(number): return number * number
def run(mini_batch):
    number = number_of(mini_batch)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        (one,) = pool.map(square, [number])
    with ThreadPoolExecutor(2) as pool:
        (two,) = pool.map(square, [number])
    assert one == two
    return [number]
"""
    )
    done = job(script, 6)
    assert done.items == list(range(6))


def test_a_gigabyte_of_prints_slows_nobody_to_a_halt_and_the_log_says_what_it_left_out(job):
    script = (
        PLACES
        + """
import os
LINE = b"0123456789" * 100 + b"\\n"
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 4:
        for _ in range(1000):
            os.write(1, LINE * 1049)
        print("the very last line")
    return [number]
"""
    )
    begun = time.monotonic()
    done = job(script, 30, run_invocation_timeout=50)
    assert done.items == list(range(30))
    assert time.monotonic() - begun < 30
    files = list(done.run.log_dir.glob("user/stdout/*/*.txt"))
    assert sum(path.stat().st_size for path in files) < 300_000_000
    told = [path.read_bytes() for path in files]
    assert any(b"left out" in text for text in told)
    assert any(b"the very last line" in text[-1000:] for text in told)


def test_a_script_that_kills_its_group_and_session_kills_itself_alone(job):
    script = (
        PLACES
        + """
import signal, time
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 3:
        os.killpg(0, signal.SIGKILL)
        time.sleep(10)
    return [number]
"""
    )
    done = job(script, 20, run_max_try=2)
    assert done.items == [number for number in range(20) if number != 3]
    assert done.tries()[3] == 2


def test_a_script_that_kills_its_parent_costs_nobody_a_row(job):
    script = (
        PLACES
        + """
import signal, time
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 3:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    return [number]
"""
    )
    done = job(script, 20, run_max_try=2, seconds=30)
    assert done.items == [number for number in range(20) if number != 3]
    assert done.tries()[3] == 2


def test_more_memory_than_a_process_may_have_is_its_own_category_of_failure(job):
    script = (
        PLACES
        + """
import time
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 3:
        hog = []
        while True:
            hog.append(bytearray(os.urandom(1 << 20)) * 16)
            time.sleep(0.005)
    return [number]
"""
    )
    done = job(script, 20, run_max_try=2, memory_limit_per_process="300MB")
    assert done.items == [number for number in range(20) if number != 3]
    assert done.categories() == {"out of memory": 2}
    assert "memory_limit_per_process" in done.log("user/error.txt")


def test_a_balloon_in_a_grandchild_counts_and_takes_nobody_else_along(job):
    script = (
        PLACES
        + """
import subprocess, sys
GROW = "kept = []\\nwhile True: kept.append(b'x' * (16 << 20))"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {GROW!r}])"
def run(mini_batch):
    number = number_of(mini_batch)
    if number == 3:
        subprocess.run([sys.executable, "-S", "-c", CHILD], start_new_session=True)
    return [number]
"""
    )
    done = job(script, 20, run_max_try=2, memory_limit_per_process="300MB")
    assert done.items == [number for number in range(20) if number != 3]
    assert done.categories() == {"out of memory": 2}
    [failed] = done.run.failed_items()
    used = int(re.search(r"used ([\d,]+) MiB, more than the 300 MiB", failed.message)[1].replace(",", ""))
    assert 300 <= used < 900  # what is above the limit by less than 1 MiB is told as the limit
    assert done.tries() == {number: 2 if number == 3 else 1 for number in range(20)}


def test_a_script_that_closes_every_descriptor_there_is_fails_alone_and_is_told_why(job):
    script = (
        PLACES
        + """
def run(mini_batch):
    if number_of(mini_batch) == 3: os.closerange(3, 65536)
    return [number_of(mini_batch)]
"""
    )
    done = job(script, 12, run_max_try=2)
    assert done.items == [number for number in range(12) if number != 3]
    assert "closes descriptors" in done.log("user/error.txt")


def test_a_stopped_process_is_killed_at_its_limit(job):
    script = (
        PLACES
        + """
import signal
def run(mini_batch):
    if number_of(mini_batch) == 2: os.kill(os.getpid(), signal.SIGSTOP)
    return [number_of(mini_batch)]
"""
    )
    done = job(script, 10, run_max_try=1, run_invocation_timeout=0.5)
    assert done.items == [0, 1, *range(3, 10)]
    assert done.categories() == {"time limit": 1}

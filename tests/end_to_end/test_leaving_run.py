"""Every way of leaving run() but a return is a failed attempt of that mini-batch, and of no other."""

import os
import time

import pytest

RAISES = """
import os

class Base(BaseException):
    pass

class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("cannot be pickled")

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("cannot be told")
    __repr__ = __str__

class Local(Exception):
    def __init__(self, one, two):
        super().__init__("made of two")

def huge():
    raise ValueError("x" * 100_000_000)

def cyclic():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first

def deep(n=0):
    deep(n + 1)

def group():
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])

def stop():
    raise StopIteration("enough")

def throw(error):
    raise error

BAD = [
    lambda: throw(ValueError("a plain error")),
    lambda: throw(Base("from the bottom")),
    lambda: throw(SystemExit(0)),
    lambda: throw(SystemExit("with a text")),
    lambda: throw(KeyboardInterrupt()),
    stop,
    lambda: throw(GeneratorExit("closing")),
    huge,
    lambda: throw(Unpicklable("no pickle")),
    lambda: throw(Silent()),
    lambda: throw(Local(1, 2)),
    cyclic,
    deep,
    group,
    lambda: throw(MemoryError()),
    lambda: throw(OSError(28, "No space left on device")),
    lambda: throw(ValueError("text with \\ud800 and \\x1b[31m and \\0")),
    lambda: throw(TimeoutError("the user's own")),
    lambda: throw(EOFError("the user's own")),
    lambda: throw(BrokenPipeError(32, "the user's own")),
    lambda: exit(),
    lambda: __import__("sys").exit(3),
    lambda: 1 / 0,
    lambda: eval("1 +"),
]

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number < len(BAD):
        BAD[number]()
    return [number]
"""
RAISED = 24

DIES = """
import ctypes, os, signal, sys, threading

def kill(number):
    os.kill(os.getpid(), number)
    signal.pause()

def in_thread():
    thread = threading.Thread(target=os._exit, args=(3,))
    thread.start()
    thread.join()

BAD = [
    lambda: os._exit(0),
    lambda: os._exit(1),
    lambda: os.abort(),
    lambda: ctypes.string_at(0),
    lambda: kill(signal.SIGKILL),
    lambda: kill(signal.SIGTERM),
    in_thread,
]

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number < len(BAD):
        BAD[number]()
    return [number]
"""
DEATHS = 7


def test_whatever_run_raises_fails_its_mini_batch_after_all_its_tries_and_no_other(job):
    done = job(RAISES, RAISED + 30, run_max_try=2)
    assert done.state == "Completed"
    assert done.items == list(range(RAISED, RAISED + 30))
    assert done.tries() == {number: 2 if number < RAISED else 1 for number in range(RAISED + 30)}
    assert set(done.categories()) == {"exception"}
    text = done.log("user/error.txt")
    for words in (
        "a plain error",
        "from the bottom",
        "SystemExit",
        "KeyboardInterrupt",
        "StopIteration",
        "GeneratorExit",
    ):
        assert words in text, words
    assert "script.py:" in text
    assert sum(path.stat().st_size for path in done.run.log_dir.rglob("*")) < 10_000_000, "100 MB message kept"
    assert "\x1b" not in text
    assert not (done.run.log_dir / "user/error/lost_workers.txt").exists()


def test_no_process_is_lost_by_an_exception(job):
    script = RAISES.replace("return [number]", "return [os.getpid()]")
    done = job(script, RAISED + 30, run_max_try=1)
    assert len(set(done.rows)) <= 2


def test_a_dead_process_is_charged_to_the_mini_batch_it_ran_and_to_no_other(job):
    done = job(DIES, DEATHS + 60, run_max_try=3)
    assert done.state == "Completed"
    assert done.items == list(range(DEATHS, DEATHS + 60))
    assert done.tries() == {number: 3 if number < DEATHS else 1 for number in range(DEATHS + 60)}
    assert done.categories() == {"process died": 3 * DEATHS}
    messages = " ".join(row["Error Message"] for row in done.attempts)
    for words in ("exit code 0", "exit code 1", "SIGABRT", "SIGSEGV", "SIGKILL", "SIGTERM", "exit code 3"):
        assert words in messages, words


def test_where_a_segfault_happened_is_told(job):
    script = """
        import ctypes, os
        def the_culprit(): ctypes.string_at(0)
        def run(mini_batch):
            if int(os.path.basename(mini_batch[0])) == 2: the_culprit()
            return ["x"]
    """
    done = job(script, 4, run_max_try=1)
    told = done.log(
        "user/error/0/" + next(row["Process"] for row in done.attempts if row["Error Category"])[2:] + ".txt"
    )
    assert "SIGSEGV" in told
    assert "in the_culprit" in told


def test_a_retry_goes_to_another_process(job):
    script = """
        import os
        import time
        def run(mini_batch, context):
            time.sleep(0.1)
            if context.attempt < 2: raise ValueError("again")
            return mini_batch
    """
    done = job(script, 12)
    assert done.state == "Completed"
    places = {}
    for row in done.attempts:
        places.setdefault(row["Mini-batch Id"], set()).add(row["Process"])
    elsewhere = sum(len(processes) == 2 for processes in places.values())
    assert elsewhere >= 10, places  # but for what failed before the second process was ready


@pytest.mark.parametrize("tries", [1, 4])
def test_a_mini_batch_has_exactly_run_max_try_attempts(job, tries):
    script = """
        import os
        def run(mini_batch, context):
            if int(os.path.basename(mini_batch[0])) % 3 == 0: raise ValueError(f"attempt {context.attempt}")
            return [os.path.basename(mini_batch[0])]
    """
    done = job(script, 9, run_max_try=tries)
    assert done.tries() == {number: tries if number % 3 == 0 else 1 for number in range(9)}
    for number in (0, 3, 6):
        rows = [row for row in done.attempts if int(row["Mini-batch Id"]) == number]
        assert [row["Picked Count"] for row in rows] == [str(attempt) for attempt in range(1, tries + 1)]
        assert [row["Status"] for row in rows] == ["Failed attempt"] * (tries - 1) + ["Failed"]


def test_a_mini_batch_that_succeeds_at_its_last_try_counts_nothing_as_failed(job):
    script = """
        import os
        def run(mini_batch, context):
            if context.attempt < 3: os._exit(9)
            return mini_batch
    """
    done = job(script, 4, run_max_try=3, error_threshold=0)
    assert done.state == "Completed"
    assert (done.run.summary().failed_items, done.run.summary().attempts) == (0, 12)


def test_two_thousand_mini_batches_with_every_kind_of_bad_one_among_them(job):
    script = """
        import ctypes, os, re
        def run(mini_batch):
            number = int(os.path.basename(mini_batch[0]))
            if number % 100 == 7: raise ValueError(number)
            if number in (250, 650, 1050, 1450, 1850): re.match(r"(a+)+$", "a" * 64 + "b")
            if number in (333, 999, 1666): ctypes.string_at(0)
            return [number]
    """
    begun = time.monotonic()
    done = job(script, 2000, run_max_try=2, run_invocation_timeout=0.5)
    bad = {number for number in range(2000) if number % 100 == 7} | {250, 650, 1050, 1450, 1850, 333, 999, 1666}
    assert done.state == "Completed"
    assert done.items == [number for number in range(2000) if number not in bad]
    assert done.tries() == {number: 2 if number in bad else 1 for number in range(2000)}
    assert done.categories() == {"exception": 40, "time limit": 10, "process died": 6}
    assert time.monotonic() - begun < 20
    assert len(os.listdir(done.run.log_dir / "user/error/0")) >= 2

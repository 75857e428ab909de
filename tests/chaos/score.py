"""The entry script of every chaos job: a row for each item, and the harm that the plan has for it.

Each process writes what it does into an append-only file of its own, one write a line, so that
nothing of it is lost with the process: time (of the clock that all processes share), event, what.
Where the file, the table of bad items and what goes wrong in init() lie it is told by its arguments.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
import zlib

TRACES, POISONS, INITS, PAUSE = *sys.argv[1:4], float(sys.argv[4])

_began = time.monotonic()
_trace = os.open(
    f"{TRACES}/{os.getpid()}-{time.monotonic_ns()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
)


def tell(event, **what):
    line = json.dumps({"pid": os.getpid(), "time": time.monotonic(), "event": event, **what})
    os.write(_trace, line.encode() + b"\n")


tell("import", folder=os.getcwd())
with open(POISONS) as _file:
    HARM = {int(item): (harm, flaky) for item, harm, flaky in json.load(_file)}


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle of this")


def leave_children():
    """Grandchildren that want to outlive: one of the group, one of a session of its own, one adopted, all deaf."""
    for kind in range(3):
        if os.fork() == 0:
            if kind:
                os.setsid()
            if kind == 2 and os.fork():
                os._exit(0)
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(600)
            os._exit(0)


def harm(kind):
    """Do it; what comes back is the result to return instead, if any."""
    if kind == "raise":
        raise ValueError("this one is bad")
    if kind == "unpicklable":
        raise Unpicklable("this one cannot be pickled")
    if kind == "huge":
        raise ValueError("x" * 100_000_000)
    if kind == "sys_exit":
        sys.exit(0)
    if kind == "tells_secret":
        raise ValueError(f"the environment is {dict(os.environ)}")
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "exit_0":
        os._exit(0)
    if kind == "exit_1":
        os._exit(1)
    if kind == "dies_leaving_children":
        leave_children()
        os._exit(1)
    if kind == "regex":
        re.match("(a+)+$", "a" * 64 + "b")
    if kind == "loop":
        while True:
            pass
    if kind == "deaf":
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    if kind == "stops_itself":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "balloon":
        hog = []
        while True:
            hog.append(bytearray(os.urandom(1 << 20)) * 16)
            time.sleep(0.003)
    if kind == "children":
        leave_children()


def init():
    tell("init")
    for name in sorted(os.listdir(INITS)):
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            os.unlink(f"{INITS}/{name}")
            if name.endswith("hang"):
                time.sleep(600)
            raise ValueError("this init() is bad")
    time.sleep(0.05)
    tell("ready")


def run(mini_batch, context):
    if isinstance(mini_batch, list):
        items = [int(os.path.basename(path)) for path in mini_batch]
    else:
        items = [int(item) for item in mini_batch["item"]]
    what = {"first": items[0], "items": len(items), "attempt": context.attempt}
    tell("run", **what)
    try:
        result = work(items, context.attempt)
    except BaseException:
        tell("raised", **what)
        raise
    tell("done", **what)
    return result


def work(items, attempt):
    time.sleep(PAUSE)
    result = []
    for item in items:
        text = f"{item:06d}"
        result.append(f"{text}:{zlib.crc32(text.encode()):08x}")
    for item in items:
        kind, flaky = HARM.get(item, ("", False))
        if kind and (attempt == 1 or not flaky):
            harm(kind)
            if kind == "short":
                result.pop()
            if kind == "bad_return":
                result = None
    return result


def shutdown():
    tell("shutdown")

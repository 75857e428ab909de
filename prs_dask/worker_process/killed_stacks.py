"""Where in the user's code a process was when it was killed, from the stacks that ``faulthandler`` wrote of it. Pure.

::

    Thread 0x00007f10 (most recent call first):
      File "/usr/lib/python3.12/threading.py", line 359 in wait
    Current thread 0x00007f12 (most recent call first):
      File "/usr/lib/python3.12/re/__init__.py", line 166 in match
      File "/tmp/prs-dask-0/<run>/source-1a2b/score.py", line 12 in run      <- this one
      File ".../prs_dask/entry_script/host.py", line 140 in run
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["where_in_stacks"]

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_BEGIN_OF_STACK = re.compile(r"^(Current thread|Thread) 0x")


class _Frame(NamedTuple):
    file: str
    line: str
    function: str

    def named(self, name: str) -> str:
        return f"{name}:{self.line} in {self.function}"


def where_in_stacks(stacks: str, source: str | None, engine: str) -> str:
    """The user's own frame in the thread that runs mini-batches: ``score.py:12 in run``; empty where there is none.

    Parameters
    ----------
    stacks
        All threads, of each the most recent call first.
    source
        The folder with the user's source, whose deepest frame is looked for; None where only an object was sent:
        then it is the frame that the engine has called.
    engine
        The folder of ``prs_dask`` itself.
    """
    frames = _main_thread(stacks, _as_written(os.path.join(engine, "worker_process", "main.py")))
    if source is None:
        return _called(frames, _as_written(engine + os.sep))
    folder = _as_written(source + os.sep)
    return next((one.named(one.file[len(folder) :]) for one in frames if one.file.startswith(folder)), "")


def _main_thread(stacks: str, main: str) -> list[_Frame]:
    """The thread that the engine's main has begun; where recursion is too deep for that to be seen, the current one."""
    threads: list[list[_Frame]] = []
    current = 0
    for line in stacks.split("\n"):
        if _BEGIN_OF_STACK.match(line):
            if line.startswith("Current"):
                current = len(threads)
            threads.append([])
        elif threads and (match := _FRAME.match(line)):
            threads[-1].append(_Frame(*match.groups()))
    for frames in threads:
        if any(frame.file == main for frame in frames):
            return frames
    return threads[current] if threads else []


def _called(frames: list[_Frame], engine: str) -> str:
    """What the engine has called of the user's: not what it has called to read a mini-batch."""
    begun = False
    for outer, frame in zip(frames[::-1], frames[-2::-1], strict=False):
        begun = begun or outer.file.startswith(engine)
        if begun and not frame.file.startswith(engine):
            calls_users = outer.file.startswith((engine + "entry_script" + os.sep, engine + "worker_process" + os.sep))
            return frame.named(os.path.basename(frame.file)) if calls_users else ""
    return ""


def _as_written(path: str) -> str:
    """``faulthandler`` writes ASCII."""
    return path.encode("ascii", "backslashreplace").decode()

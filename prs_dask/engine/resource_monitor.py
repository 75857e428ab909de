"""A supervisor's hold on its node's resource monitor, which it starts where no other supervisor has.

    <node folder>/monitor.lock                              held by the supervisor whose monitor it is
                  worker-<pid>-<x>/monitor/samples.jsonl    what it measures; shipped like output

A monitor that dies is started again, a few times. Nothing depends on it: what goes wrong with it is told by nobody but
the monitor itself (see `prs_dask.worker_process.resource_usage`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from prs_dask.engine.node_lock import NodeLock
from prs_dask.worker_process.family import FIRST_KEPT, ProcessFamily
from prs_dask.worker_process.frames import FrameKind, MonitorSetup, write_frame
from prs_dask.worker_process.launch import monitor_command

__all__ = ["SAMPLES", "ResourceMonitor"]

SAMPLES = "monitor/samples.jsonl"
"""In a supervisor's folder."""

MOST_STARTS = 10
LAST_SECONDS = 5.0
"""So long the end waits for the last sample."""


class ResourceMonitor:
    """See the module's docstring. Any thread may use it; `tend` and `close` wait for what they do.

    Parameters
    ----------
    node_folder
        The node's folder of the step run.
    own
        This supervisor's.
    interval
        Seconds between two samples.
    environment
        Of the monitor.
    """

    def __init__(self, node_folder: Path, own: Path, interval: float, environment: Mapping[str, str]) -> None:
        self._file = own / SAMPLES
        paths = tuple(path for path in sys.path if path)
        self._setup = pickle.dumps(MonitorSetup(str(self._file), str(node_folder), interval, paths), 5)
        self._environment = environment
        self._family: ProcessFamily | None = None
        self._connection: socket.socket | None = None
        self._lock = NodeLock(node_folder / "monitor.lock")
        self._starts = 0
        self._over = False
        self._using = threading.Lock()

    def tend(self) -> None:
        """Have the node a monitor; to be called every second or so."""
        with self._using, contextlib.suppress(OSError):  # the disk is full, or no process can be started: later, maybe
            if not self._over and self._lock.is_ours() and not self._lives() and self._starts < MOST_STARTS:
                self._starts += 1
                self._start()
                if self._over:  # meanwhile
                    self._say_quit()

    def finish(self) -> None:
        """Have it take the last sample and leave; nobody is waited for, nor who starts one at this moment."""
        self._over = True
        if self._using.acquire(blocking=False):
            try:
                self._say_quit()
            finally:
                self._using.release()

    def _say_quit(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                write_frame(self._connection, FrameKind.QUIT)

    def close(self) -> None:
        """Wait a little for the last sample, and leave nothing behind; another supervisor may have a monitor then."""
        self.finish()
        with self._using:
            if self._family is not None:
                self._family.wait(LAST_SECONDS)
                self._end()
            self._lock.release()

    def _lives(self) -> bool:
        return self._family is not None and self._family.wait(0.0) is None

    def _end(self) -> None:
        if self._family is not None:
            self._family.kill()
            self._family.close()
            self._family = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self) -> None:
        self._end()
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        self._connection, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack:
            stack.callback(theirs.close)
            silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            stack.callback(os.close, silence)
            self._family = ProcessFamily()
            command, folder = monitor_command(FIRST_KEPT), self._file.parent
            self._family.start(command, self._environment, str(folder), silence, silence, [theirs.fileno()])
            write_frame(self._connection, FrameKind.SETUP, 0, self._setup)

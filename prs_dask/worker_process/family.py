"""The supervisor's side of a reaper: start a worker process, signal it, kill its whole family.

See `prs_dask.worker_process.reaper`, the program at the other end. No Dask here.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prs_dask.worker_process import reaper
from prs_dask.worker_process.kernel_kills import kernel_kills
from prs_dask.worker_process.launch import EXIT_SUPERVISOR_GONE

__all__ = ["Ended", "ProcessFamily", "describe_status"]

FIRST_KEPT = 100
"""Descriptors handed to a worker process start here, out of the way of what users close."""

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)


class Ended(NamedTuple):
    """A worker process is gone with all its descendants.

    Parameters
    ----------
    status
        A wait status, -1 where it is not known.
    survivors
        How many processes the kernel could not kill yet.
    memory
        Bytes that the family used when it was last looked at; 0 where it was not.
    over
        Was it killed because that was more than it may use?
    unattended
        Was it killed because the supervisor itself had been stopped for too long?
    by_kernel
        Was it killed by the kernel because memory was short?
    """

    status: int
    survivors: int
    memory: int = 0
    over: bool = False
    unattended: bool = False
    by_kernel: bool = False

    @property
    def out_of_memory(self) -> bool:
        """Did it end for its memory, whoever killed it?"""
        return self.over or self.by_kernel

    @property
    def from_outside(self) -> bool:
        """Was it ended by something that has nothing to do with its code, as far as one can tell?

        A signal that nothing sends by itself, or the end of the reaper.
        """
        if self.out_of_memory or self.status < 0:
            return not self.out_of_memory
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) in _FROM_OUTSIDE


class ProcessFamily:
    """A reaper, and the one worker process it has at a time.

    Not thread-safe but for `kill`, `signal` and `limit_memory`, which only write.

    Parameters
    ----------
    unattended_seconds
        So long may the worker process run while this very process is stopped.
    """

    def __init__(self, unattended_seconds: float = reaper.UNATTENDED_SECONDS) -> None:
        self.control, theirs = socket.socketpair()
        self._telling = threading.Lock()
        self._kernel_kills = 0
        self._survivors = 0
        self.memory_limit = 0
        self.pid = 0
        with theirs:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, str(theirs.fileno()), str(unattended_seconds)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def is_usable(self) -> bool:
        """Does the reaper live, and with no process left that it could not kill? User code that kills its parent
        has killed it."""
        return self._reaper.poll() is None and not self._survivors

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        stdout: int,
        stderr: int,
        kept: Sequence[int],
        guards: int = 0,
    ) -> int:
        """Start the worker process; ``kept`` descriptors get the numbers 100, 101, … there.

        The last ``guards`` of them stay open in the reaper, too, until the family is dead.

        Returns
        -------
        int
            Its pid, also its process group and session.

        Raises
        ------
        OSError
            It could not be started, or the reaper is gone.
        """
        numbers = [FIRST_KEPT + index for index in range(len(kept))]
        bare = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        message = ("start", [os.fsencode(part) for part in argv], bare, os.fsencode(folder), numbers, guards)
        data = marshal.dumps(message)
        with self._telling:
            socket.send_fds(self.control, [len(data).to_bytes(4, "little")], [stdout, stderr, *kept])
            self.control.sendall(data)
        answer = self._answer(30.0)
        if answer is None or answer[0] != "started":
            raise OSError(answer[1] if answer else "the reaper does not answer")
        self.pid = answer[1]
        self._kernel_kills = kernel_kills()
        return self.pid

    def _answer(self, timeout: float) -> tuple[Any, ...] | None:
        until = time.monotonic() + timeout
        while True:
            ready = select.poll()
            ready.register(self.control, select.POLLIN)
            if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
                return None
            try:
                return reaper.receive(self.control)[0]
            except (EOFError, OSError):
                return None

    def signal(self, number: int) -> None:
        """Send a signal to the worker process, if it still lives."""
        self._tell("signal", int(number))

    def kill(self) -> None:
        """Kill the worker process and all its descendants; `wait` confirms it."""
        self._tell("kill")

    def limit_memory(self, limit: int) -> None:
        """So many bytes may the family use from now on, the next one too; 0: no limit."""
        self.memory_limit = limit
        self._tell("memory", limit)

    def _tell(self, *message: object) -> None:
        try:
            with self._telling:
                reaper.send(self.control, message)
        except OSError:
            pass

    def wait(self, timeout: float) -> Ended | None:
        """Wait for the end of the family; None where it has not ended in ``timeout`` seconds."""
        if not self.pid:
            return Ended(-1, 0)
        until = time.monotonic() + timeout
        while True:
            answer = self._answer(max(0.0, until - time.monotonic()))
            if answer is None:
                try:
                    self._reaper.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    return None
                self.pid = 0  # the reaper is gone itself, and has taken the worker process with it
                return Ended(-1, 0)
            if answer[0] == "ended":
                self.pid = 0
                ended = Ended(*answer[1:])
                self._survivors += ended.survivors
                killed = ended.status >= 0 and os.WIFSIGNALED(ended.status)
                by_others = killed and not (ended.over or ended.unattended)
                by_kernel = by_others and os.WTERMSIG(ended.status) == signal.SIGKILL
                return ended._replace(by_kernel=by_kernel and kernel_kills() > self._kernel_kills)

    def close(self) -> None:
        """Kill what lives, and end the reaper; waits at most some seconds."""
        self.control.close()
        try:
            self._reaper.wait(reaper.PATIENCE + 2)
        except subprocess.TimeoutExpired:
            self._reaper.kill()
            self._reaper.wait()
        self.pid = 0


def describe_status(status: int) -> str:
    """A wait status for people: ``was killed by SIGSEGV``, ``left with exit code 1``."""
    if status < 0:
        return "is gone, nobody knows how"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if number == signal.SIGKILL:
            return "was killed by SIGKILL from outside"
        return f"was killed by {name}"
    code = os.waitstatus_to_exitcode(status)
    if code == EXIT_SUPERVISOR_GONE:
        return "lost its connection to prs_dask (code that closes descriptors which it has not opened does that)"
    return f"left with exit code {code}"

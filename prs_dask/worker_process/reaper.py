"""The parent of a worker process: it makes sure that the whole family dies.

A program of its own, run by path in a bare interpreter (no site, nothing of prs_dask imported: it
is up in some 20 ms and stays small), one for each lane. It is a *child subreaper*: what the user's
code starts and leaves behind, in whatever session or process group, becomes its child, and is
killed when the worker process ends. When the supervisor itself dies, the control socket closes,
and the reaper kills everything and leaves.

Control socket, both directions: 4 bytes of length, then ``marshal`` of a tuple.

    supervisor -> reaper   ("start", argv, environment, folder, kept) with the descriptors
                             stdout, stderr and the kept ones; they get the numbers in ``kept``
                           ("signal", number)     to the worker process, while it lives
                           ("kill",)              the whole family, now
    reaper -> supervisor   ("started", pid)
                           ("failed", text)       the start failed
                           ("ended", status, survivors)   wait status; the family is dead, but
                                                  for processes the kernel cannot kill now
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from ctypes import CDLL

TYPE_CHECKING = False  # typing itself would cost a third of the start
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
"""Seconds to wait for processes that were killed but do not go (uninterruptible sleep)."""

_LENGTH = struct.Struct("<I")
_MOST_DESCRIPTORS = 16
_libc = CDLL(None)


def send(control: socket.socket, message: tuple[Any, ...]) -> None:
    """One message to the other side."""
    data = marshal.dumps(message)
    control.sendall(_LENGTH.pack(len(data)) + data)


def receive(control: socket.socket) -> tuple[tuple[Any, ...], list[int]]:
    """The next message and the descriptors that came with it; EOFError at the end."""
    data, descriptors, _, _ = socket.recv_fds(control, _LENGTH.size, _MOST_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    data = data + _rest(control, _LENGTH.size - len(data))
    return marshal.loads(_rest(control, _LENGTH.unpack(data)[0])), descriptors  # noqa: S302 - our own supervisor


def _rest(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = control.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def children() -> list[int]:
    """Processes whose parent is this one, adopted ones included."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == os.getpid()]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def kill_family(leader: int) -> tuple[int, int]:
    """Kill the worker process, its group and every adopted descendant.

    Returns
    -------
    status, survivors
        Wait status of the worker process (-1 where it does not go), and how many processes are left.
    """
    status = -1
    until = time.monotonic() + PATIENCE
    if leader:  # 0 is this process's own group
        with suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
    while True:
        for pid in children():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while True:
                pid, ended = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == leader:
                    status = ended
        except ChildProcessError:
            return status, 0
        if time.monotonic() > until:
            return status, len(children())
        time.sleep(0.0005)


def start(
    argv: list[bytes], environment: dict[bytes, bytes], folder: bytes, kept: list[int], descriptors: list[int]
) -> int:
    """Start the worker process in a session of its own; returns its pid."""
    failed_read, failed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in range(1, signal.NSIG):
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, descriptor in zip([1, 2, *kept], descriptors, strict=True):
                os.dup2(descriptor, number)
            try:
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write("1000")
            except OSError:
                pass
            os.chdir(folder)
            os.execve(argv[0], argv, environment)  # noqa: S606 - what the supervisor asked for
        except BaseException as error:
            try:
                os.write(failed_write, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(127)
    os.close(failed_write)
    text = os.read(failed_read, 4096)
    os.close(failed_read)
    if text:
        os.waitpid(pid, 0)
        raise OSError(text.decode())
    return pid


def main(control_descriptor: int) -> None:
    """Serve the control socket until it closes."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_inheritable(control_descriptor, False)
    control = socket.socket(fileno=control_descriptor)
    poll = select.poll()
    poll.register(control_descriptor, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    leader = 0
    try:
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                    leader = check(control, leader)
                else:
                    leader = serve(control, leader)
    except (EOFError, OSError):
        pass
    finally:
        kill_family(leader)
        os._exit(0)


def check(control: socket.socket, leader: int) -> int:
    """A child has ended: the worker process itself, or an adopted one."""
    try:
        while True:
            # WNOWAIT: the leader stays a zombie, and its number its own, until the family is killed.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return leader
            if found.si_pid == leader:
                send(control, ("ended", *kill_family(leader)))
                return 0
            os.waitpid(found.si_pid, os.WNOHANG)
    except ChildProcessError:
        return leader


def serve(control: socket.socket, leader: int) -> int:
    """One message of the supervisor; returns the worker process's pid, 0 for none."""
    message, descriptors = receive(control)
    match message:
        case ("start", argv, environment, folder, kept):
            try:
                leader = start(argv, environment, folder, kept, descriptors)
                send(control, ("started", leader))
            except OSError as error:
                send(control, ("failed", str(error)))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        case ("signal", number) if leader:
            os.kill(leader, number)
        case ("kill",) if leader:
            send(control, ("ended", *kill_family(leader)))
            leader = 0
    return leader


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""The parent of a worker process: it makes sure that the whole family dies.

A program of its own, run by path in a bare interpreter (no site, nothing of prs_dask imported: it
is up in some 20 ms and stays small), one for each lane. It is a *child subreaper*: what the user's
code starts and leaves behind, in whatever session or process group, becomes its child, and is
killed when the worker process ends. When the supervisor itself dies, the control socket closes,
and the reaper kills everything and leaves.

It also watches the family's memory, since nothing keeps it from looking: neither the GIL of a Dask worker nor its
event loop. The closer to the limit, the sooner it looks again. And it sees to it that a supervisor that is stopped
(SIGSTOP, Ctrl-Z), which can keep no limit and hear of no end, has no worker process running for long.

Control socket, both directions: 4 bytes of length, then ``marshal`` of a tuple.

    supervisor -> reaper   ("start", argv, environment, folder, kept, guards) with the descriptors
                             stdout, stderr and the kept ones; they get the numbers in ``kept``. The last ``guards``
                             of them stay open here, too, until the family is dead
                           ("signal", number)     to the worker process, while it lives
                           ("kill",)              the whole family, now
                           ("memory", bytes)      what a family may use from now on; 0: no limit
    reaper -> supervisor   ("started", pid)
                           ("failed", text)       the start failed
                           ("ended", status, survivors, memory, over, unattended)
                                                  wait status; the family is dead, but for ``survivors``
                                                  processes that the kernel cannot kill now. ``memory`` it used
                                                  when it was last looked at, and was it killed for that, or
                                                  because the supervisor was stopped?
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
    from collections.abc import Iterable
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
"""Seconds to wait for processes that were killed but do not go (uninterruptible sleep)."""

LOOK_SECONDS = 0.25
"""Between two looks at a family's memory at most; and between two searches for new members at least."""

SOONEST_SECONDS = 0.01
BYTES_A_SECOND = 8 << 30
"""Memory grows no faster than this: what is free decides when to look again."""

COST_FACTOR = 20
"""Looking takes 5 % of the time at most, however large a family or machine is."""

UNATTENDED_SECONDS = 45.0
"""So long may a worker process run whose supervisor is stopped; it is looked at `LOOKS` times meanwhile."""

LOOKS = 9

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


class MemoryWatch:
    """How much memory a family uses that it cannot give back: anonymous, swapped and shared memory, not mapped files.

    Make it before the family: its members are found among the processes that come up afterwards.
    """

    def __init__(self) -> None:
        self.used = 0
        self.look_at = 0.0
        self._search_at = 0.0
        self._family: set[int] = set()
        self._seen = set(os.listdir("/proc")) if os.path.exists("/proc/self/stat") else set()

    def look(self, limit: int) -> bool:
        """Is it over the limit? Also decides when to look again."""
        begun = time.monotonic()
        self._search(begun)
        self.used, over = used_memory(self._family, limit)
        now = time.monotonic()
        self.look_at = now + max(pause(self.used, limit), COST_FACTOR * (now - begun))
        return over

    def _search(self, now: float) -> None:
        """New descendants; only processes that were not there before are looked at."""
        if now < self._search_at or not self._seen:
            return
        present = set(os.listdir("/proc"))
        parents = {int(name): _parent(int(name)) for name in present - self._seen if name.isdigit()}
        self._seen = present
        self._family = {pid for pid in self._family if str(pid) in present}
        known = {*self._family, os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in known} - known:
            known |= more
        self._family = known - {os.getpid()}
        self._search_at = now + max(LOOK_SECONDS, COST_FACTOR * (time.monotonic() - now))


def pause(used: int, limit: int) -> float:
    """Seconds until the next look."""
    return min(max((limit - used) / BYTES_A_SECOND, SOONEST_SECONDS), LOOK_SECONDS)


def used_memory(family: set[int], limit: int) -> tuple[int, bool]:
    """Bytes, and are they more than the limit?

    What several members share (a fork shares all, shared memory is there once) counts once. To tell takes the
    kernel long, so it is asked only where the members' sum is above the limit and no single one is.
    """
    total = most = 0
    for pid in family:
        fields = _kilobytes(f"/proc/{pid}/status", (b"RssAnon", b"VmSwap", b"RssShmem"))
        total += sum(fields)
        most = max(most, fields[0] + fields[1])
    if most << 10 <= limit < total << 10:
        total = sum(map(_proportional, family))
    return total << 10, total << 10 > limit


def _proportional(pid: int) -> int:
    own = sum(_kilobytes(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon", b"SwapPss", b"Pss_Shmem")))
    return own or sum(_kilobytes(f"/proc/{pid}/status", (b"RssAnon", b"VmSwap", b"RssShmem")))


def _kilobytes(path: str, names: tuple[bytes, ...]) -> list[int]:
    """Lines of this kind of file, 0 where there is none."""
    found = dict.fromkeys(names, 0)
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, rest = line.partition(b":")
                if name in found:
                    found[name] = int(rest.split()[0])
    except OSError:
        pass
    return list(found.values())


class SupervisorWatch:
    """Tells when the supervisor has been stopped for too long; time in which nobody looked does not count.

    Parameters
    ----------
    pid
        The supervisor's.
    seconds
        How long is too long.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self.look_at = 0.0
        self._pid = pid
        self._stopped = 0
        self._every = seconds / LOOKS

    def look(self, now: float) -> bool:
        """Is it too long? Looks where it is time for that, and counts anew when it has said so."""
        if now < self.look_at:
            return False
        self.look_at = now + self._every
        self._stopped = self._stopped + 1 if _state(self._pid) == b"T" else 0
        if self._stopped < LOOKS:
            return False
        self._stopped = 0
        return True


def _state(pid: int) -> bytes:
    """The kernel's letter: ``T`` is stopped by a signal; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""


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


def main(control_descriptor: int, unattended_seconds: float) -> None:
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
    family = Family(control, SupervisorWatch(os.getppid(), unattended_seconds))
    try:
        while True:
            for descriptor, _ in poll.poll(family.look()):
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                    family.check()
                else:
                    family.serve()
    except (EOFError, OSError):
        pass
    finally:
        kill_family(family.leader)
        os._exit(0)


class Family:
    """The one worker process at a time, and what becomes of it.

    Attributes
    ----------
    leader
        The worker process's pid, 0 for none.
    """

    def __init__(self, control: socket.socket, supervisor: SupervisorWatch) -> None:
        self.leader = 0
        self._control = control
        self._supervisor = supervisor
        self._guards: list[int] = []
        self._limit = 0
        self._watch: MemoryWatch | None = None

    def look(self) -> float | None:
        """Look at memory and supervisor where it is time for that; milliseconds until the next look."""
        if not self.leader:
            return None
        now = time.monotonic()
        if self._supervisor.look(now):
            self._end(unattended=True)
            return None
        look_at, watch = self._supervisor.look_at, self._watch
        if watch is not None and self._limit:
            if now >= watch.look_at and watch.look(self._limit):
                self._end(over=True)
                return None
            look_at = min(look_at, watch.look_at)
        return max(0.0, look_at - time.monotonic()) * 1000

    def check(self) -> None:
        """A child has ended: the worker process itself, or an adopted one."""
        try:
            while True:
                # WNOWAIT: the leader stays a zombie, and its number its own, until the family is killed.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    return
                if found.si_pid == self.leader:
                    self._end()
                    return
                os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:  # there is none left: survivors, too, are gone
            self._let_go()

    def serve(self) -> None:
        """One message of the supervisor."""
        message, descriptors = receive(self._control)
        match message:
            case ("start", argv, environment, folder, kept, guards):
                try:
                    self._watch = MemoryWatch()
                    self.leader = start(argv, environment, folder, kept, descriptors)
                    self._guards = descriptors[len(descriptors) - guards :]
                    send(self._control, ("started", self.leader))
                except OSError as error:
                    send(self._control, ("failed", str(error)))
                finally:
                    _close(descriptor for descriptor in descriptors if descriptor not in self._guards)
            case ("signal", number) if self.leader:
                os.kill(self.leader, number)
            case ("kill",) if self.leader:
                self._end()
            case ("memory", limit):
                self._limit = limit

    def _end(self, *, over: bool = False, unattended: bool = False) -> None:
        used = self._watch.used if self._watch is not None else 0
        status, survivors = kill_family(self.leader)
        self.leader, self._watch = 0, None
        if not survivors:
            self._let_go()
        send(self._control, ("ended", status, survivors, used, over, unattended))

    def _let_go(self) -> None:
        _close(self._guards)
        self._guards = []


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else UNATTENDED_SECONDS)

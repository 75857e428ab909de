"""What keeps a worker process's protocol apart from whatever user code does to its process.

User code closes descriptors, forks, takes over signals. So the protocol's descriptors have high
numbers that children never get, a forked child has no way back into the protocol, and the handler
that writes stacks is put back when it was replaced.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
from collections.abc import Callable
from types import FrameType

from prs_dask.worker_process.launch import EXIT_SUPERVISOR_GONE, STACK_SIGNAL

__all__ = ["StackDumps", "die_with_parent", "in_forked_child", "moved_away"]

_PR_SET_PDEATHSIG = 1
_LOWEST = (1000, 240, 64, 3)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; leave if it has ended already."""
    if os.uname().sysname == "Linux":
        from ctypes import CDLL

        CDLL(None).prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(EXIT_SUPERVISOR_GONE)


def moved_away(descriptor: int) -> int:
    """The same open file under a number above what user code counts with, closed at exec."""
    for lowest in _LOWEST:
        try:
            high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:  # above the limit of open files
            continue
        os.close(descriptor)
        return high
    os.set_inheritable(descriptor, False)
    return descriptor


def in_forked_child(act: Callable[[], object]) -> None:
    """Call ``act`` in every process that user code forks off this one."""
    os.register_at_fork(after_in_child=act)


class StackDumps:
    """Every thread's Python stack, written to a file at `STACK_SIGNAL` without the GIL.

    ``faulthandler`` handles the signal below Python. Python's own table of handlers holds a marker
    meanwhile: another entry there tells, for 50 ns, that user code has called ``signal.signal``.

    Parameters
    ----------
    descriptor
        The file's descriptor; -1: nothing is written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if descriptor >= 0:
            import faulthandler

            faulthandler.enable(descriptor, all_threads=True)
            self._register()

    def renew(self) -> None:
        """Take the signal back if user code has taken it."""
        if self._descriptor >= 0 and _signal.getsignal(STACK_SIGNAL) is not _marker:
            self._register()

    def _register(self) -> None:
        import faulthandler

        faulthandler.unregister(STACK_SIGNAL)
        _signal.signal(STACK_SIGNAL, _marker)
        faulthandler.register(STACK_SIGNAL, self._descriptor, all_threads=True, chain=False)


def _marker(number: int, frame: FrameType | None) -> None:
    """Stands for faulthandler in Python's table of handlers."""

"""How a supervisor starts a worker process: the command line, and the exit codes.

The supervisor's part besides: a new session, stdin ``/dev/null``, descriptors 1 and 2 on spool files,
the three descriptors below kept open under these numbers, the process's own folder as the current
one, and in the environment ``PYTHONUNBUFFERED=1``, the user's variables and CUDA_VISIBLE_DEVICES.

**Stacks.** Sending `STACK_SIGNAL` makes the process append the Python stack of every thread to
``stack_descriptor``'s file, without its GIL. The same file gets the stacks at a fatal signal (a segfault in
a C extension). The supervisor opens it with ``O_APPEND`` and reads it before the next attempt.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal makes enums, which take a millisecond
import os
import sys

__all__ = [
    "EXIT_BROKEN",
    "EXIT_LOAD_FAILED",
    "EXIT_SUPERVISOR_GONE",
    "NAME_VARIABLE",
    "STACK_SIGNAL",
    "command",
    "fetcher_command",
    "monitor_command",
]

STACK_SIGNAL: int = getattr(_signal, "SIGRTMIN", _signal.SIGUSR2 - 5) + 5
"""A real-time signal that hardly any library uses; SIGUSR2 where there are none (macOS)."""

NAME_VARIABLE = "PRS_DASK_PROCESS"
"""In the environment of what a supervisor starts: ``process007``, ``fetcher`` or ``monitor``."""

EXIT_LOAD_FAILED = 1
EXIT_BROKEN = 70
"""Something hit the process outside of user code: see its stderr."""
EXIT_SUPERVISOR_GONE = 71

# Only prs_dask itself is looked up where the supervisor has it: everything else that may lie beside it stays out
# of sys.path, or has the place there that it had before.
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, {folder!r}); import prs_dask; sys.path.remove({folder!r}); "
    "from prs_dask.worker_process.{module} import main; main(*map(int, sys.argv[1:]))"
)


def command(socket_descriptor: int, page_descriptor: int, stack_descriptor: int = -1, parent: int = 0) -> list[str]:
    """Command line of a worker process.

    Parameters
    ----------
    socket_descriptor
        The process's end of the socket pair.
    page_descriptor
        The phase page (``phase.new_page_descriptor``).
    stack_descriptor
        A file for stacks; -1 for none.
    parent
        Process id of the parent-to-be: with another one the process leaves at once. 0: not checked.
    """
    return _python("main", socket_descriptor, page_descriptor, stack_descriptor, parent)


def fetcher_command(socket_descriptor: int) -> list[str]:
    """Command line of a node's fetcher, which listens on this socket."""
    return _python("fetcher", socket_descriptor)


def monitor_command(socket_descriptor: int) -> list[str]:
    """Command line of a node's resource monitor, which ends with what comes from this socket."""
    return _python("resource_usage", socket_descriptor)


def _python(module: str, *numbers: int) -> list[str]:
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-P", "-c", _BOOTSTRAP.format(folder=folder, module=module), *map(str, numbers)]

"""A process that has imported Dask once, from which a local cluster's workers are forked.

Dask starts each worker as a new interpreter that imports everything again: two workers cost
0.75 s of two cores, eight cost 3.2 s. Python's fork server imports once, at the same time as the
driver imports for itself, and each worker is a fork of it: 0.15 s and 0.35 s.

The server is Python's own and there is one in a process, so it is only stopped here if it was
started here and nothing else of this process came from it.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import forkserver

from prs_dask.clusters.temporary_folder import TemporaryFolder

__all__ = ["cool_down", "forking", "warm_up"]

PRELOAD = (
    "distributed",
    "distributed.http.health",
    "distributed.http.statics",
    "distributed.http.worker.prometheus",
    "prs_dask.clusters.worker_preload",
    "prs_dask.engine.worker_plugin",
    "prs_dask.engine.lane",
)
"""What every worker imports; a name that cannot be imported is passed over by Python."""

_LONGEST_ADDRESS = 107
"""Bytes that the path of a Unix socket may have (unix(7): ``sun_path``, with a zero at its end)."""
_NAMES = len("/prs-dask-12345678/listener-12345678")
"""What the folder's name and the socket's add to the folder above."""

_lock = threading.Lock()
_users = 0
_owner = os.getpid()
_folder: TemporaryFolder | None = None
"""Where the server's socket lies; None: the server, if there is one, was not started here."""


def warm_up(*also: str) -> bool:
    """Start the server, which begins to import Dask; returns at once.

    Parameters
    ----------
    also
        Modules to import besides: what the program's main module imports, for each worker imports that again.

    Returns
    -------
    bool
        Whether workers can be forked here: on Linux, where there is a place for the server's socket.
    """
    global _folder
    if sys.platform != "linux" or (place := _place_of_socket()) is None:
        return False
    with _lock:
        address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
        if _process_id() is not None and not os.path.exists(address):
            _stop()  # somebody has removed its socket: nobody can reach it any more
        if _process_id() is None:
            forkserver.set_forkserver_preload([*PRELOAD, *also])
            _folder = TemporaryFolder(place)
            with _temporary_folder(_folder.path):
                forkserver.ensure_running()
        return True


def _place_of_socket() -> str | None:
    """A folder whose path leaves room for a socket's: ``TMPDIR`` may be deep down, as in a CI job."""
    for place in (tempfile.gettempdir(), "/tmp", "/dev/shm"):  # noqa: S108 - the folder made there has a random name
        if len(os.fsencode(place)) + _NAMES <= _LONGEST_ADDRESS and os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def cool_down() -> None:
    """Stop the server if it was started here and nobody uses it any more."""
    global _folder
    with _lock:
        if _folder is None or _process_id() is None or _users or multiprocessing.active_children():
            return
        _stop()


def _stop() -> None:
    global _folder
    process_id = _process_id()
    if process_id is None:
        return
    # It may be in the middle of its imports, and has nothing to finish.
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):  # its socket, swept away
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    _remove_folder()
    _folder = None


@contextlib.contextmanager
def _temporary_folder(path: str) -> Iterator[None]:
    """Let multiprocessing use a folder that is removed with the server, not one that stays until the end."""
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = settings.get("tempdir")
    settings["tempdir"] = path
    try:
        yield
    finally:
        settings["tempdir"] = before


@atexit.register
def _remove_folder() -> None:
    if _folder is not None and os.getpid() == _owner:
        _folder.remove()


@contextlib.contextmanager
def forking() -> Iterator[bool]:
    """Keep the server while something that was forked from it runs; whether there is one."""
    global _users
    available = warm_up()
    with _lock:
        _users += 1
    try:
        yield available
    finally:
        with _lock:
            _users -= 1
        cool_down()


def _process_id() -> int | None:
    process_id: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return process_id

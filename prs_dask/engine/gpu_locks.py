"""Who holds the GPUs of a node: a lock file for each slot, which the kernel opens again when the last holder is gone.

A worker process and all that it forks inherit the descriptor of its slot's file, and its reaper keeps it until all of
them are dead. So a slot is free when their end is certain, whatever has become of the supervisor that started them.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from prs_dask.attempts.gpus import Slot

__all__ = ["GpuLocks"]

TRY_SECONDS = 0.1
"""A lock that should be free may be looked at by another supervisor just now."""

_PREFIX, _SUFFIX = "gpu-", ".lock"


class GpuLocks:
    """See the module's docstring.

    Parameters
    ----------
    folder
        Of the node, for one step run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def busy(self) -> list[Slot]:
        """Slots that are held now, by whomever."""
        found = []
        for path in self._folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                gpu, _, share = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX).rpartition("-")
                found.append(Slot(unquote(gpu), int(share)))
            finally:
                os.close(descriptor)
        return found

    def take(self, slot: Slot) -> int | None:
        """A descriptor that holds the slot until it and its copies are closed; None: somebody else has it."""
        descriptor = _open(self._folder / f"{_PREFIX}{quote(slot.gpu, safe='')}-{slot.share}{_SUFFIX}")
        until = time.monotonic() + TRY_SECONDS
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            if time.monotonic() > until:
                os.close(descriptor)
                return None
            time.sleep(0.005)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

"""Environment variables of worker processes: what the Dask worker has, but for what Dask sets for itself alone.

A nanny sets ``MALLOC_TRIM_THRESHOLD_=65536`` for its worker, which lives long and holds others' results. In a process
that reads mini-batches it makes malloc give memory back to the kernel after each, which then clears it again for the
next: a fifth to a half of all time with pandas. Its other variables (one thread for each numeric library) suit both.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["inherited"]

_SET_BY_DASK = ("MALLOC_TRIM_THRESHOLD_", "65536")


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker process gets of the Dask worker's environment; another threshold is somebody's wish, and stays."""
    return dict(item for item in environment.items() if item != _SET_BY_DASK)

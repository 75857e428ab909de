"""Dask's scheduler and worker without their HTTP servers, which would listen though there is no dashboard."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, Worker

__all__ = ["SilentScheduler", "SilentWorker", "silent"]


class _Silent:
    def start_http_server(self, *arguments: Any, **settings: Any) -> None:
        """None."""


class SilentScheduler(_Silent, Scheduler):
    """A scheduler that listens for workers and clients only."""


class SilentWorker(_Silent, Worker):
    """A worker that listens for the scheduler and its peers only."""


def silent(worker_class: type[Worker]) -> type[Worker]:
    """The same class of workers, but one that listens for the scheduler and its peers only."""
    return type(worker_class.__name__, (_Silent, worker_class), {"__module__": worker_class.__module__})

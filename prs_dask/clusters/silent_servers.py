"""Dask's scheduler and worker without their HTTP servers, which would listen though there is no dashboard."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, Worker

__all__ = ["SilentScheduler", "SilentWorker"]


class SilentScheduler(Scheduler):
    """A scheduler that listens for workers and clients only."""

    def start_http_server(self, *arguments: Any, **settings: Any) -> None:
        """None."""


class SilentWorker(Worker):
    """A worker that listens for the scheduler and its peers only."""

    def start_http_server(self, *arguments: Any, **settings: Any) -> None:
        """None."""

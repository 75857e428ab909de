"""Waiting within the event loop in which a cluster's scheduler runs: it would never end.

A notebook's or a web server's code runs in an event loop, and with ``asynchronous=True`` Dask puts what it starts into
that same loop: a `LocalCluster` its scheduler, a Client its connection. Who blocks the loop stops them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prs_dask.errors import ClusterError

__all__ = ["refuse_to_block", "scheduler_loop"]


def refuse_to_block(call: str, compute_target: Any) -> None:
    """See that the calling thread may wait for a step run on this target.

    Parameters
    ----------
    call
        What would wait, such as ``step_run.cancel``.

    Raises
    ------
    ClusterError
        It is within the event loop in which the target's scheduler runs; the message says how to wait there.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if scheduler_loop(compute_target) is running:
        raise ClusterError(
            f"{call}() would block the event loop in which the cluster's scheduler runs, and wait for ever; "
            f"write: await asyncio.to_thread({call})"
        )


def scheduler_loop(compute_target: Any) -> asyncio.AbstractEventLoop | None:
    """The event loop of this process in which the scheduler of a target runs; None where it is elsewhere."""
    import distributed

    from prs_dask.clusters.targets import current_client

    target = current_client() if compute_target is None else compute_target
    if isinstance(target, distributed.Client):
        if target.scheduler is not None and str(target.scheduler.address).startswith("inproc://"):
            return _asyncio_loop(target)
        target = target.cluster
    scheduler = getattr(target, "scheduler", None)
    return _asyncio_loop(scheduler) if isinstance(scheduler, distributed.Scheduler) else None


def _asyncio_loop(owner: Any) -> asyncio.AbstractEventLoop | None:
    return getattr(owner.loop, "asyncio_loop", None)

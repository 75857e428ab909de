"""What a cluster is made of, in numbers, for the driver's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import distributed

from prs_dask.cancellation import Cancellation
from prs_dask.quantities import format_bytes, format_count

__all__ = ["ClusterOutline", "outline"]

ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ClusterOutline:
    """A cluster as it was at one moment.

    Parameters
    ----------
    scheduler
        Its address.
    hosts, workers, threads
        How many; hosts are told apart by their addresses.
    memory
        Bytes that all workers together may use; 0 where they have no limit.
    """

    scheduler: str
    hosts: int
    workers: int
    threads: int
    memory: int

    def __str__(self) -> str:
        counts = [(self.workers, "worker"), (self.hosts, "host"), (self.threads, "thread")]
        workers, hosts, threads = (f"{format_count(count)} {name}{'s' * (count != 1)}" for count, name in counts)
        memory = f"{format_bytes(self.memory)} of memory" if self.memory else "memory without a limit"
        return f"scheduler {self.scheduler}; {workers} on {hosts}, {threads}, {memory}"


def outline(client: distributed.Client, cancellation: Cancellation) -> ClusterOutline:
    """Ask a cluster's scheduler.

    Parameters
    ----------
    client
        Of the cluster; not from the thread of its event loop.
    cancellation
        Ends the wait for its answer.

    Raises
    ------
    OSError
        It does not answer in time.
    Canceled
        It is not to be waited for any longer.
    """
    scheduler: Any = client.scheduler
    told = client.sync(cancellation.awaited, scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)
    workers = list(told["workers"].values())
    return ClusterOutline(
        scheduler=str(told["address"]),
        hosts=len({worker.get("host") for worker in workers}),
        workers=len(workers),
        threads=sum(worker.get("nthreads", 0) for worker in workers),
        memory=sum(worker.get("memory_limit") or 0 for worker in workers),
    )

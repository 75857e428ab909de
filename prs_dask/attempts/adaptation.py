"""How many workers a step run could use, for clusters whose workers come and go with the work (``cluster.adapt``).

Dask asks how many workers would end what there is within some seconds (its *target duration*), and reckons with the
tasks that it knows. It knows permits only, of which there are no more than lanes; so the step run answers for itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from prs_dask.attempts.places import Worker

__all__ = ["UNKNOWN_SECONDS", "workers_wanted"]

UNKNOWN_SECONDS = 0.5
"""What a mini-batch takes before the first has ended (Dask's own default for tasks that it knows nothing of)."""


def workers_wanted(
    mini_batches: int, seconds: float | None, horizon: float, workers: Collection[Worker], enough: int | None
) -> int:
    """How many workers would end so many mini-batches in time; at least one where there is any.

    Parameters
    ----------
    mini_batches
        That have not ended, as far as is known.
    seconds
        What one takes, in the mean; None before that is known.
    horizon
        Seconds within which they should end.
    workers
        All there are. Those to come are taken to have as many lanes as these in the mean; where there are none, one
        is wanted first.
    enough
        More than so many cannot be used; None where that is not known.
    """
    if mini_batches <= 0:
        return 0
    used = [worker.lanes for worker in workers if worker.lanes]
    if not used:
        return 1
    work = mini_batches * (UNKNOWN_SECONDS if seconds is None else seconds)
    lanes = min(mini_batches, math.ceil(work / max(horizon, 1e-3)))
    wanted = max(1, math.ceil(lanes * len(used) / sum(used)))
    return wanted if enough is None else min(wanted, enough)

"""What the scheduler's share costs where there are many workers: the judge alone, without Dask."""

from __future__ import annotations

import time
from typing import Any

from prs_dask.attempts.grants import Grant
from prs_dask.attempts.init_rules import InitRules
from prs_dask.attempts.judge import Judge
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.places import Places
from prs_dask.attempts.records import AttemptRecord, pack

__all__ = ["many_workers"]

NODE_WORKERS = 16


def many_workers(scale: float) -> dict[str, Any]:
    """Microseconds of a report, a look for permits and a claim of one mini-batch: 16 workers against 1,600."""
    few, _ = _microseconds(NODE_WORKERS, int(20_000 * scale))
    many, first = _microseconds(100 * NODE_WORKERS, int(20_000 * scale))
    return {
        "microseconds_16_workers": round(few, 1),
        "microseconds_1600_workers": round(many, 1),
        "times": round(many / few, 2),
        "first_permits_1600_workers_seconds": round(first, 3),
    }


def _microseconds(workers: int, rounds: int) -> tuple[float, float]:
    now = 0.0
    judge = Judge(RunLimits(), Places(), InitRules(1, 1, now), now)
    addresses = [f"tcp://10.0.0.{number // NODE_WORKERS}:{number}" for number in range(workers)]
    for number, address in enumerate(addresses):
        judge.places.join(address, number // NODE_WORKERS, 1, now)
        judge.process_ready((address, 0), f"{number}/0", now)
    judge.mean.add(1, 10.0, 10)  # slow ones: a chunk is one
    judge.supply((number, 1, b"x" * 60) for number in range(rounds + 3 * workers))
    begun = time.perf_counter()
    permits = {permit.worker: permit.number for permit in reversed(judge.permits(now))}
    first = time.perf_counter() - begun
    grants = {address: _claim(judge, permits, address, now) for address in addresses}
    begun = time.perf_counter()
    for number in range(rounds):
        address = addresses[number % workers]
        [done] = grants[address].open
        record = AttemptRecord(done, 1, 0, 1, 1, 1, 10, now, 10.0, 0.0, 10.0, 0.0)
        judge.report(grants[address].token, pack([record]), b"x" * 10, {}, {}, {}, (), now)
        judge.permits(now)
        grants[address] = _claim(judge, permits, address, now)
    return (time.perf_counter() - begun) / rounds * 1e6, first


def _claim(judge: Judge, permits: dict[str, int], address: str, now: float) -> Grant:
    grant = judge.claim(permits[address], (address, 0), f"{address}/0", now).grant
    assert grant is not None
    return grant

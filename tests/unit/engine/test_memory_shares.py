"""What of its worker's memory limit a process may use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.engine.supervisor import Supervisor

GIB = 1 << 30


class FakeLane:
    """Notes its limits."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def limit_memory(self, limit: int) -> None:
        self.limits.append(limit)


def supervisor(worker_limit: int | None, told: int | None = None) -> tuple[Any, FakeLane]:
    loop = SimpleNamespace(asyncio_loop=None)
    memory = SimpleNamespace(memory_limit=worker_limit)
    made: Any = Supervisor(SimpleNamespace(loop=loop, memory_manager=memory), "test")  # type: ignore[arg-type]
    made.settings = SimpleNamespace(memory_limit=told)
    lane = FakeLane()
    made._lanes.append(lane)
    return made, lane


@pytest.mark.parametrize(
    ("worker_limit", "told", "lanes", "share"),
    [
        (8 * GIB, None, 4, 2 * GIB),
        (8 * GIB, None, 1, 8 * GIB),
        (8 * GIB, None, 0, 8 * GIB),  # it has no lane yet
        (8 * GIB, 3 * GIB, 4, 3 * GIB),
        (8 * GIB, 0, 4, 0),
        (None, None, 4, 0),
        (0, None, 4, 0),
    ],
)
def test_a_process_may_use_what_it_was_told_or_its_lanes_share(worker_limit, told, lanes, share):
    made, _ = supervisor(worker_limit, told)
    made.share_memory(lanes)
    assert made.memory_limit == share


def test_a_share_that_grows_is_for_processes_that_run_too_and_one_that_shrinks_is_not():
    made, lane = supervisor(8 * GIB)
    for lanes in (4, 2, 2, 8, 1):
        made.share_memory(lanes)
    assert made.memory_limit == 8 * GIB
    assert lane.limits == [2 * GIB, 4 * GIB, 8 * GIB]

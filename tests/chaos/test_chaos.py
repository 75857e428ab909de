"""A few seeds with every kind of fault and of bad item among them, played and judged.

More of them: ``python -m tests.chaos --seed 1 --runs 200 --jobs 2``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import play_seeds
from tests.chaos.disk import may_mount
from tests.chaos.plans import FAULTS, OF_DISKS, draw
from tests.chaos.workload import HARMS

SEEDS = {
    799: "the scheduler is ended twice, without nannies",
    3668: "all workers are gone for 20 s; bisecting blocks of text with what hangs in them",
    3077: "the driver is ended twice; bisecting files",
    5943: "nannies and workers go and come; bisecting",
    5084: "a disk that is full; a nanny is killed; a segfault and what ignores signals, bisected",
    10: "a worker is retired; memory that grows, what hangs and what stops itself",
    1677: "nanny, scheduler and driver are stopped for a while",
    9111: "the scheduler is stopped for a while, early",
    2085: "a disk that cannot be written at the start; 100 MB of exception, grandchildren",
    16314: "workers without nannies are stopped and killed, early; what dies in many ways",
    678: "worker processes and a worker of the local target are ended",
    100301: "a worker process is stopped near the end, and what it ran is started a second time",
}
"""Chosen among those whose faults all come before the end, so that each kind is there and the time is short; the
long ones first. When `plans` draws otherwise than before, others have to be chosen."""


def test_the_chosen_seeds_hold_every_kind_of_fault_and_of_bad_item():
    plans = [draw(seed) for seed in SEEDS]
    assert {fault.name for plan in plans for fault in plan.faults} == FAULTS.keys()
    assert {poison.harm for plan in plans for poison in plan.workload.poisons} == HARMS.keys()
    assert {plan.cluster for plan in plans} == {"local", "nannies", "bare"}
    assert {harm for plan in plans for harm in plan.inits} == {"raise", "hang"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_rule_is_broken_and_every_fault_is_done(tmp_path: Path) -> None:
    results = list(play_seeds(list(SEEDS), tmp_path, jobs=2))
    for result in results:
        print(result)
    assert not {result.plan.seed: result.violations for result in results if result.violations}
    done = {name for result in results for name in result.faults}
    assert done == (FAULTS.keys() if may_mount() else FAULTS.keys() - OF_DISKS)

"""``python -m tests.chaos --seed N --runs M``: play seeds, a line each; exit code 1 where a rule was violated.

A run that violates a rule keeps its folder, and the command that plays it again is printed.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.chaos.disk import may_mount
from tests.chaos.evidence import collect
from tests.chaos.jobs import play
from tests.chaos.oracle import judge, runs_again
from tests.chaos.plans import Plan, draw


@dataclass(slots=True)
class Result:
    """What became of one seed."""

    plan: Plan
    folder: Path
    seconds: float
    violations: list[str]
    state: str = "?"
    faults: list[str] = field(default_factory=list)
    resumes: int = 0
    again: int = 0

    def __str__(self) -> str:
        plan = self.plan
        verdict = "ok" if not self.violations else "VIOLATION"
        return (
            f"seed {plan.seed:<6} {verdict:<9} {self.seconds:5.1f} s  {plan.cluster:<8}{plan.workload.kind:<8}"
            f"{len(plan.workload.mini_batches()):5} mini-batches  {self.state:<10}"
            f"{self.resumes} resumed, {self.again} again  {', '.join(self.faults) or 'no fault'}"
        )


def play_seed(seed: int, folder: Path, cluster: str | None = None) -> Result:
    """Play and judge one seed in this folder."""
    plan = draw(seed, mount=may_mount(), cluster=cluster)
    began = time.monotonic()
    try:
        play(plan, folder)
        evidence = collect(folder)
        violations = list(judge(evidence))
    except Exception:
        return Result(plan, folder, time.monotonic() - began, [f"the harness itself failed: {traceback.format_exc()}"])
    last = evidence.sessions[-1].said if evidence.sessions else None
    return Result(
        plan,
        folder,
        time.monotonic() - began,
        violations,
        last["state"] if last else "killed",
        [fault["name"] for fault in evidence.faults],
        sum(entry["kind"] == "resumed" for entry in evidence.journal),
        runs_again(evidence),
    )


def play_seeds(seeds: Sequence[int], root: Path, jobs: int, cluster: str | None = None) -> Iterator[Result]:
    """Play them in their order, so many side by side; what is being played when this is left is played to its end."""

    def play_one(seed: int) -> Result:
        return play_seed(seed, root / f"seed-{seed}", cluster)

    if jobs == 1:
        yield from map(play_one, seeds)
        return
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(play_one, seeds)
    finally:
        pool.shutdown(cancel_futures=True)


def _tell(result: Result, again: str, keep: bool) -> None:
    """Its line, and all that was violated; a folder that nobody has to look at goes."""
    print(result, flush=True)
    for violation in result.violations:
        print(f"    {violation}", flush=True)
    if result.violations:
        print(f"    again: python -m tests.chaos --seed {result.plan.seed}{again} --keep", flush=True)
        print(f"    files: {result.folder}", flush=True)
    elif not keep:
        shutil.rmtree(result.folder)


@click.command()
@click.option("--seed", default=0, show_default=True, help="The first seed.")
@click.option("--runs", default=1, show_default=True, help="How many seeds, one after the other.")
@click.option("--jobs", default=1, show_default=True, help="How many side by side.")
@click.option("--cluster", type=click.Choice(["local", "nannies", "bare"]), help="This form of cluster instead.")
@click.option("--keep", is_flag=True, help="Keep every folder.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where. Default: a temporary folder.")
def main(seed: int, runs: int, jobs: int, cluster: str | None, keep: bool, folder: Path | None) -> None:
    """Play seeds, a line each, and sum up."""
    root = folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    again = f" --cluster {cluster}" if cluster else ""
    began = time.monotonic()

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what has been started is ended, then as with Ctrl-C
    done: list[Result] = []
    with contextlib.suppress(KeyboardInterrupt):
        for result in play_seeds(range(seed, seed + runs), root, jobs, cluster):
            done.append(result)
            _tell(result, again, keep)
    bad = [result for result in done if result.violations]
    faults = Counter(name for result in done for name in result.faults)
    print(
        f"{len(done)} runs, {sum(faults.values())} faults, {sum(result.resumes for result in done)} resumes,"
        f" {sum(result.again for result in done)} mini-batches run again, {len(bad)} runs with violations,"
        f" {time.monotonic() - began:.0f} s"
    )
    print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.items())))
    if not bad and not keep:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""What the journal tells of every item, and what the faults of a plan excuse: what several rules start from. Pure."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass

from tests.chaos.evidence import Evidence, Session
from tests.chaos.plans import FAULTS
from tests.chaos.workload import HARMS, Poison

__all__ = [
    "Told",
    "excuses",
    "faults_of",
    "half_done",
    "is_hopeless",
    "killed_drivers",
    "mini_batch_of",
    "session_of",
    "state_of",
    "told_of",
    "uncounted",
    "with_gaps",
    "withheld_items",
]


def _ids(ranges: str) -> list[int]:
    found: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """What the journal tells of every item: how often as finished, how often as failed; and of unknown ones."""

    finished: Counter[int]
    failed: Counter[int]
    unknown: tuple[int, ...]
    parts: frozenset[int]

    def standing(self, evidence: Evidence) -> tuple[set[int], set[int]]:
        """Mini-batches that have succeeded, and those that have failed."""
        succeeded, failed = set(), set()
        for number, items in enumerate(evidence.plan.workload.mini_batches()):
            if any(self.failed[item] for item in items):
                failed.add(number)
            elif all(self.finished[item] for item in items):
                succeeded.add(number)
        return succeeded, failed


def told_of(evidence: Evidence) -> Told:
    """A resume opens the failed ones again."""
    sizes = evidence.plan.workload.mini_batches()
    finished: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    unknown: list[int] = []
    starts: set[int] = set()  # first items of parts

    def add(told: Counter[int], number: int, start: int = 0, stop: int | None = None) -> None:
        if 0 <= number < len(sizes):
            told.update(sizes[number][start:stop])
        else:
            unknown.append(number)

    for entry in evidence.journal:
        if entry["kind"] == "commit":
            for number in _ids(entry["finished"]):
                add(finished, number)
            for number, start, stop, _ in entry.get("parts", ()):
                add(finished, number, start, stop)
                starts.add(sizes[number][start])
            for failure in entry.get("failed", ()):
                add(failed, failure["id"], *failure.get("part", ())[:2])
        elif entry["kind"] == "resumed" and entry["retry_failed"]:
            failed.clear()
    return Told(finished, failed, tuple(unknown), frozenset(starts))


def state_of(evidence: Evidence) -> str | None:
    """How the last driver said that it ended."""
    said = evidence.sessions[-1].said if evidence.sessions else None
    return said["state"] if said else None


def withheld_items(evidence: Evidence) -> set[int]:
    """Items whose mini-batch returns fewer rows than it should: the last ones of it."""
    sizes = evidence.plan.workload.mini_batches()
    return {
        sizes[number][-1]
        for number, poison in evidence.plan.workload.poison_by_mini_batch().items()
        if HARMS[poison.harm].missing
    }


def mini_batch_of(evidence: Evidence, item: int) -> int:
    return bisect.bisect_right([items[0] for items in evidence.plan.workload.mini_batches()], item) - 1


def is_hopeless(evidence: Evidence, poison: Poison) -> bool:
    flaky = poison.flaky and evidence.plan.settings.run_max_try > 1
    return bool(HARMS[poison.harm].category) and not flaky


def excuses(evidence: Evidence) -> Counter[str]:
    """Attempts of innocent mini-batches that the faults may have cost, by category."""
    return Counter(category for fault in evidence.faults for category in FAULTS[fault["name"]].charges)


def session_of(evidence: Evidence, when: float) -> int:
    """The driver that ran at this time, in seconds since the epoch."""
    return max((one.number for one in evidence.sessions if one.wall <= when), default=0)


def uncounted(evidence: Evidence) -> Counter[int]:
    """By mini-batch: items that nobody has seen, since its last attempt died while a table was read: it counts as one.

    The traces tell: ``run()`` was called less often than there were attempts.
    """
    found: Counter[int] = Counter()
    if evidence.plan.workload.kind == "files":
        return found
    calls = Counter(run.first for trace in evidence.traces for run in trace.runs)
    sizes = evidence.plan.workload.mini_batches()
    for entry in evidence.journal:
        if entry["kind"] == "resumed" and entry["retry_failed"]:
            found.clear()
        for failure in entry.get("failed", ()):
            whole = sizes[failure["id"]]
            if failure["items"] == 1 and "part" not in failure and calls[whole.start] < failure["attempts"]:
                found[failure["id"]] = len(whole) - 1
    return found


def half_done(evidence: Evidence) -> set[int]:
    """Bisected mini-batches of which items are left to be run."""
    told = told_of(evidence)
    return {
        number
        for number, items in enumerate(evidence.plan.workload.mini_batches())
        if any(not told.finished[item] and not told.failed[item] for item in items)
    }


def killed_drivers(evidence: Evidence) -> list[Session]:
    return [session for session in evidence.sessions if session.said is None]


def with_gaps(evidence: Evidence) -> set[int]:
    """Drivers whose logs may lack something: killed between a commit and its logs, or without room for logs."""
    killed = {session.number for session in killed_drivers(evidence)}
    return killed | {fault["driver"] for fault in evidence.faults if fault["name"] == "full_disk"}


def faults_of(evidence: Evidence, session: Session) -> list[str]:
    return [fault["name"] for fault in evidence.faults if fault["driver"] == session.number]

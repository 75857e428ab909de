"""Rules of the oracle: what processes did, how long they lived, and what they have left. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.accounts import excuses, killed_drivers, state_of
from tests.chaos.evidence import Evidence, Run, Session, Trace
from tests.chaos.plans import FAULTS
from tests.chaos.workload import HARMS

__all__ = [
    "finished_is_not_run_again",
    "init_before_run",
    "init_limits",
    "no_secret",
    "nothing_is_left",
    "time_limits",
    "traces_agree",
]

LIMIT_SECONDS = 1.0
"""A time limit is kept within this, and by how late the harness's own watch was around then."""

EARLY_SECONDS = 0.05

AROUND_SECONDS = 2.0


def init_before_run(evidence: Evidence) -> Iterator[str]:
    """Every process imports the script, calls init() once, and only then run(); nothing comes after shutdown()."""
    for trace in evidence.traces:
        order = "".join(_LETTERS[one] for one in trace.events)
        head, rest = order[:3], order[3:]
        if not "miy".startswith(head):
            yield f"process {trace.pid} began with {trace.events[:4]}"
        elif "s" in rest[:-1] or any(one in rest for one in "miy"):
            yield f"process {trace.pid}: {trace.events[3:][-6:]}"


_LETTERS = {"import": "m", "init": "i", "ready": "y", "run": "r", "done": "d", "raised": "d", "shutdown": "s"}


def traces_agree(evidence: Evidence) -> Iterator[str]:
    """What user code saw is what the table tells: no call of run() more, and none less, than attempts.

    But for those that a fault ended just before they could tell that they had begun.
    """
    if any(fault["name"] not in _HARMLESS for fault in evidence.faults) or killed_drivers(evidence):
        return
    if state_of(evidence) != "Completed":
        return  # what ran at the abort is not in the table
    seen = Counter((run.first, run.items) for trace in evidence.traces for run in trace.runs)
    told: Counter[tuple[int, int]] = Counter()
    overtaken: Counter[tuple[int, int]] = Counter()
    sizes = evidence.plan.workload.mini_batches()
    for one in evidence.attempts:
        if one.overtaken and 0 <= one.mini_batch < len(sizes):
            whole = sizes[one.mini_batch]
            overtaken[whole[0], len(whole)] += 1  # nobody knows whether it had called run()
        elif (one.ran or not one.category) and 0 <= one.mini_batch < len(sizes):
            items = sizes[one.mini_batch][slice(*one.part)] if one.part else sizes[one.mini_batch]
            told[items[0], len(items)] += 1
    if seen - told - overtaken or (told - seen).total() > excuses(evidence).total():
        wrong = {first: (seen[first], told[first]) for first in seen | told if seen[first] != told[first]}
        yield f"calls of run() by first item and number of items (seen, told): {dict(list(wrong.items())[:5])}"


_HARMLESS = ("kill_child", "term_child", "stop_child", "join_worker", "read_only", "stop_nanny")
"""Faults after which every call of run() is one attempt still."""


COMMIT_SECONDS = 1.0
"""So long after it has returned a mini-batch may be on its way to the journal: two waits of 0.2 s, and to spare."""

_HOLD_NOTHING_UP = ("kill_child", "term_child", "stop_child", "stop_nanny", "join_worker", "read_only")


def finished_is_not_run_again(evidence: Evidence) -> Iterator[str]:
    """What had returned a while before its driver was ended is run by no later one.

    Not so what returned about the time of a fault: it may have been held up, or lost with its worker. Nor what the
    processes of an ended driver still ran on a cluster that goes on: each tells of which part of the step run it is.
    """
    bad = {poison.item for poison in evidence.plan.workload.poisons}
    for trace in evidence.traces:
        if trace.events and not trace.part:
            yield f"nobody knows of which part of the step run process {trace.pid} was"
    # The last of a process may not have been told: that may have died of the very next thing.
    good = [(trace.part, run) for trace in evidence.traces for run in trace.runs[:-1] if run.good]
    good = [(part, run) for part, run in good if bad.isdisjoint(range(run.first, run.first + run.items))]
    for session, following in pairwise(session for session in evidence.sessions if session.part):
        traces = [trace for trace in evidence.traces if trace.part >= following.part]
        later = {(run.first, run.items) for trace in traces for run in trace.runs}
        before = [run for part, run in good if part == session.part and (run.first, run.items) in later]
        wrong = [run for run in before if _was_committed(evidence, session, run)]
        if wrong:
            ages = sorted((session.ended - (run.ended or 0.0), run.first) for run in wrong)
            yield (
                f"{len(wrong)} mini-batches that had returned were run again after driver {session.number}, such as"
                f" that of item {ages[-1][1]}, {ages[-1][0]:.1f} s before its end"
            )


def _was_committed(evidence: Evidence, session: Session, run: Run) -> bool:
    """Had it returned so early, and so far from any fault that holds results up, that it has to be in the journal?"""
    if run.ended is None or run.ended >= session.ended:
        return False
    faults = [fault for fault in evidence.faults if fault["driver"] == session.number]
    end = min((fault["start"] for fault in faults if FAULTS[fault["name"]].ends), default=session.ended)
    spans = [(fault["start"], fault["time"]) for fault in faults if fault["name"] not in _HOLD_NOTHING_UP]
    around = COMMIT_SECONDS + _lateness(evidence, run.ended, end)
    return run.ended < end - around and not any(a - around <= run.ended <= b + around for a, b in spans)


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """No process, temporary folder, port, shared memory; no descriptor and no thread of the driver."""
    for when, left in evidence.left.items():
        for one in left:
            yield f"{when}: {one}"
    for session in evidence.sessions:
        for one in (session.said or {}).get("left", ()):
            yield f"driver {session.number}: {one}"


def time_limits(evidence: Evidence) -> Iterator[str]:
    """No call of run() lives longer than run_invocation_timeout and a second; none is ended before it for that."""
    limit = evidence.plan.settings.run_seconds
    for trace in evidence.traces:
        for place, run in enumerate(trace.runs):
            last = place == len(trace.runs) - 1
            ended = run.ended if run.ended is not None else trace.death if last else None
            if ended is None or _was_stopped(evidence, run.began, ended):
                continue
            took = ended - run.began
            allowed = limit + LIMIT_SECONDS + _lateness(evidence, run.began, ended)
            if took > allowed:
                yield f"run() of item {run.first} took {took:.2f} s, limit {limit:g} s, allowed {allowed:.2f} s"
            early = run.ended is None and took < limit - EARLY_SECONDS and _should_hang(evidence, run)
            if early and not _was_hit(evidence, trace, run):
                yield f"run() of item {run.first} was ended after {took:.2f} s, before its limit of {limit:g} s"


def init_limits(evidence: Evidence) -> Iterator[str]:
    """A process that does not come through init() is ended within a second of the limit of that."""
    limit = evidence.plan.init_seconds
    for trace in evidence.traces:
        if trace.events[-1:] != ("init",) or trace.death is None or _was_stopped(evidence, trace.began, trace.death):
            continue
        took = trace.death - trace.began
        allowed = limit + LIMIT_SECONDS + _lateness(evidence, trace.began, trace.death)
        if took > allowed:
            yield f"process {trace.pid} was in init() for {took:.2f} s, limit {limit:g} s, allowed {allowed:.2f} s"


def _should_hang(evidence: Evidence, run: Run) -> bool:
    for poison in evidence.plan.workload.poisons:
        if run.first <= poison.item < run.first + run.items:
            return HARMS[poison.harm].hangs and (run.attempt == 1 or not poison.flaky)
    return False


def _was_stopped(evidence: Evidence, began: float, ended: float) -> bool:
    """Who keeps the limit was stopped itself meanwhile: a worker."""
    return any(
        fault["name"] == "stop_worker" and fault["start"] < ended and fault["time"] > began for fault in evidence.faults
    )


def _was_hit(evidence: Evidence, trace: Trace, run: Run) -> bool:
    """Did something else end it: a fault, or the end of the step run?"""
    died = trace.death or 0.0
    if any(fault["start"] - 0.5 <= died and run.began <= fault["time"] + 60 for fault in evidence.faults):
        return True
    return state_of(evidence) != "Completed"


def _lateness(evidence: Evidence, began: float, ended: float) -> float:
    """How loaded the machine was: the latest that the harness's own watch woke around then."""
    return max(
        (late for when, late in evidence.late if began - AROUND_SECONDS <= when <= ended + AROUND_SECONDS), default=0.0
    )


def no_secret(evidence: Evidence) -> Iterator[str]:
    """No file holds a secret."""
    for name in evidence.tells_canary:
        yield f"{name} holds one"

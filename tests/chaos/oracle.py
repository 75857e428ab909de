"""The rules that hold after every run, whatever went wrong: pure over the evidence.

A rule is a function that yields a sentence for everything that breaks it. It knows the input (the
plan says which items there are, which are bad and how) and takes nothing of the step run's word for
it: what one file says has to agree with what the others say and with the input.

What faults may cost is bounded, too: an innocent mini-batch may lose as many attempts as there were
faults that cost one, and only of the category that such a fault leaves.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.evidence import Attempt, Evidence, Run, Session, Trace
from tests.chaos.plans import FAULTS
from tests.chaos.workload import HARMS, Harm, Poison, row_of

__all__ = ["RULES", "Rule", "judge", "runs_again"]

Rule = Callable[[Evidence], Iterator[str]]

LIMIT_SECONDS = 1.0
"""A time limit is kept within this, and by how late the harness's own watch was around then."""

EARLY_SECONDS = 0.05
AROUND_SECONDS = 2.0


def judge(evidence: Evidence) -> Iterator[str]:
    """Everything that is wrong."""
    for rule in RULES:
        for sentence in rule(evidence):
            yield f"{rule.__name__}: {sentence}"


# -------------------------------------------------------------------- what the journal says


def _ids(ranges: str) -> list[int]:
    found: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass(frozen=True, slots=True)
class _Told:
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


def _told(evidence: Evidence) -> _Told:
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
    return _Told(finished, failed, tuple(unknown), frozenset(starts))


def _state(evidence: Evidence) -> str | None:
    """How the last driver said that it ended."""
    said = evidence.sessions[-1].said if evidence.sessions else None
    return said["state"] if said else None


def _withheld(evidence: Evidence) -> set[int]:
    """Items whose mini-batch returns fewer rows than it should: the last ones of it."""
    sizes = evidence.plan.workload.mini_batches()
    return {
        sizes[number][-1]
        for number, poison in evidence.plan.workload.poison_by_mini_batch().items()
        if HARMS[poison.harm].missing
    }


# -------------------------------------------------------------------- the rules


def every_item_once(evidence: Evidence) -> Iterator[str]:
    """Each item is finished, or failed, or was not run because the step run ended before."""
    told = _told(evidence)
    for number in told.unknown:
        yield f"mini-batch {number} of the journal does not exist"
    for item in sorted((told.finished | told.failed).keys()):
        if told.finished[item] + told.failed[item] > 1:
            yield f"item {item} is told as finished {told.finished[item]}, as failed {told.failed[item]} times"
    still = set(range(evidence.plan.workload.items)) - told.finished.keys() - told.failed.keys()
    if still and _state(evidence) == "Completed":
        yield f"Completed, but {len(still)} items have not ended, such as {min(still)}"


def rows(evidence: Evidence) -> Iterator[str]:
    """The rows of all that is finished stand there once, whole, together and in order; and no other rows."""
    if evidence.plan.settings.action != "append_row":
        if evidence.output is not None:
            yield "summary_only has made an output file"
        return
    text = (evidence.output or b"").decode(errors="surrogateescape")
    if text and not text.endswith("\n"):
        yield f"the output ends in the middle of a row: {text[-40:]!r}"
    lines = text.splitlines()
    told = _told(evidence)
    expected = [item for item in told.finished if item not in _withheld(evidence)]
    yield from _wrong_rows(evidence, lines, {row_of(item): item for item in expected})
    starts = {items[0] for items in evidence.plan.workload.mini_batches()} | told.parts
    items_by_row = {row_of(item): item for item in range(evidence.plan.workload.items)}
    before = -1
    for line in lines:
        item = items_by_row.get(line)
        if item is None:
            return
        if item != before + 1 and item not in starts:
            yield f"the row of item {item} stands behind that of {before}"
            return
        before = item


def _wrong_rows(evidence: Evidence, lines: Sequence[str], expected: Mapping[str, object]) -> Iterator[str]:
    known = {row_of(item) for item in range(evidence.plan.workload.items)}
    counted = Counter(lines)
    for what, wrong in {
        "rows are torn or unknown": [line for line in counted if line not in known],
        "rows stand there more than once": [line for line, count in counted.items() if count > 1],
        "rows of items that have not finished are there": [
            line for line in counted if line in known and line not in expected
        ],
        "rows are missing": [line for line in expected if line not in counted],
    }.items():
        if wrong:
            yield f"{len(wrong)} {what}, such as {wrong[0]!r}"


def output_file(evidence: Evidence) -> Iterator[str]:
    """The output has its name when the step run has Completed, and only then; it is as long as the journal says."""
    if evidence.plan.settings.action != "append_row":
        return
    completed = _state(evidence) == "Completed"
    if completed and (evidence.partial or evidence.output is None):
        yield "Completed, but the output has not got its name"
    if _state(evidence) in ("Failed", "Canceled") and evidence.output is not None and not evidence.partial:
        yield f"{_state(evidence)}, but the output has got its name"
    commits = [entry for entry in evidence.journal if entry["kind"] == "commit"]
    length = commits[-1]["output"] if commits else 0
    if _state(evidence) is not None and len(evidence.output or b"") != length:
        yield f"the output has {len(evidence.output or b'')} bytes, the journal says {length}"


def input_order(evidence: Evidence) -> Iterator[str]:
    """With append_row_order="input" the output is, byte for byte, what an undisturbed run writes."""
    settings = evidence.plan.settings
    if settings.order != "input" or settings.action != "append_row" or _state(evidence) != "Completed":
        return
    right = sorted(_told(evidence).finished.keys() - _withheld(evidence))
    if evidence.output != "".join(row_of(item) + "\n" for item in right).encode():
        yield "the output is not what an undisturbed run writes"


def journal_is_whole(evidence: Evidence) -> Iterator[str]:
    """No line is damaged, and the last one says how it ended."""
    if evidence.torn:
        yield f"{evidence.torn} lines are damaged"
    state = _state(evidence)
    if state in ("Completed", "Failed"):
        last = evidence.journal[-1] if evidence.journal else {}
        if last.get("kind") != "end" or last.get("state") != state:
            yield f"the step run ended as {state}, the journal's last line is {dict(last)!r:.120}"


def bad_items(evidence: Evidence) -> Iterator[str]:
    """What is bad for good never finishes; what fails is bad, or was hit by a fault that can do that."""
    told = _told(evidence)
    for poison in evidence.plan.workload.poisons:
        if _is_hopeless(evidence, poison) and told.finished[poison.item]:
            yield f"item {poison.item} of kind {poison.harm!r} has finished"
    bad = set()
    for number, poison in evidence.plan.workload.poison_by_mini_batch().items():
        if HARMS[poison.harm].category:
            whole = evidence.plan.workload.mini_batches()[number]
            bad |= {poison.item} if evidence.plan.settings.bisect else set(whole)
    for item in told.failed.keys() - bad:
        number = _mini_batch_of(evidence, item)
        attempts = [one for one in evidence.attempts if one.mini_batch == number]
        if not any(one.category in _excuses(evidence) for one in attempts):
            yield f"item {item} has failed, and nothing is bad about it: {attempts}"
            return


def _mini_batch_of(evidence: Evidence, item: int) -> int:
    return bisect.bisect_right([items[0] for items in evidence.plan.workload.mini_batches()], item) - 1


def _is_hopeless(evidence: Evidence, poison: Poison) -> bool:
    flaky = poison.flaky and evidence.plan.settings.run_max_try > 1
    return bool(HARMS[poison.harm].category) and not flaky


def _excuses(evidence: Evidence) -> Counter[str]:
    """Attempts of innocent mini-batches that the faults may have cost, by category."""
    return Counter(category for fault in evidence.faults for category in FAULTS[fault["name"]].charges)


def _session_of(evidence: Evidence, when: float) -> int:
    """The driver that ran at this time, in seconds since the epoch."""
    return max((one.number for one in evidence.sessions if one.wall <= when), default=0)


def budgets(evidence: Evidence) -> Iterator[str]:
    """No more attempts than allowed, none too few before a failure, and each for a cause that it can have had."""
    poisons = evidence.plan.workload.poison_by_mini_batch()
    sizes = evidence.plan.workload.mini_batches()
    grouped: dict[tuple[int, int, tuple[int, int]], list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        if not 0 <= attempt.mini_batch < len(sizes):
            yield f"the table tells of mini-batch {attempt.mini_batch}, which does not exist"
            continue
        part = attempt.part or (0, len(sizes[attempt.mini_batch]))
        grouped[_session_of(evidence, attempt.started), attempt.mini_batch, part].append(attempt)
    innocent: Counter[str] = Counter()
    for (session, number, part), attempts in sorted(grouped.items()):
        where = f"mini-batch {number}, items {part[0]} to {part[1]}, under driver {session}"
        whole = session not in _with_gaps(evidence)
        for sentence in _budget(evidence, attempts, part, whole):
            yield f"{where}: {sentence}"
        poison = poisons.get(number)
        inside = poison is not None and poison.item in sizes[number][slice(*part)]
        harm = HARMS[poison.harm] if poison is not None and inside else Harm()
        innocent.update(one.category for one in attempts if one.category not in ("", harm.category, harm.or_else))
    for category, count in innocent.items():
        allowed = _excuses(evidence)[category]
        if count > allowed:
            yield f"{count} attempts of others ended as {category!r}, the faults account for {allowed}"


def _budget(evidence: Evidence, attempts: Sequence[Attempt], part: tuple[int, int], whole: bool) -> Iterator[str]:
    """Of one mini-batch or part of one: a part of several items has one try, a single item as many as a whole.

    ``whole``: no row of the table was lost.
    """
    settings = evidence.plan.settings
    is_part, items = attempts[0].part is not None, part[1] - part[0]
    tries = 1 if is_part and items > 1 else settings.run_max_try
    lost = [one for one in attempts if one.category == "worker lost"]
    own = [one for one in attempts if one.category != "worker lost"]
    if whole and [one.number for one in own] != list(range(1, len(own) + 1)):
        yield f"its attempts are numbered {[one.number for one in own]}"
    if len(own) > tries or len(lost) > settings.run_max_try:
        yield f"{len(own)} attempts and {len(lost)} losses, it has {tries} and {settings.run_max_try}"
    too_early = len(own) != tries and len(lost) != settings.run_max_try
    if whole and too_early and attempts[-1].status == "Failed":
        yield f"failed after {len(own)} attempts and {len(lost)} losses, it has {tries} and {settings.run_max_try}"
    if attempts[-1].status == "Failed" and settings.bisect and items > 1 and not lost:
        yield "failed without being halved"
    if any(one.final for one in attempts[:-1]):
        yield f"goes on after its end: {[one.status for one in attempts]}"


def counts(evidence: Evidence) -> Iterator[str]:
    """Summary, result file, journal, table and output say the same numbers."""
    state = _state(evidence)
    if state not in ("Completed", "Failed", "Canceled"):
        return
    said = evidence.sessions[-1].said or {}
    told = _told(evidence)
    succeeded, failed = told.standing(evidence)
    withheld = told.finished.keys() & _withheld(evidence)
    expected = {
        "succeeded_mini_batches": len(succeeded),
        "failed_mini_batches": len(failed),
        "items": len(told.finished) + len(told.failed) - _uncounted(evidence).total(),
        "succeeded_items": len(told.finished) - len(withheld),
        "failed_items": len(told.failed) + len(withheld) - _uncounted(evidence).total(),
        "rows": len((evidence.output or b"").splitlines()),
    }
    if state == "Completed":
        expected["mini_batches"] = len(evidence.plan.workload.mini_batches())
    places = {"job_result.txt": evidence.counts, "summary()": said.get("summary", {})}
    if "summary" not in said:  # the command line prints what job_result.txt holds
        del places["summary()"]
    if "full_disk" in _faults_of(evidence, evidence.sessions[-1]):
        del places["job_result.txt"]
    for place, found in places.items():
        wrong = {name: (found.get(name), value) for name, value in expected.items() if found.get(name) != value}
        if wrong:
            yield f"{place} says otherwise than journal and output (said, right): {wrong}"
    attempts = (evidence.counts.get("attempts"), said.get("summary", {}).get("attempts"))
    if len(places) == 2 and attempts[0] != attempts[1]:
        yield f"attempts: {attempts[0]} in job_result.txt, {attempts[1]} in summary()"
    yield from _table_counts(evidence, expected)


def _uncounted(evidence: Evidence) -> Counter[int]:
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


def _table_counts(evidence: Evidence, expected: Mapping[str, int]) -> Iterator[str]:
    """Where no row of the table was lost. What a resume has opened again has another final row: the last one counts."""
    if _with_gaps(evidence):
        return
    last = {(one.mini_batch, one.part): one for one in evidence.attempts if one.final}
    ended = {number for number, _ in last}
    failed = {number for (number, _), one in last.items() if one.status == "Failed"}
    for name, found in {
        "succeeded_items": sum(one.succeeded for one in last.values()),
        "failed_items": sum(one.failed for one in last.values()),
        "failed_mini_batches": len(failed),
        "succeeded_mini_batches": len(ended - failed - _half_done(evidence)),
        "attempts": len(evidence.attempts),
    }.items():
        right = evidence.counts.get("attempts") if name == "attempts" else expected[name]
        if found != right:
            yield f"the table tells {found} {name}, it should be {right}"


def _half_done(evidence: Evidence) -> set[int]:
    """Bisected mini-batches of which items are left to be run."""
    told = _told(evidence)
    return {
        number
        for number, items in enumerate(evidence.plan.workload.mini_batches())
        if any(not told.finished[item] and not told.failed[item] for item in items)
    }


def _killed(evidence: Evidence) -> list[Session]:
    return [session for session in evidence.sessions if session.said is None]


def _with_gaps(evidence: Evidence) -> set[int]:
    """Drivers whose logs may lack something: killed between a commit and its logs, or without room for logs."""
    killed = {session.number for session in _killed(evidence)}
    return killed | {fault["driver"] for fault in evidence.faults if fault["name"] == "full_disk"}


def _faults_of(evidence: Evidence, session: Session) -> list[str]:
    return [fault["name"] for fault in evidence.faults if fault["driver"] == session.number]


def failed_items_file(evidence: Evidence) -> Iterator[str]:
    """failed_items.jsonl names every item that has failed, once; what a resume opens again is not there any more."""
    last = evidence.sessions[-1].number if evidence.sessions else 0
    gaps = _with_gaps(evidence)
    if not evidence.result or last in gaps or (gaps and not evidence.plan.retry_failed):
        return
    told: Counter[int] = Counter()
    for line in evidence.failed_items:
        told[line["mini_batch"]] += 1 if line["item"] is not None else line["items"]
    right = Counter(_mini_batch_of(evidence, item) for item in _told(evidence).failed) - _uncounted(evidence)
    if told != right:
        wrong = {number: (told[number], right[number]) for number in told | right if told[number] != right[number]}
        yield f"lines by mini-batch (found, right): {dict(list(wrong.items())[:5])}"


def ends_as_it_should(evidence: Evidence) -> Iterator[str]:
    """Completed only if the thresholds hold; Failed for a threshold that does not, or for a fault that does that."""
    settings = evidence.plan.settings
    for session in evidence.sessions:
        yield from _session_ends(evidence, session)
    state = _state(evidence)
    told = _told(evidence)
    _, failed = told.standing(evidence)
    items = len(told.failed) + len(told.finished.keys() & _withheld(evidence)) - _uncounted(evidence).total()
    broken = 0 <= settings.error_threshold < items
    if settings.allowed_failed_count is not None and 0 <= settings.allowed_failed_count < len(failed):
        broken = True
    if state == "Completed" and broken:
        yield f"Completed with {items} failed items in {len(failed)} mini-batches: {settings}"
    if state == "Failed" and not broken and "allow" in ((evidence.sessions[-1].said or {}).get("error") or ""):
        yield f"Failed for a threshold with {items} failed items in {len(failed)} mini-batches: {settings}"


_CAUSES = {
    "kill_scheduler": "scheduler",
    "term_scheduler": "scheduler",
    "full_disk": "space",
    "read_only": "ead-only",
}
"""By fault, what the error of the driver that it ended has to name."""


def _session_ends(evidence: Evidence, session: Session) -> Iterator[str]:
    who = f"driver {session.number}"
    faults = _faults_of(evidence, session)
    if session.hung:
        yield f"{who} had not ended after {session.ended - session.started:.0f} s"
    elif session.said is None:
        if not {"kill_driver", "term_driver"} & set(faults):
            yield f"{who} died with exit code {session.code}, nobody had killed it"
    else:
        state, error = session.said["state"], session.said["error"] or ""
        causes = [_CAUSES[name] for name in faults if name in _CAUSES]
        if state == "Completed":
            return
        if not error:
            yield f"{who} ended as {state} without a cause"
        elif state == "Refused" and not causes:
            yield f"{who} was refused: {error}"
        elif not (any(cause in error for cause in causes) or "allow" in error):
            yield f"{who} ended as {state}, and neither a threshold nor a fault explains it: {error}"


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
    if any(fault["name"] not in _HARMLESS for fault in evidence.faults) or _killed(evidence):
        return
    if _state(evidence) != "Completed":
        return  # what ran at the abort is not in the table
    seen = Counter((run.first, run.items) for trace in evidence.traces for run in trace.runs)
    told: Counter[tuple[int, int]] = Counter()
    sizes = evidence.plan.workload.mini_batches()
    for one in evidence.attempts:
        if (one.ran or not one.category) and 0 <= one.mini_batch < len(sizes):
            items = sizes[one.mini_batch][slice(*one.part)] if one.part else sizes[one.mini_batch]
            told[items[0], len(items)] += 1
    if seen - told or (told - seen).total() > _excuses(evidence).total():
        wrong = {first: (seen[first], told[first]) for first in seen | told if seen[first] != told[first]}
        yield f"calls of run() by first item and number of items (seen, told): {dict(list(wrong.items())[:5])}"


_HARMLESS = ("kill_child", "term_child", "stop_child", "join_worker", "read_only", "stop_nanny")
"""Faults after which every call of run() is one attempt still."""


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
    return _state(evidence) != "Completed"


def _lateness(evidence: Evidence, began: float, ended: float) -> float:
    """How loaded the machine was: the latest that the harness's own watch woke around then."""
    return max(
        (late for when, late in evidence.late if began - AROUND_SECONDS <= when <= ended + AROUND_SECONDS), default=0.0
    )


def no_secret(evidence: Evidence) -> Iterator[str]:
    """No file holds a secret."""
    for name in evidence.tells_canary:
        yield f"{name} holds one"


RULES: tuple[Rule, ...] = (
    every_item_once,
    rows,
    output_file,
    input_order,
    journal_is_whole,
    bad_items,
    budgets,
    counts,
    failed_items_file,
    ends_as_it_should,
    init_before_run,
    traces_agree,
    nothing_is_left,
    time_limits,
    no_secret,
)


def runs_again(evidence: Evidence) -> int:
    """Calls of run() that were in vain: those that returned, of mini-batches that had returned before."""
    poisons = {poison.item for poison in evidence.plan.workload.poisons}
    done = Counter(
        run.first
        for trace in evidence.traces
        for run in trace.runs
        if run.good and poisons.isdisjoint(range(run.first, run.first + run.items))
    )
    return sum(count - 1 for count in done.values())

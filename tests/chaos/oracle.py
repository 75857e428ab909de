"""The rules that hold after every run, whatever went wrong: pure over the evidence.

A rule is a function that yields a sentence for everything that breaks it. It knows the input (the
plan says which items there are, which are bad and how) and takes nothing of the step run's word for
it: what one file says has to agree with what the others say and with the input.

What faults may cost is bounded, too: an innocent mini-batch may lose as many attempts as there were
faults that cost one, and only of the category that such a fault leaves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

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


def _standing(evidence: Evidence) -> tuple[Counter[int], Counter[int]]:
    """How often each mini-batch is told as finished and as failed; a resume opens the failed ones again."""
    finished, failed = _told(evidence)
    known = range(len(evidence.plan.workload.mini_batches()))
    return (
        Counter({number: count for number, count in finished.items() if number in known}),
        Counter({number: count for number, count in failed.items() if number in known}),
    )


def _told(evidence: Evidence) -> tuple[Counter[int], Counter[int]]:
    """The same, and mini-batches that do not exist."""
    finished: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for entry in evidence.journal:
        if entry["kind"] == "commit":
            finished.update(_ids(entry["finished"]))
            failed.update(failure["id"] for failure in entry.get("failed", ()))
        elif entry["kind"] == "resumed" and entry["retry_failed"]:
            failed.clear()
    return finished, failed


def _state(evidence: Evidence) -> str | None:
    """How the last driver said that it ended."""
    said = evidence.sessions[-1].said if evidence.sessions else None
    return said["state"] if said else None


def _rows_of(evidence: Evidence, number: int, items: range) -> list[int]:
    poison = evidence.plan.workload.poison_by_mini_batch().get(number)
    if poison is None or not HARMS[poison.harm].missing or poison.flaky:
        return list(items)
    return list(items)[: -HARMS[poison.harm].missing]


# -------------------------------------------------------------------- the rules


def every_item_once(evidence: Evidence) -> Iterator[str]:
    """Each mini-batch is finished, or failed, or was not run because the step run ended before."""
    finished, failed = _told(evidence)
    count = len(evidence.plan.workload.mini_batches())
    for number in sorted((finished | failed).keys()):
        told = finished[number] + failed[number]
        if told > 1:
            yield f"mini-batch {number} is told {told} times: {finished[number]} finished, {failed[number]} failed"
        if not 0 <= number < count:
            yield f"mini-batch {number} of the journal is none of the {count}"
    open_ones = set(range(count)) - finished.keys() - failed.keys()
    if open_ones and _state(evidence) == "Completed":
        yield f"Completed, but {len(open_ones)} mini-batches have not ended, such as {min(open_ones)}"


def rows(evidence: Evidence) -> Iterator[str]:
    """The rows of every finished mini-batch stand there once, whole, together and in order; and no other rows."""
    if evidence.plan.settings.action != "append_row":
        if evidence.output is not None:
            yield "summary_only has made an output file"
        return
    finished, _ = _standing(evidence)
    expected: dict[str, tuple[int, int]] = {}
    for number, items in enumerate(evidence.plan.workload.mini_batches()):
        if number in finished:
            for place, item in enumerate(_rows_of(evidence, number, items)):
                expected[row_of(item)] = (number, place)
    text = (evidence.output or b"").decode(errors="surrogateescape")
    if text and not text.endswith("\n"):
        yield f"the output ends in the middle of a row: {text[-40:]!r}"
    lines = text.splitlines()
    yield from _wrong_rows(evidence, lines, expected)
    before = (-1, -1)
    seen: set[int] = set()
    for line in lines:
        number, place = expected.get(line, (-1, -1))
        together = (number, place) == (before[0], before[1] + 1) or (place == 0 and number not in seen)
        if number >= 0 and not together:
            yield f"row {place} of mini-batch {number} does not stand where it should"
            return
        seen.add(number)
        before = (number, place)


def _wrong_rows(evidence: Evidence, lines: Sequence[str], expected: Mapping[str, object]) -> Iterator[str]:
    known = {row_of(item) for item in range(evidence.plan.workload.items)}
    counted = Counter(lines)
    for what, wrong in {
        "rows are torn or unknown": [line for line in counted if line not in known],
        "rows stand there more than once": [line for line, count in counted.items() if count > 1],
        "rows of mini-batches that have not finished are there": [
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
    finished, _ = _standing(evidence)
    right = [
        row_of(item)
        for number, items in enumerate(evidence.plan.workload.mini_batches())
        if number in finished
        for item in _rows_of(evidence, number, items)
    ]
    if evidence.output != "".join(row + "\n" for row in right).encode():
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
    finished, failed = _standing(evidence)
    poisons = evidence.plan.workload.poison_by_mini_batch()
    for number, poison in poisons.items():
        if _is_hopeless(evidence, poison) and number in finished:
            yield f"mini-batch {number} has finished with an item of kind {poison.harm!r}"
    for number in failed:
        bad = poisons.get(number)
        if bad is not None and HARMS[bad.harm].category:
            continue
        attempts = [one for one in evidence.attempts if one.mini_batch == number]
        if not any(one.category in _excuses(evidence) for one in attempts):
            yield f"mini-batch {number} has failed, and nothing is bad about it: {attempts}"


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
    tries = evidence.plan.settings.run_max_try
    poisons = evidence.plan.workload.poison_by_mini_batch()
    grouped: dict[tuple[int, int], list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        grouped[_session_of(evidence, attempt.started), attempt.mini_batch].append(attempt)
    innocent: Counter[str] = Counter()
    for (session, number), attempts in sorted(grouped.items()):
        lost = [one for one in attempts if one.category == "worker lost"]
        own = [one for one in attempts if one.category != "worker lost"]
        where = f"mini-batch {number} under driver {session}"
        if [one.number for one in own] != list(range(1, len(own) + 1)):
            yield f"{where}: its attempts are numbered {[one.number for one in own]}"
        if len(own) > tries or len(lost) > tries:
            yield f"{where}: {len(own)} attempts and {len(lost)} losses, run_max_try is {tries}"
        if attempts[-1].status == "Failed" and tries not in (len(own), len(lost)):
            yield f"{where}: failed after {len(own)} attempts and {len(lost)} losses, run_max_try is {tries}"
        if [one.final for one in attempts[:-1]].count(True):
            yield f"{where}: goes on after its end: {[one.status for one in attempts]}"
        poison = poisons.get(number)
        harm = HARMS[poison.harm] if poison else Harm()
        innocent.update(one.category for one in attempts if one.category not in ("", harm.category, harm.or_else))
    for category, count in innocent.items():
        allowed = _excuses(evidence)[category]
        if count > allowed:
            yield f"{count} attempts of others ended as {category!r}, the faults account for {allowed}"


def counts(evidence: Evidence) -> Iterator[str]:
    """Summary, result file, journal, table and output say the same numbers."""
    state = _state(evidence)
    if state not in ("Completed", "Failed", "Canceled"):
        return
    said = evidence.sessions[-1].said or {}
    finished, failed = _standing(evidence)
    sizes = evidence.plan.workload.mini_batches()
    missing = sum(len(sizes[number]) - len(_rows_of(evidence, number, sizes[number])) for number in finished)
    succeeded_items = sum(len(sizes[number]) for number in finished) - missing
    failed_items = sum(len(sizes[number]) for number in failed) + missing
    expected = {
        "succeeded_mini_batches": len(finished),
        "failed_mini_batches": len(failed),
        "items": succeeded_items + failed_items,
        "succeeded_items": succeeded_items,
        "failed_items": failed_items,
        "rows": len((evidence.output or b"").splitlines()),
    }
    if state == "Completed":
        expected["mini_batches"] = len(sizes)
    for place, found in {"job_result.txt": evidence.counts, "summary()": said.get("summary", {})}.items():
        wrong = {name: (found.get(name), value) for name, value in expected.items() if found.get(name) != value}
        if wrong:
            yield f"{place} says otherwise than journal and output (said, right): {wrong}"
    attempts = (evidence.counts.get("attempts"), said.get("summary", {}).get("attempts"))
    if attempts[0] != attempts[1]:
        yield f"attempts: {attempts[0]} in job_result.txt, {attempts[1]} in summary()"
    yield from _table_counts(evidence, finished, failed, expected)


def _table_counts(
    evidence: Evidence, finished: Counter[int], failed: Counter[int], expected: Mapping[str, int]
) -> Iterator[str]:
    """A driver that was killed may have written a commit and not yet its rows of the table; else they agree."""
    if _killed(evidence):
        return
    last = {one.mini_batch: one for one in evidence.attempts if one.final}
    good = {number for number, one in last.items() if one.status == "Succeeded"}
    if good != finished.keys():
        yield f"the table tells {len(good)} mini-batches as succeeded, the journal {len(finished)}"
    if last.keys() - good != failed.keys():
        yield f"the table tells {len(last) - len(good)} mini-batches as failed, the journal {len(failed)}"
    for name, found in {
        "succeeded_items": sum(one.succeeded for one in last.values()),
        "failed_items": sum(one.failed for one in last.values()),
        "attempts": len(evidence.attempts),
    }.items():
        right = evidence.counts.get("attempts") if name == "attempts" else expected[name]
        if found != right:
            yield f"the table tells {found} {name}, it should be {right}"


def _killed(evidence: Evidence) -> list[Session]:
    return [session for session in evidence.sessions if session.said is None]


def failed_items_file(evidence: Evidence) -> Iterator[str]:
    """failed_items.jsonl names the items of failed mini-batches, once for each time they failed."""
    if _killed(evidence) or not evidence.result:
        return
    told: Counter[int] = Counter()
    for line in evidence.failed_items:
        told[line["mini_batch"]] += 1 if line["item"] is not None else line["items"]
    sizes = evidence.plan.workload.mini_batches()
    right: Counter[int] = Counter()
    for entry in evidence.journal:
        for failure in entry.get("failed", ()):
            right[failure["id"]] += len(sizes[failure["id"]])
    if told != right:
        wrong = {number: (told[number], right[number]) for number in told | right if told[number] != right[number]}
        yield f"lines by mini-batch (found, right): {dict(list(wrong.items())[:5])}"


def ends_as_it_should(evidence: Evidence) -> Iterator[str]:
    """Completed only if the thresholds hold; Failed for a threshold that does not, or for a fault that does that."""
    settings = evidence.plan.settings
    for session in evidence.sessions:
        yield from _session_ends(evidence, session)
    state = _state(evidence)
    _, failed = _standing(evidence)
    sizes = evidence.plan.workload.mini_batches()
    finished, _ = _standing(evidence)
    items = sum(len(sizes[number]) for number in failed)
    items += sum(len(sizes[number]) - len(_rows_of(evidence, number, sizes[number])) for number in finished)
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
    faults = [fault["name"] for fault in evidence.faults if fault["driver"] == session.number]
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
        elif state == "Refused" and "read_only" not in faults:
            yield f"{who} was refused: {error}"
        elif not (any(cause in error for cause in causes) or "allow" in error):
            yield f"{who} ended as {state}, and neither a threshold nor a fault explains it: {error}"


def init_before_run(evidence: Evidence) -> Iterator[str]:
    """Every process imports the script, calls init() once, and only then run(); nothing comes after shutdown()."""
    for trace in evidence.traces:
        order = "".join({"import": "m", "init": "i", "ready": "y", "run": "r", "done": "d", "shutdown": "s"}[one]
                        for one in trace.events)  # fmt: skip
        head, rest = order[:3], order[3:]
        if not "miy".startswith(head):
            yield f"process {trace.pid} began with {trace.events[:4]}"
        elif "s" in rest[:-1] or any(one in rest for one in "miy"):
            yield f"process {trace.pid}: {trace.events[3:][-6:]}"


def traces_agree(evidence: Evidence) -> Iterator[str]:
    """What user code saw is what the table tells: no call of run() more, and none less, than attempts."""
    if any(fault["name"] not in _HARMLESS for fault in evidence.faults) or _killed(evidence):
        return
    if _state(evidence) != "Completed":
        return  # what ran at the abort is not in the table
    seen = Counter(run.first for trace in evidence.traces for run in trace.runs)
    sizes = evidence.plan.workload.mini_batches()
    told = Counter(sizes[one.mini_batch].start for one in evidence.attempts if one.category != "load error")
    if seen != told:
        wrong = {first: (seen[first], told[first]) for first in seen | told if seen[first] != told[first]}
        yield f"calls of run() by first item (seen, told): {dict(list(wrong.items())[:5])}"


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
        if run.ended is not None and poisons.isdisjoint(range(run.first, run.first + run.items))
    )
    return sum(count - 1 for count in done.values())

"""Rules of the oracle: what became of every item, in journal, output and table of attempts. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.accounts import (
    excuses,
    is_hopeless,
    mini_batch_of,
    session_of,
    state_of,
    told_of,
    with_gaps,
    withheld_items,
)
from tests.chaos.evidence import Attempt, Evidence
from tests.chaos.workload import HARMS, Harm, row_of

__all__ = [
    "bad_items",
    "budgets",
    "every_item_once",
    "input_order",
    "journal_is_whole",
    "output_file",
    "rows",
    "second_attempts",
]


def every_item_once(evidence: Evidence) -> Iterator[str]:
    """Each item is finished, or failed, or was not run because the step run ended before."""
    told = told_of(evidence)
    for number in told.unknown:
        yield f"mini-batch {number} of the journal does not exist"
    for item in sorted((told.finished | told.failed).keys()):
        if told.finished[item] + told.failed[item] > 1:
            yield f"item {item} is told as finished {told.finished[item]}, as failed {told.failed[item]} times"
    still = set(range(evidence.plan.workload.items)) - told.finished.keys() - told.failed.keys()
    if still and state_of(evidence) == "Completed":
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
    told = told_of(evidence)
    expected = [item for item in told.finished if item not in withheld_items(evidence)]
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
    completed = state_of(evidence) == "Completed"
    if completed and (evidence.partial or evidence.output is None):
        yield "Completed, but the output has not got its name"
    if state_of(evidence) in ("Failed", "Canceled") and evidence.output is not None and not evidence.partial:
        yield f"{state_of(evidence)}, but the output has got its name"
    commits = [entry for entry in evidence.journal if entry["kind"] == "commit"]
    length = commits[-1]["output"] if commits else 0
    if state_of(evidence) is not None and len(evidence.output or b"") != length:
        yield f"the output has {len(evidence.output or b'')} bytes, the journal says {length}"


def input_order(evidence: Evidence) -> Iterator[str]:
    """With append_row_order="input" the output is, byte for byte, what an undisturbed run writes."""
    settings = evidence.plan.settings
    if settings.order != "input" or settings.action != "append_row" or state_of(evidence) != "Completed":
        return
    right = sorted(told_of(evidence).finished.keys() - withheld_items(evidence))
    if evidence.output != "".join(row_of(item) + "\n" for item in right).encode():
        yield "the output is not what an undisturbed run writes"


def journal_is_whole(evidence: Evidence) -> Iterator[str]:
    """No line is damaged, and the last one says how it ended."""
    if evidence.torn:
        yield f"{evidence.torn} lines are damaged"
    state = state_of(evidence)
    if state in ("Completed", "Failed"):
        last = evidence.journal[-1] if evidence.journal else {}
        if last.get("kind") != "end" or last.get("state") != state:
            yield f"the step run ended as {state}, the journal's last line is {dict(last)!r:.120}"


def bad_items(evidence: Evidence) -> Iterator[str]:
    """What is bad for good never finishes; what fails is bad, or was hit by a fault that can do that."""
    told = told_of(evidence)
    for poison in evidence.plan.workload.poisons:
        if is_hopeless(evidence, poison) and told.finished[poison.item]:
            yield f"item {poison.item} of kind {poison.harm!r} has finished"
    bad = set()
    for number, poison in evidence.plan.workload.poison_by_mini_batch().items():
        if HARMS[poison.harm].category:
            whole = evidence.plan.workload.mini_batches()[number]
            bad |= {poison.item} if evidence.plan.settings.bisect else set(whole)
    for item in told.failed.keys() - bad:
        number = mini_batch_of(evidence, item)
        attempts = [one for one in evidence.attempts if one.mini_batch == number]
        if not any(one.category in excuses(evidence) for one in attempts):
            yield f"item {item} has failed, and nothing is bad about it: {attempts}"
            return


def budgets(evidence: Evidence) -> Iterator[str]:
    """No more attempts than allowed, none too few before a failure, and each for a cause that it can have had."""
    poisons = evidence.plan.workload.poison_by_mini_batch()
    sizes = evidence.plan.workload.mini_batches()
    grouped: dict[tuple[int, int, tuple[int, int]], list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        if not 0 <= attempt.mini_batch < len(sizes):
            yield f"the table tells of mini-batch {attempt.mini_batch}, which does not exist"
            continue
        if attempt.overtaken:
            continue  # charged to nobody: see `second_attempts`
        part = attempt.part or (0, len(sizes[attempt.mini_batch]))
        grouped[session_of(evidence, attempt.started), attempt.mini_batch, part].append(attempt)
    innocent: Counter[str] = Counter()
    for (session, number, part), attempts in sorted(grouped.items()):
        where = f"mini-batch {number}, items {part[0]} to {part[1]}, under driver {session}"
        whole = session not in with_gaps(evidence)
        for sentence in _budget(evidence, attempts, part, whole):
            yield f"{where}: {sentence}"
        poison = poisons.get(number)
        inside = poison is not None and poison.item in sizes[number][slice(*part)]
        harm = HARMS[poison.harm] if poison is not None and inside else Harm()
        innocent.update(one.category for one in attempts if one.category not in ("", harm.category, harm.or_else))
    for category, count in innocent.items():
        allowed = excuses(evidence)[category]
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
    numbers = [one.number for one in attempts if one.category != "worker lost"]
    tried = len(numbers)
    if settings.speculate and not is_part and len(numbers) > len(set(numbers)):
        tried -= 1  # once in its life two attempts of it were one try, and had one number
    if whole and (numbers != sorted(numbers) or sorted(set(numbers)) != list(range(1, tried + 1))):
        yield f"its attempts are numbered {numbers}"
    if tried > tries or len(lost) > settings.run_max_try:
        yield f"{tried} attempts and {len(lost)} losses, it has {tries} and {settings.run_max_try}"
    too_early = tried != tries and len(lost) != settings.run_max_try
    if whole and too_early and attempts[-1].status == "Failed":
        yield f"failed after {tried} attempts and {len(lost)} losses, it has {tries} and {settings.run_max_try}"
    if attempts[-1].status == "Failed" and settings.bisect and items > 1 and not lost:
        yield "failed without being halved"
    if any(one.final for one in attempts[:-1]):
        yield f"goes on after its end: {[one.status for one in attempts]}"


def second_attempts(evidence: Evidence) -> Iterator[str]:
    """An attempt that was overtaken counts for nothing, and stands beside one that has succeeded as the same try."""
    won = {(one.mini_batch, one.number) for one in evidence.attempts if one.status == "Succeeded" and not one.part}
    overtaken = [one for one in evidence.attempts if one.overtaken]
    if overtaken and not evidence.plan.settings.speculate:
        yield f"second attempts where none were wanted: {overtaken[:3]}"
    for one, times in Counter(overtaken).items():
        if one.total or one.succeeded or one.failed or one.part or one.category != "overtaken":
            yield f"an attempt that was overtaken counts: {one}"
        elif not with_gaps(evidence) and (one.mini_batch, one.number) not in won:
            yield f"overtaken by nobody: {one}"
        elif times > 1:
            yield f"overtaken {times} times: {one}"

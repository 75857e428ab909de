"""Rules of the oracle: how the step run ended, and that all numbers agree. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from prs_dask.logs.failed_items import MISSING_RESULT
from tests.chaos.accounts import (
    faults_of,
    half_done,
    mini_batch_of,
    state_of,
    told_of,
    uncounted,
    with_gaps,
    withheld_items,
)
from tests.chaos.evidence import Evidence, FailedItem, Session

__all__ = ["counts", "ends_as_it_should", "failed_items_file", "folders"]


def counts(evidence: Evidence) -> Iterator[str]:
    """Summary, result file, journal, table and output say the same numbers."""
    state = state_of(evidence)
    if state not in ("Completed", "Failed", "Canceled"):
        return
    said = evidence.sessions[-1].said or {}
    told = told_of(evidence)
    succeeded, failed = told.standing(evidence)
    withheld = told.finished.keys() & withheld_items(evidence)
    expected = {
        "succeeded_mini_batches": len(succeeded),
        "failed_mini_batches": len(failed),
        "items": len(told.finished) + len(told.failed) - uncounted(evidence).total(),
        "succeeded_items": len(told.finished) - len(withheld),
        "failed_items": len(told.failed) + len(withheld) - uncounted(evidence).total(),
        "rows": len((evidence.output or b"").splitlines()),
    }
    if state == "Completed":
        expected["mini_batches"] = len(evidence.plan.workload.mini_batches())
    places = {"job_result.txt": evidence.counts, "summary()": said.get("summary", {})}
    if "summary" not in said:  # the command line prints what job_result.txt holds
        del places["summary()"]
    if "full_disk" in faults_of(evidence, evidence.sessions[-1]):
        del places["job_result.txt"]
    for place, found in places.items():
        wrong = {name: (found.get(name), value) for name, value in expected.items() if found.get(name) != value}
        if wrong:
            yield f"{place} says otherwise than journal and output (said, right): {wrong}"
    attempts = (evidence.counts.get("attempts"), said.get("summary", {}).get("attempts"))
    if len(places) == 2 and attempts[0] != attempts[1]:
        yield f"attempts: {attempts[0]} in job_result.txt, {attempts[1]} in summary()"
    yield from _table_counts(evidence, expected)


def _table_counts(evidence: Evidence, expected: Mapping[str, int]) -> Iterator[str]:
    """Where no row of the table was lost. What a resume opened again has another final row: the last one counts."""
    if with_gaps(evidence):
        return
    last = {(one.mini_batch, one.part): one for one in evidence.attempts if one.final}
    ended = {number for number, _ in last}
    failed = {number for (number, _), one in last.items() if one.status == "Failed"}
    for name, found in {
        "succeeded_items": sum(one.succeeded for one in last.values()),
        "failed_items": sum(one.failed for one in last.values()),
        "failed_mini_batches": len(failed),
        "succeeded_mini_batches": len(ended - failed - half_done(evidence)),
        "attempts": len(evidence.attempts),
    }.items():
        right = evidence.counts.get("attempts") if name == "attempts" else expected[name]
        if found != right:
            yield f"the table tells {found} {name}, it should be {right}"


def failed_items_file(evidence: Evidence) -> Iterator[str]:
    """failed_items.jsonl names every item that has failed, once; what a resume opens again is not there any more."""
    last = evidence.sessions[-1].number if evidence.sessions else 0
    gaps = with_gaps(evidence)
    if not evidence.result or last in gaps or (gaps and not evidence.plan.retry_failed):
        return
    told: Counter[int] = Counter()
    for line in evidence.failed_items:
        told[line.mini_batch] += line.count
    failed = told_of(evidence).failed
    withheld = told_of(evidence).finished.keys() & withheld_items(evidence)
    right = Counter(mini_batch_of(evidence, item) for item in (*failed, *withheld)) - uncounted(evidence)
    if gaps:  # what a driver had not written when it was killed is told again of what is tried again, only
        lost = {mini_batch_of(evidence, item) for item in withheld} - told.keys()
        right = Counter({number: count for number, count in right.items() if number not in lost})
    if told != right:
        wrong = {number: (told[number], right[number]) for number in told | right if told[number] != right[number]}
        yield f"lines by mini-batch (found, right): {dict(list(wrong.items())[:5])}"
    for line, times in Counter(line for line in evidence.failed_items if line.name is not None).items():
        if times > 1:
            yield f"{line.name} stands there {times} times"
        if _item_named(evidence, line) not in failed.keys() | withheld:
            yield f"{line.name} stands there for mini-batch {line.mini_batch}, of which it is no item that has failed"
    if not gaps:
        yield from _categories(evidence)


def _item_named(evidence: Evidence, line: FailedItem) -> int | None:
    """The item of its mini-batch that a line names: a file by its number, a row by its place."""
    whole = dict(enumerate(evidence.plan.workload.mini_batches())).get(line.mini_batch, range(0))
    items = whole[slice(*line.part)] if line.part else whole
    if evidence.plan.workload.kind == "files":
        number = int(PurePath(line.name or "").name)
        return number if number in items else None
    found = line.part is not None and len(items) == 1 and (line.name or "").endswith(f", row {line.part[0]}")
    return items[0] if found else None


def _categories(evidence: Evidence) -> Iterator[str]:
    """A line has the category of the last row of the table for its mini-batch, or for its part."""
    last = {(one.mini_batch, one.part): one.category for one in evidence.attempts if one.final}
    for line in evidence.failed_items:
        right = last.get((line.mini_batch, line.part))
        if right == "":
            right = MISSING_RESULT
        if line.category != right:
            where = f"mini-batch {line.mini_batch}{list(line.part or ())}"
            yield f"{where} stands there as {line.category!r}, in the table as {right!r}"


def ends_as_it_should(evidence: Evidence) -> Iterator[str]:
    """Completed only if the thresholds hold; Failed for a threshold that does not, or for a fault that does that."""
    settings = evidence.plan.settings
    for session in evidence.sessions:
        yield from _session_ends(evidence, session)
    state = state_of(evidence)
    told = told_of(evidence)
    _, failed = told.standing(evidence)
    items = len(told.failed) + len(told.finished.keys() & withheld_items(evidence)) - uncounted(evidence).total()
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
    faults = faults_of(evidence, session)
    if session.hung:
        yield f"{who} had not ended after {session.ended - session.started:.0f} s"
    elif session.said is None:
        if not {"kill_driver", "term_driver"} & set(faults):
            yield f"{who} died with exit code {session.code}, nobody had killed it"
    else:
        state, error = session.said["state"], session.said["error"] or ""
        causes = [_CAUSES[name] for name in faults if name in _CAUSES]
        if state == "Completed" or (state == "Canceled" and "term_driver" in faults):
            return  # the command line takes SIGTERM for Ctrl-C
        if not error:
            yield f"{who} ended as {state} without a cause"
        elif state == "Refused" and not causes:
            yield f"{who} was refused: {error}"
        elif not (any(cause in error for cause in causes) or "allow" in error):
            yield f"{who} ended as {state}, and neither a threshold nor a fault explains it: {error}"


_OUTPUT = "parallel_run_step.txt"
_FOR_A_RESUME = (f"{_OUTPUT}.partial", f"{_OUTPUT}.partial.owner")
_RUN_FOLDER = (
    "inputs.jsonl.gz",
    "journal.jsonl",
    "journal.lock",
    "logs",
    "order.records",
    "report.html",
    "run.json",
    "source.zip",
)


def folders(evidence: Evidence) -> Iterator[str]:
    """A step run that has ended leaves what its end asks for, and nothing that waited to be written or sent."""
    state = state_of(evidence)
    if state not in ("Completed", "Failed", "Canceled"):
        return
    if state != "Completed" and "full_disk" in faults_of(evidence, evidence.sessions[-1]):
        return
    allowed = (_OUTPUT,) if state == "Completed" else _FOR_A_RESUME
    for where, found, right in (
        ("the output folder", evidence.beside_output, allowed),
        ("the run folder", evidence.beside_journal, _RUN_FOLDER),
    ):
        if wrong := set(found).difference(right):
            yield f"{state}, and in {where} there is left: {sorted(wrong)}"

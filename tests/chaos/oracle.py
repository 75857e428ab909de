"""The rules that hold after every run, whatever went wrong: pure over the evidence.

A rule is a function that yields a sentence for everything that breaks it. It knows the input (the
plan says which items there are, which are bad and how) and takes nothing of the step run's word for
it: what one file says has to agree with what the others say and with the input.

What faults may cost is bounded, too: an innocent mini-batch may lose as many attempts as there were
faults that cost one, and only of the category that such a fault leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos import rules_of_ends, rules_of_items, rules_of_processes
from tests.chaos.evidence import Evidence

__all__ = ["RULES", "Rule", "judge", "runs_again"]

Rule = Callable[[Evidence], Iterator[str]]

RULES: tuple[Rule, ...] = (
    rules_of_items.every_item_once,
    rules_of_items.rows,
    rules_of_items.output_file,
    rules_of_items.input_order,
    rules_of_items.journal_is_whole,
    rules_of_items.bad_items,
    rules_of_items.budgets,
    rules_of_items.second_attempts,
    rules_of_ends.counts,
    rules_of_ends.failed_items_file,
    rules_of_ends.ends_as_it_should,
    rules_of_ends.folders,
    rules_of_processes.init_before_run,
    rules_of_processes.traces_agree,
    rules_of_processes.finished_is_not_run_again,
    rules_of_processes.nothing_is_left,
    rules_of_processes.time_limits,
    rules_of_processes.init_limits,
    rules_of_processes.no_secret,
)


def judge(evidence: Evidence) -> Iterator[str]:
    """Everything that is wrong."""
    for rule in RULES:
        for sentence in rule(evidence):
            yield f"{rule.__name__}: {sentence}"


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

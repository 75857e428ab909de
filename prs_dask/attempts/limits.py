"""The limits of a step run, and what they say about counts.

Sources: behaviour, sections 5.1 (tries), 5.2 (time limits), 5.3 (init) and 5.4 (thresholds).
"""

from __future__ import annotations

from dataclasses import dataclass

from prs_dask.attempts.records import AttemptError, Category

__all__ = ["RunLimits", "broken_threshold", "retry_delay", "worth_another_try"]


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What decides over attempts and over the step run.

    Parameters
    ----------
    run_max_try
        Attempts a mini-batch has, at least 1; lost workers have a budget of as many.
    error_threshold
        Failed items above which the step run aborts; -1: never.
    allowed_failed_count, allowed_failed_percent
        The same for mini-batches; the percentage is judged once all are known. None: no limit.
    run_seconds, overhead_seconds
        Time limit of ``run()``; of reading, and of turning a result into rows.
    init_seconds
        Longest time of import and ``init()`` of one process.
    shutdown_seconds
        Longest time of ``shutdown()`` and of what the script registered with ``atexit``.
    progress_seconds
        Without any mini-batch ending for so long the step run fails.
    retry_backoff
        (first, factor, longest) seconds before a mini-batch's next attempt.
    retry_on, no_retry_on
        Names of exceptions that are, or are not, worth another attempt; None: all are.
    bisect
        Halve a mini-batch that has used up its tries until its bad items are alone.
    speculate
        Start an attempt that is far slower than others a second time, near the end.
    """

    run_max_try: int = 3
    error_threshold: int = 0
    allowed_failed_count: int | None = None
    allowed_failed_percent: float | None = None
    run_seconds: float = 60.0
    overhead_seconds: float = 30.0
    init_seconds: float = 210.0
    shutdown_seconds: float = 30.0
    progress_seconds: float = 270.0
    retry_backoff: tuple[float, float, float] = (0.0, 1.0, 0.0)
    retry_on: tuple[str, ...] | None = None
    no_retry_on: tuple[str, ...] | None = None
    bisect: bool = False
    speculate: bool = False


def broken_threshold(
    limits: RunLimits, failed_items: int, failed_mini_batches: int, total_mini_batches: int | None
) -> str | None:
    """The sentence that says which threshold is exceeded, or None.

    Parameters
    ----------
    total_mini_batches
        How many there are in all; None while the listing goes on, when no percentage exists.
    """
    if limits.error_threshold >= 0 and failed_items > limits.error_threshold:
        found = f"{failed_items} failed item{'s are' if failed_items != 1 else ' is'}"
        return f"{found} more than error_threshold={limits.error_threshold} allows"
    allowed = limits.allowed_failed_count
    if allowed is not None and allowed >= 0 and failed_mini_batches > allowed:
        found = f"{failed_mini_batches} failed mini-batch{'es are' if failed_mini_batches != 1 else ' is'}"
        return f"{found} more than allowed_failed_count={allowed} allows"
    percent = limits.allowed_failed_percent
    if percent is not None and total_mini_batches and failed_mini_batches * 100 > percent * total_mini_batches:
        return (
            f"{failed_mini_batches} failed of {total_mini_batches} mini-batches are more than "
            f"allowed_failed_percent={percent:g} allows"
        )
    return None


def retry_delay(limits: RunLimits, failed_attempts: int) -> float:
    """Seconds to wait before the attempt that follows ``failed_attempts`` failed ones (>= 1)."""
    first, factor, longest = limits.retry_backoff
    if first <= 0:
        return 0.0
    try:
        return min(first * factor ** (failed_attempts - 1), longest)
    except OverflowError:
        return longest


def worth_another_try(limits: RunLimits, failed_attempts: int, category: Category, error: AttemptError) -> bool:
    """May a mini-batch that failed so often, last in this way, be tried again?

    ``retry_on`` chooses among exceptions; what ended otherwise (a time limit, a dead process) is tried again unless
    ``no_retry_on`` names it. As with ``except``, a name stands for the exceptions that are derived from it, too.
    """
    if failed_attempts >= limits.run_max_try:
        return False
    if limits.retry_on is None and limits.no_retry_on is None:
        return True
    is_exception = category in (Category.EXCEPTION, Category.LOAD_ERROR)
    names = {error.type, error.type.rpartition(".")[2]}
    if is_exception:
        names.update(*map(_names, error.classes.splitlines()))
    if limits.no_retry_on is not None and names & set(limits.no_retry_on):
        return False
    return limits.retry_on is None or not is_exception or bool(names & set(limits.retry_on))


def _names(described: str) -> tuple[str, str, str]:
    """What a class may be called: ``HTTPError``, ``urllib.error.HTTPError``, and for nested ones ``Outer.Inner``."""
    module, _, name = described.partition(":")
    return name.rpartition(".")[2], name, f"{module}.{name}"

"""Thresholds, waits between attempts, and what is worth another one."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prs_dask.attempts.limits import RunLimits, broken_threshold, retry_delay, worth_another_try
from prs_dask.attempts.records import AttemptError, Category

COUNTS = st.integers(0, 10_000)
SECONDS = st.floats(0, 1e6)
LIMITS = st.builds(
    RunLimits,
    error_threshold=st.integers(-1, 100),
    allowed_failed_count=st.none() | st.integers(-1, 100),
    allowed_failed_percent=st.none() | st.floats(0, 100),
)


class TestThresholds:
    def test_as_many_failed_items_as_allowed_are_allowed(self):
        limits = RunLimits(error_threshold=5)
        assert broken_threshold(limits, 5, 5, 5) is None
        assert broken_threshold(limits, 6, 0, 5) == "6 failed items are more than error_threshold=5 allows"
        assert broken_threshold(RunLimits(), 1, 0, 5) == "1 failed item is more than error_threshold=0 allows"

    def test_minus_one_allows_any_number(self):
        limits = RunLimits(error_threshold=-1, allowed_failed_count=-1)
        assert broken_threshold(limits, 10**9, 10**9, 10**9) is None

    def test_as_many_failed_mini_batches_as_allowed_are_allowed(self):
        limits = RunLimits(error_threshold=-1, allowed_failed_count=2)
        assert broken_threshold(limits, 99, 2, None) is None
        assert "allowed_failed_count=2" in broken_threshold(limits, 99, 3, None)

    def test_none_allowed_means_none(self):
        limits = RunLimits(error_threshold=-1, allowed_failed_count=0)
        assert broken_threshold(limits, 0, 0, None) is None
        assert broken_threshold(limits, 0, 1, None) is not None

    def test_a_percentage_is_judged_only_when_all_are_known(self):
        limits = RunLimits(error_threshold=-1, allowed_failed_percent=10)
        assert broken_threshold(limits, 0, 50, None) is None
        assert broken_threshold(limits, 0, 5, 50) is None
        assert "6 failed of 50" in broken_threshold(limits, 0, 6, 50)

    def test_a_percentage_of_nothing_is_not_exceeded(self):
        assert broken_threshold(RunLimits(error_threshold=-1, allowed_failed_percent=0), 0, 0, 0) is None

    def test_a_fractional_percentage_is_exact_at_the_edge(self):
        limits = RunLimits(error_threshold=-1, allowed_failed_percent=0.1)
        assert broken_threshold(limits, 0, 1, 1000) is None
        assert "allowed_failed_percent=0.1 " in broken_threshold(limits, 0, 2, 1000)

    @given(COUNTS, st.integers(1, 10_000))
    def test_a_hundred_percent_ignores_all(self, failed, total):
        assume(failed <= total)
        limits = RunLimits(error_threshold=-1, allowed_failed_percent=100)
        assert broken_threshold(limits, 0, failed, total) is None

    @given(LIMITS, COUNTS, COUNTS, st.none() | COUNTS, COUNTS, COUNTS)
    def test_what_is_broken_stays_broken_with_more_failures(self, limits, items, failed, total, more, further):
        if broken_threshold(limits, items, failed, total) is not None:
            assert broken_threshold(limits, items + more, failed + further, total) is not None

    @given(LIMITS, st.none() | COUNTS)
    def test_without_a_failure_nothing_is_broken(self, limits, total):
        assert broken_threshold(limits, 0, 0, total) is None


class TestRetryDelay:
    def test_without_backoff_there_is_no_wait(self):
        assert retry_delay(RunLimits(), 1) == 0

    @pytest.mark.parametrize(("failed", "seconds"), [(1, 2), (2, 6), (3, 18), (4, 20), (400, 20), (40_000, 20)])
    def test_it_grows_by_the_factor_up_to_the_longest(self, failed, seconds):
        assert retry_delay(RunLimits(retry_backoff=(2.0, 3.0, 20.0)), failed) == seconds

    def test_a_first_wait_of_nothing_stays_nothing(self):
        assert retry_delay(RunLimits(retry_backoff=(0.0, 10.0, 20.0)), 5000) == 0

    def test_a_first_wait_above_the_longest_is_cut(self):
        assert retry_delay(RunLimits(retry_backoff=(30.0, 2.0, 20.0)), 1) == 20

    @given(SECONDS, st.floats(1, 1e3), SECONDS, st.integers(1, 100_000))
    def test_it_is_never_negative_never_too_long_and_never_shrinks(self, first, factor, longest, failed):
        limits = RunLimits(retry_backoff=(first, factor, longest))
        delay, following = retry_delay(limits, failed), retry_delay(limits, failed + 1)
        assert 0 <= delay <= longest
        assert following >= delay
        assert math.isfinite(following)


class TestWorthAnotherTry:
    @given(st.integers(1, 50), st.integers(1, 60))
    def test_run_max_try_is_the_number_of_attempts(self, most, failed):
        assert tried_again(RunLimits(run_max_try=most), failed, "ValueError") is (failed < most)

    @pytest.mark.parametrize("name", ["KeyError", "lib.errors.KeyError"])
    def test_exceptions_are_named_with_or_without_their_module(self, name):
        assert not tried_again(RunLimits(no_retry_on=("KeyError",)), 1, name)
        assert tried_again(RunLimits(retry_on=("KeyError",)), 1, name)

    def test_a_full_name_means_that_one_only(self):
        limits = RunLimits(retry_on=("lib.errors.KeyError",))
        assert tried_again(limits, 1, "lib.errors.KeyError")
        assert not tried_again(limits, 1, "KeyError")

    def test_only_what_is_listed_is_tried_again(self):
        limits = RunLimits(retry_on=("TimeoutError", "OSError"))
        assert tried_again(limits, 1, "OSError")
        assert not tried_again(limits, 1, "ValueError")

    def test_an_empty_list_means_none_are(self):
        assert not tried_again(RunLimits(retry_on=()), 1, "ValueError")
        assert tried_again(RunLimits(no_retry_on=()), 1, "ValueError")

    def test_no_retry_wins_over_retry(self):
        limits = RunLimits(retry_on=("OSError",), no_retry_on=("OSError",))
        assert not tried_again(limits, 1, "OSError")

    @pytest.mark.parametrize("category", [Category.EXCEPTION, Category.LOAD_ERROR])
    def test_retry_on_chooses_among_exceptions(self, category):
        limits = RunLimits(retry_on=("OSError",))
        assert worth_another_try(limits, 1, category, AttemptError("OSError", ""))
        assert not worth_another_try(limits, 1, category, AttemptError("KeyError", ""))

    @pytest.mark.parametrize(
        ("category", "name"),
        [
            (Category.TIME_LIMIT, "TimeLimit"),
            (Category.PROCESS_DIED, "ProcessDied"),
            (Category.OUT_OF_MEMORY, "OutOfMemory"),
            (Category.BAD_RETURN, "BadResult"),
        ],
    )
    def test_what_is_no_exception_is_tried_again_unless_it_is_named(self, category, name):
        error = AttemptError(name, "", classes="prs_dask.output.rows:BadResult\nbuiltins:TypeError")
        assert worth_another_try(RunLimits(retry_on=("OSError",)), 1, category, error)
        assert not worth_another_try(RunLimits(no_retry_on=(name,)), 1, category, error)
        assert worth_another_try(RunLimits(no_retry_on=("TypeError",)), 1, category, error)

    @pytest.mark.parametrize(
        ("name", "stands_for_it"),
        [
            ("HTTPError", True),
            ("urllib.error.HTTPError", True),
            ("URLError", True),
            ("OSError", True),
            ("builtins.OSError", True),
            ("Exception", True),
            ("Outer.HTTPError", False),
            ("error.HTTPError", False),
            ("urllib.error.OSError", False),
            ("ValueError", False),
        ],
    )
    def test_a_name_stands_for_the_exceptions_that_are_derived_from_it(self, name, stands_for_it):
        classes = "urllib.error:HTTPError\nurllib.error:URLError\nbuiltins:OSError\nbuiltins:Exception"
        error = AttemptError("HTTPError", "", classes=classes)
        for category in (Category.EXCEPTION, Category.LOAD_ERROR):
            assert worth_another_try(RunLimits(retry_on=(name,)), 1, category, error) is stands_for_it
            assert worth_another_try(RunLimits(no_retry_on=(name,)), 1, category, error) is not stands_for_it

    def test_a_nested_class_has_its_qualified_name_too(self):
        error = AttemptError("Inner", "", classes="script:Outer.Inner")
        for name in ("Inner", "Outer.Inner", "script.Outer.Inner"):
            assert worth_another_try(RunLimits(retry_on=(name,)), 1, Category.EXCEPTION, error)


def tried_again(limits: RunLimits, failed: int, name: str) -> bool:
    """After an exception of this name."""
    return worth_another_try(limits, failed, Category.EXCEPTION, AttemptError(name, ""))

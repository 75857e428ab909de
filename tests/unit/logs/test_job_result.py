"""The end of a step run goes through JSON and back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.job_result import JobResult
from prs_dask.logs.summary import StepSummary

TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.just("one \udc80 alone")
RESULT = JobResult(StepSummary("Failed", 20, 7, 1, 80, 68, 12, 12, 68, 1.5, 2.5), "why")


@given(TEXT, TEXT, TEXT, TEXT, TEXT, st.integers(0), st.floats(0, 1e12))
def test_what_was_written_is_read(
    state: str, cause: str, output: str, first: str, resume: str, count: int, seconds: float
) -> None:
    summary = dataclasses.replace(RESULT.summary, state=state, rows=count, seconds=seconds)
    result = JobResult(summary, cause, output, first, resume)
    assert JobResult.from_json(result.to_json().encode("ascii")) == result


def test_wherever_it_is_torn_it_is_refused() -> None:
    text = RESULT.to_json().rstrip()
    for length in range(len(text)):
        with pytest.raises(ValueError):  # noqa: PT011 - json's own or ours
            JobResult.from_json(text[:length])


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"summary": 3}', "[" * 100_000])
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no result of a step run"):
        JobResult.from_json(text)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="should be a number"):
        JobResult.from_json(RESULT.to_json().replace('"rows": 68', '"rows": "many"'))
    with pytest.raises(ValueError, match="should be text"):
        JobResult.from_json(RESULT.to_json().replace('"why"', "3"))

"""Which items failed: the lines add up, and what is missing in a short result outlives a resume."""

from __future__ import annotations

import json

import pytest

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.logs.failed_items import MISSING_RESULT, failed_lines, is_kept, missing_result, short_results


def record(number: int, items: int, results: int, category: Category = Category.SUCCEEDED) -> AttemptRecord:
    return AttemptRecord(number, 1, category, 1, items, results, 0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_short_results_are_those_of_successes_only() -> None:
    records = [record(0, 3, 3), record(1, 3, 2), record(2, 3, 0, Category.EXCEPTION), record(3, 3, 4), record(4, 1, 0)]
    assert list(short_results(pack(records))) == [records[1], records[4]]
    assert list(short_results(b"")) == []


def test_what_is_missing_is_told_with_both_numbers() -> None:
    assert missing_result(record(1, 1200, 7)) == "run() returned 7 results for 1,200 items"


def test_items_without_names_are_one_line_with_their_number() -> None:
    [line] = failed_lines(7, None, 2, "exception", "no", 5, part="7[0:5]").splitlines()
    told = {"mini_batch": 7, "part": "7[0:5]", "attempts": 2, "category": "exception", "message": "no"}
    assert json.loads(line) == {"item": None, "items": 5, **told}


@pytest.mark.parametrize("line", [b"", b"{", b"[]\n", b'"x"\n', b"{}\n", failed_lines(1, ["a"], 1, "exception", "no")])
def test_lines_of_what_is_tried_again_are_not_kept(line: bytes) -> None:
    assert not is_kept(line)


def test_lines_of_missing_results_are_kept() -> None:
    assert is_kept(failed_lines(1, ["a"], 1, MISSING_RESULT, "no"))

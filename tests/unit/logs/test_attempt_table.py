"""One row an attempt, which the csv module reads back."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack
from prs_dask.logs.attempt_table import HEADER, format_attempts
from prs_dask.logs.places import ATTEMPT_COLUMNS
from prs_dask.redaction import redact_text


def record(mini_batch: int = 7, category: int = 0, final: int = 1, started: float = 1_767_225_600.25) -> AttemptRecord:
    return AttemptRecord(mini_batch, 2, category, final, 10, 8, 100, started, 1.5, 0.25, 1.0, 0.5)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((HEADER + data).decode(), newline="")))


def test_an_attempt_that_succeeded() -> None:
    (row,) = read(format_attempts(1, 3, pack([record()]), {7: "a.png"}))
    assert row == {
        "Mini-batch Id": "7",
        "Picked Count": "2",
        "Process": "1/process003",
        "Process Start Time": "2026-01-01T00:00:00.250Z",
        "Total": "10",
        "Succeeded": "8",
        "Failed": "2",
        "Elapsed Seconds": "1.500000",
        "Process Seconds": "0.500000",
        "Run Method Seconds": "1.000000",
        "Status": "Succeeded",
        "Error Category": "",
        "Error Message": "",
        "Mini-batch Detail": "a.png",
        "Read Seconds": "0.250000",
    }


def test_attempts_that_failed_tell_whether_for_good() -> None:
    records = pack([record(1, Category.TIME_LIMIT, 0), record(2, Category.EXCEPTION, 1), record(3, 99, 1)])
    rows = read(format_attempts(0, 0, records, None, {2: AttemptError("KeyError", 'a "b",\n\x1b[1m')}))
    assert [row["Status"] for row in rows] == ["Failed attempt", "Failed", "Failed"]
    assert [row["Error Category"] for row in rows] == ["time limit", "exception", "99"]
    assert [row["Error Message"] for row in rows] == ["", 'KeyError: a "b",\\n\\x1b[1m', ""]
    assert {(row["Total"], row["Succeeded"], row["Failed"]) for row in rows} == {("10", "0", "10")}


def test_an_attempt_that_another_was_faster_than_has_not_failed() -> None:
    loser = AttemptRecord(7, 1, Category.OVERTAKEN, 0, 0, 0, 0, 1_767_225_600.25, 1.5, 0.0, 0.0, 0.0)
    (row,) = read(format_attempts(0, 0, pack([loser]), None, {7: AttemptError("overtaken", "another was faster")}))
    assert (row["Status"], row["Error Category"]) == ("Overtaken", "overtaken")
    assert (row["Total"], row["Succeeded"], row["Failed"]) == ("0", "0", "0")


def test_an_attempt_lost_with_its_worker_has_no_process() -> None:
    (row,) = read(format_attempts(-1, -1, pack([record(1, Category.WORKER_LOST)])))
    assert row["Process"] == ""


def test_secrets_in_messages_and_details_are_taken_out() -> None:
    data = format_attempts(
        0,
        0,
        pack([record(1), record(2, Category.LOAD_ERROR)]),
        lambda number: "url?sig=canary",
        {2: AttemptError("E", "canary")},
        lambda text: text.replace("canary", "***"),
    )
    assert b"canary" not in data
    assert [row["Mini-batch Detail"] for row in read(data)] == ["url?sig=***"] * 2


def test_details_that_need_no_care_are_written_as_those_that_do() -> None:
    details = ["a.png", "b c.png", "", " d ", "e,f", 'g"h', "i\nj", "k" * 2000, "?sig=secret", "\udc80", "last"]
    records = pack([record(number) for number in range(len(details))])
    together = read(format_attempts(0, 0, records, dict(enumerate(details)), redact=redact_text))
    alone = [
        read(format_attempts(0, 0, pack([record(number)]), {number: detail}, redact=redact_text))[0]
        for number, detail in enumerate(details)
    ]
    assert together == alone
    assert [row["Mini-batch Detail"] for row in alone[:7]] == ["a.png", "b c.png", "", "d", "e,f", 'g"h', "i\\nj"]
    assert alone[8]["Mini-batch Detail"] == "?sig=***"


@given(st.lists(st.text(max_size=12), max_size=5))
def test_secrets_are_found_in_details_whatever_stands_beside_them(others: list[str]) -> None:
    details = [*others, "url?sig=canary", *others]
    records = pack([record(number) for number in range(len(details))])
    assert b"canary" not in format_attempts(0, 0, records, dict(enumerate(details)), redact=redact_text)


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.floats(0, 4e9))
def test_whatever_text_it_stays_one_row_of_all_columns(text: str, started: float) -> None:
    records = pack([record(1, Category.EXCEPTION, 0, started), record(1, 0, 1, started)])
    data = HEADER + format_attempts(0, 0, records, {1: text}, {1: AttemptError(text, text)})
    lines = data.decode().split("\n")
    assert lines.pop() == ""
    assert all(len(row) == len(ATTEMPT_COLUMNS) for row in csv.reader(lines))
    assert len(lines) == 3

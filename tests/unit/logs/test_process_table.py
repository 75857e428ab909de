"""Each process has a table of its own attempts."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.logs.attempt_table import HEADER, format_attempts
from prs_dask.logs.process_table import PROCESS_HEADER, format_process_rows

RECORDS = st.builds(
    AttemptRecord,
    mini_batch=st.integers(0, 2**48),
    attempt=st.integers(1, 9),
    category=st.sampled_from(list(map(int, Category))),
    final=st.integers(0, 1),
    items=st.integers(0, 1000),
    results=st.integers(0, 2000),
    length=st.just(0),
    started=st.floats(1.7e9, 1.8e9),
    elapsed=st.floats(0, 1e5, width=32),
    read=st.just(0.0),
    run=st.floats(0, 1e5, width=32),
    cpu=st.floats(0, 1e5, width=32),
)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@given(st.lists(RECORDS, max_size=20))
def test_it_agrees_with_the_table_of_all_attempts(records: list[AttemptRecord]) -> None:
    # A success is final.
    packed = pack([record if record.category else record._replace(final=1) for record in records])
    own = read(PROCESS_HEADER + format_process_rows("10.0.0.7", 4321, packed))
    every = read(HEADER + format_attempts(0, 1, packed))
    assert len(own) == len(every) == len(records)
    for one, other in zip(own, every, strict=True):
        assert (one.pop("Ip"), one.pop("Pid")) == ("10.0.0.7", "4321")
        assert one.pop("Start Time") == other["Process Start Time"]
        assert one == {name: other[name] for name in one}


def test_parts_have_their_names_and_what_is_not_known_is_empty() -> None:
    (row,) = read(
        PROCESS_HEADER
        + format_process_rows("", 0, pack([AttemptRecord(9, 1, 0, 1, 2, 2, 0, 1.75e9, 1, 0, 1, 1)]), {9: "7[3:5]"})
    )
    assert (row["Mini-batch Id"], row["Ip"], row["Pid"]) == ("7[3:5]", "", "")

"""Attempt records survive packing, and count items as the contract says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import RECORD_SIZE, AttemptRecord, Category, pack, unpack

SECONDS = st.floats(0, 1e9, width=32)
COUNTS = st.integers(0, (1 << 32) - 1)
RECORDS = st.builds(
    AttemptRecord,
    mini_batch=st.integers(0, (1 << 64) - 1),
    attempt=st.integers(1, (1 << 16) - 1),
    category=st.sampled_from(Category),
    final=st.integers(0, 1),
    items=COUNTS,
    results=COUNTS,
    length=st.integers(0, (1 << 64) - 1),
    started=st.floats(0, 1e12),
    elapsed=SECONDS,
    read=SECONDS,
    run=SECONDS,
    cpu=SECONDS,
)


@given(st.lists(RECORDS))
def test_what_is_unpacked_is_what_was_packed(records):
    packed = pack(records)
    assert list(unpack(packed)) == records
    assert len(packed) == RECORD_SIZE * len(records)


def test_a_record_is_52_bytes():
    assert RECORD_SIZE == 52


@given(RECORDS)
def test_succeeded_items_are_never_more_than_items_or_results(record):
    assert 0 <= record.succeeded_items <= min(record.items, record.results)
    assert record.category == 0 or record.succeeded_items == 0


@pytest.mark.parametrize(("items", "results", "succeeded"), [(10, 10, 10), (10, 7, 7), (10, 70, 10), (0, 3, 0)])
def test_a_short_result_counts_its_missing_items_as_failed(items, results, succeeded):
    record = AttemptRecord(0, 1, 0, 1, items, results, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert record.succeeded_items == succeeded


def test_categories_have_words_for_people():
    assert Category.TIME_LIMIT.label == "time limit"
    assert len({category.label for category in Category}) == len(Category)


def test_only_success_is_no_failure():
    assert [category for category in Category if not category] == [Category.SUCCEEDED]

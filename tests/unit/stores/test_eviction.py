"""Which files go first."""

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.stores.eviction import Entry, victims

ENTRIES = st.lists(
    st.builds(
        Entry,
        key=st.uuids().map(str),
        size=st.integers(0, 100),
        used=st.booleans(),
        last_use=st.floats(0, 10, allow_nan=False),
    ),
    unique_by=lambda entry: entry.key,
    max_size=20,
)


def order(entry):
    return not entry.used, entry.last_use


@given(entries=ENTRIES, need=st.integers(-10, 500), spare=st.integers(0, 200), unused_too=st.booleans())
def test_what_goes_is_the_longest_unused_and_no_more_than_needed(entries, need, spare, unused_too):
    chosen = victims(entries, need, spare, unused_too=unused_too)
    allowed = [entry for entry in entries if entry.used or unused_too]
    assert set(chosen) <= set(allowed)
    left = [entry for entry in allowed if entry not in chosen]
    assert all(order(gone) <= order(stays) for gone in chosen for stays in left)
    freed = sum(entry.size for entry in chosen)
    assert freed >= need or not left
    if chosen:
        without_last = freed - chosen[-1].size
        assert without_last < need + (spare if chosen[-1].used else 0)
    assert need > 0 or not chosen


def test_a_file_that_waits_for_its_first_use_goes_after_all_that_were_used():
    waiting, used = Entry("a", 10, False, 1.0), Entry("b", 10, True, 9.0)
    assert victims([waiting, used], 5) == [used]
    assert victims([waiting, used], 15) == [used, waiting]
    assert victims([waiting, used], 15, unused_too=False) == [used]

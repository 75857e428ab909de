"""Two listings are brought together whatever differs, and in little memory where little does."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.datasets.pairing import Pairing

LISTINGS = st.lists(st.integers(0, 12), max_size=20)


def brought_together(before, now, to_the_end=True):
    pairing = Pairing(now, key=str)
    pairs = [pair for one in before for pair in pairing.add(str(one), one)]
    return pairing, [*pairs, *pairing.search(to_the_end)]


@given(LISTINGS, LISTINGS)
def test_as_many_pairs_are_made_as_there_are_in_both(before, now):
    pairing, pairs = brought_together(before, now)
    assert all(one == other for one, other in pairs)
    assert Counter(one for one, _ in pairs) == Counter(before) & Counter(now)
    assert Counter(pairing.only_before()) == Counter(before) - Counter(now)
    alone = [*pairing.only_now(), *pairing.rest()]
    assert Counter(alone) == Counter(now) - Counter(before)


@given(st.lists(st.integers(), unique=True), st.data())
def test_what_is_left_keeps_its_order_before_and_behind_the_last_pair(now, data):
    before = [one for one in now if data.draw(st.booleans())]
    last = max((now.index(one) for one in before), default=-1)
    for to_the_end in (True, False):
        pairing, _ = brought_together(before, now, to_the_end)
        assert pairing.last == last
        assert pairing.only_now() == [one for one in now[: last + 1] if one not in before]
        assert list(pairing.rest()) == now[last + 1 :]


@given(st.lists(LISTINGS), LISTINGS)
def test_some_in_one_go_come_to_the_same_as_one_by_one(before, now):
    pairing, pairs = Pairing(now, key=lambda one: one), []
    for some in before:
        equal = pairing.add_equal(tuple(some))
        assert equal == () or equal == tuple(some)
        pairs += zip(equal, equal, strict=True) if equal else [pair for one in some for pair in pairing.add(one, one)]
    pairs += pairing.search(to_the_end=True)
    together = [one for some in before for one in some]
    assert Counter(one for one, _ in pairs) == Counter(together) & Counter(now)
    assert Counter(pairing.only_before()) == Counter(together) - Counter(now)
    assert Counter([*pairing.only_now(), *pairing.rest()]) == Counter(now) - Counter(together)


def test_some_in_one_go_are_found_again_behind_an_added_one():
    pairing = Pairing(["a", "new", "b", "c", "d", "e"], key=str)
    assert pairing.add_equal(("a", "b")) == ()
    assert [pair for one in "ab" for pair in pairing.add(one, one)] == [("a", "a"), ("b", "b")]
    assert pairing.add_equal(("c", "d")) == ("c", "d")
    assert list(pairing.search(to_the_end=True)) == []
    assert pairing.only_now() == ["new"]
    assert list(pairing.rest()) == ["e"]


def test_nothing_waits_where_the_two_are_equal_and_the_rest_is_not_drawn():
    drawn = []

    def now():
        for number in range(1000):
            drawn.append(number)
            yield number

    pairing = Pairing(now(), key=str)
    for number in range(500):
        assert pairing.add(str(number), number) == [(number, number)]
    assert list(pairing.search(to_the_end=False)) == []
    assert len(drawn) == 500
    assert list(pairing.rest()) == list(range(500, 1000))


def test_what_was_listed_behind_the_others_finds_its_place():
    now = ["a", "b", "new", "c", "d"]
    pairing, pairs = brought_together(["a", "b", "c", "d", "new"], now)
    assert sorted(one for one, _ in pairs) == sorted(now)
    assert pairing.only_now() == []
    assert list(pairing.rest()) == []

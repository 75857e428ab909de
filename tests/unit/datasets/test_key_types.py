"""Texts of keys become numbers only where nothing is lost and nothing is merged."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.datasets.key_types import key_type, typed

LIKE_NUMBERS = st.text("0123456789-+.e_ infa", max_size=6)
TEXTS = st.sets(
    st.one_of(
        st.text(max_size=5),
        LIKE_NUMBERS,
        st.integers().map(str),
        st.integers(1 << 52, 1 << 55).map(str),
        st.floats().map(repr),
    ),
    min_size=1,
)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1000"], "int"),
        (["0", "-1", "9223372036854775807", "-9223372036854775808"], "int"),
        (["9223372036854775808"], "str"),
        (["007"], "str"),
        (["8", "007"], "str"),
        (["-0"], "str"),
        (["+1"], "str"),
        (["1.5"], "float"),
        (["1", "1.5"], "float"),
        (["1.1", "1.10"], "str"),
        (["1", "1.0"], "str"),
        (["9007199254740992", "9007199254740993", "0.5"], "str"),
        (["nan"], "str"),
        (["inf"], "str"),
        (["1_000"], "str"),
        (["\u0661"], "str"),
        ([" 1"], "str"),
        ([""], "str"),
        (["", "1"], "str"),
        (["True"], "str"),
        (["2024-01-31"], "str"),
        ([None], "str"),
        ([None, "1"], "int"),
        ([datetime(2024, 1, 31)], "datetime"),
    ],
)
def test_a_key_has_the_one_type_that_fits_all_its_texts(texts, kind):
    assert key_type(texts) == kind


@given(TEXTS)
def test_different_texts_stay_different_values_of_one_type(texts):
    kind = key_type(texts)
    values = [typed(text, kind) for text in texts]
    assert len(set(values)) == len(texts)
    assert {type(value).__name__ for value in values} == {kind}


@given(TEXTS)
def test_a_number_among_numbers_is_written_as_its_text(texts):
    kind = key_type(texts)
    if kind != "float":
        assert {str(typed(text, kind)) for text in texts} == texts


@given(st.text(), st.sampled_from(["int", "float", "str", "bool", "date", "datetime"]))
def test_a_text_that_does_not_fit_a_type_stays_as_it_is(text, kind):
    value = typed(text, kind)
    assert value == text or type(value).__name__ == kind


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (None, "int", None),
        ("True", "bool", True),
        ("False", "bool", False),
        ("true", "bool", "true"),
        ("2024-01-31", "date", date(2024, 1, 31)),
        ("2024-01-31T10:00:00.000001", "datetime", datetime(2024, 1, 31, 10, 0, 0, 1)),
        ("-inf", "float", float("-inf")),
        ("1e+22", "float", 1e22),
        ("1_0", "float", "1_0"),
        ("18446744073709551615", "int", (1 << 64) - 1),
        ("18446744073709551616", "int", "18446744073709551616"),
        ("007", "int", "007"),
    ],
)
def test_a_text_means_a_value_of_its_keys_type(text, kind, value):
    assert typed(text, kind) == value
    assert type(typed(text, kind)) is type(value)

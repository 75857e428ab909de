"""What is written as a folder's name is read again as the same value."""

from __future__ import annotations

import os
from datetime import UTC, date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.datasets.key_folders import Unwritable, folder_name, kind_of_values, text_of
from prs_dask.datasets.key_types import typed
from prs_dask.datasets.path_format import MISSING, hive_pairs

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [MISSING, "", ".", "..", "a=b", "%2F", "%"]
)
VALUES = st.one_of(
    TEXTS,
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
)


@given(TEXTS.filter(bool), VALUES | st.none())
def test_a_value_comes_back_from_its_folder(key, value):
    kind = kind_of_values([] if value is None else [value]) or "str"
    folder = folder_name(key, None if value is None else text_of(value, kind))
    assert "/" not in folder
    assert "\0" not in folder
    assert folder[0] not in "._"
    assert folder not in (os.curdir, os.pardir)
    ((name, text),) = hive_pairs("p", f"{folder}/f").items()
    back = typed(text, kind)
    assert name == key
    assert back == value
    assert type(back) is type(value)


def test_names_that_would_be_hidden_or_missing_are_escaped():
    assert folder_name("_x", "1") == "%5Fx=1"
    assert folder_name(".x", "1") == "%2Ex=1"
    assert folder_name("x", MISSING) == "x=%5F_HIVE_DEFAULT_PARTITION__"
    assert folder_name("x", "") == "x="
    assert folder_name("é", "ü") == "é=ü"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], None),
        ([np.int8(1), 2], "int"),
        ([np.float32(1), 2], "float"),
        ([np.bool_(True)], "bool"),
        ([pd.Timestamp(0)], "datetime"),
        ([date(2024, 1, 1)], "date"),
        (["x"], "str"),
    ],
)
def test_a_key_has_the_type_of_its_values(values, kind):
    assert kind_of_values(values) == kind


@pytest.mark.parametrize("values", [[1, "x"], [True, 1], [b"x"], [(1,)], [Decimal(1)], [pd.Timedelta(1)]])
def test_values_of_other_or_several_types_are_refused(values):
    with pytest.raises(Unwritable, match="allowed"):
        kind_of_values(values)


def test_what_no_folder_can_hold_is_refused():
    with pytest.raises(Unwritable, match="258 bytes; allowed: 255"):
        folder_name("x", "y" * 256)
    with pytest.raises(Unwritable, match="UTF-8"):
        folder_name("x", "\ud800")
    with pytest.raises(Unwritable, match="microsecond"):
        text_of(pd.Timestamp(1), "datetime")

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.cli.terminal_text import printable


@given(st.text())
def test_nothing_that_a_terminal_obeys_comes_through(text: str) -> None:
    shown = printable(text)
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\n\t"]
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_direction_overrides_are_shown() -> None:
    assert printable("txt.\u202egpj") == "txt.\\u202egpj"

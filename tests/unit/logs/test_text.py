"""Text in logs cannot disturb a terminal or forge a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.text import one_line, plain, process_label, utc_text

anything = st.text(st.characters(exclude_categories=()))


@given(anything)
def test_one_line_is_printable_and_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(c < " " or "\x7f" <= c < "\xa0" for c in line)
    line.encode()


@given(anything)
def test_blocks_keep_newlines_and_tabs_only(text: str) -> None:
    assert not any((c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" for c in plain(text))


def test_control_characters_are_shown() -> None:
    assert one_line(" a\n\x1b[31m\tb\u202e\udc80é ") == r"a\n\x1b[31m\tb\u202e\udc80é"
    assert plain("a\r\n\tb\r\x1b") == "a\n\tb\\r\\x1b"
    assert one_line("x" * 600) == "x" * 500 + " … (100 characters more)"


def test_times_and_names() -> None:
    assert utc_text(1_767_225_600.9996) == "2026-01-01T00:00:00.999Z"
    assert process_label(0, 7) == "0/process007"
    assert process_label(2, 1234) == "2/process1234"
    assert process_label(-1, -1) == process_label(0, -1) == ""

"""A line is text for people or JSON for programs, and holds neither secrets nor control characters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.lines import LineFormat
from prs_dask.redaction import Redactor

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def test_text_has_its_time_and_further_lines_are_indented() -> None:
    line = LineFormat().line("driver", "settings:\na: 1\n\x1b[31m", NOW, event="settings", fields={"a": 1})
    assert line == b"2026-01-01T00:00:00.000Z settings:\n    a: 1\n    \\x1b[31m\n"


def test_json_has_the_same_words_and_its_fields() -> None:
    lines = LineFormat(as_json=True)
    line = lines.line("driver", "two\nlines", NOW, event="stage", level="ERROR", fields={"stage": "running", "n": 1.5})
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.000Z",
        "log": "driver",
        "level": "ERROR",
        "event": "stage",
        "message": "two\nlines",
        "stage": "running",
        "n": 1.5,
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_nowhere_in_a_line(as_json: bool) -> None:
    lines = LineFormat(Redactor({"storage_options": {"secret": "canary-value"}}).text, as_json=as_json)
    fields = {"canary-value": ["a canary-value", {"url": "https://h/?sig=abc"}], "path": "canary-value"}
    line = lines.line("driver", "text canary-value", NOW, fields=fields)
    assert b"canary-value" not in line
    assert b"sig=abc" not in line


@given(TEXT, st.dictionaries(TEXT, VALUES, max_size=3))
def test_whatever_text_a_json_line_is_one_line_of_ascii(text: str, fields: dict[str, object]) -> None:
    line = LineFormat(as_json=True).line("driver", text, NOW, fields=fields)
    assert line.isascii()
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert isinstance(told, dict)
    assert str(told).encode("utf-8")  # no lone surrogate in it


@given(TEXT)
def test_whatever_text_no_line_can_be_forged(text: str) -> None:
    first, *others = LineFormat().line("driver", text, NOW).decode("utf-8").split("\n")[:-1]
    assert first.startswith("2026-01-01T00:00:00.000Z ")
    assert all(line.startswith("    ") for line in others)

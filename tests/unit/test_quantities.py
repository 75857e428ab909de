from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.quantities import (
    format_bytes,
    format_count,
    format_rate,
    format_seconds,
    parse_memory_size,
    parse_mini_batch_size,
)


@pytest.mark.parametrize(
    ("written", "number", "has_unit"),
    [
        (1, 1, False),
        ("10", 10, False),
        ("1024", 1024, False),
        ("1024KB", 1024**2, True),
        ("10MB", 10 * 1024**2, True),
        ("10mb", 10 * 1024**2, True),
        ("1Gb", 1024**3, True),
    ],
)
def test_a_mini_batch_size_is_a_number_or_a_number_with_a_unit(written: object, number: int, has_unit: bool) -> None:
    assert parse_mini_batch_size(written) == (number, has_unit)


@pytest.mark.parametrize(
    "written",
    [
        *("1.5MB", "1 MB", "10B", "-5", "0", "1KBMB", "", "MB", " 10", "10\n", "0KB", "1TB", "٣", "1e3", "9" * 5000),
        *(0, -1, 1.5, 10.0, True, None, b"10", [10], 2**63, float("nan")),
    ],
)
def test_any_other_mini_batch_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="mini-batch size"):
        parse_mini_batch_size(written)


@given(st.integers(1, 10**6), st.sampled_from(["", "KB", "MB", "GB"]), st.booleans())
def test_units_are_powers_of_1024_in_any_case(number: int, unit: str, lower: bool) -> None:
    text = f"{number}{unit}"
    size = parse_mini_batch_size(text.lower() if lower else text)
    assert size == (number * 1024 ** ["", "KB", "MB", "GB"].index(unit), unit != "")


@given(st.text(max_size=8))
def test_no_text_breaks_the_parsers_otherwise_than_by_a_ValueError(text: str) -> None:
    for parse in (parse_mini_batch_size, parse_memory_size):
        with contextlib.suppress(ValueError):
            assert parse(text)


@pytest.mark.parametrize(
    ("written", "number"),
    [(4096, 4096), ("4096", 4096), ("2GB", 2 * 1024**3), ("512 mb", 512 * 1024**2), ("1.5GiB", 1536 * 1024**2)],
)
def test_memory_is_bytes_or_a_number_with_a_unit(written: object, number: int) -> None:
    assert parse_memory_size(written) == number


@pytest.mark.parametrize(
    "written", ["", "GB", "-1GB", "1XB", "2 foos", "1..5GB", 0, -1, True, 1.5, None, "9" * 19 + "TB"]
)
def test_any_other_amount_of_memory_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="memory"):
        parse_memory_size(written)


@given(st.integers(1, 2**60))
def test_bytes_for_people_read_back_to_about_the_same(number: int) -> None:
    text = format_bytes(number).replace(" bytes", "").replace(",", "").replace(" ", "")
    assert parse_memory_size(text) == pytest.approx(number, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 ms"), (0, "0 ms"), (0.9996, "1.0 s"), (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"), (48 * 3600, "2 d 0 h")],
)
def test_durations_turn_over_to_the_next_unit_without_a_sixtieth_second(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_counts_and_rates_are_grouped_and_scaled() -> None:
    assert format_count(1_000_000) == "1,000,000"
    assert [format_rate(rate) for rate in (60_000, 99.96, 1, 0.5, 0.001, 0)] == [
        "60,000/s",
        "100/s",
        "1.0/s",
        "30.0/min",
        "3.6/h",
        "0.0/s",
    ]

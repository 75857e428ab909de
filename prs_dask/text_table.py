"""Small tables in messages and logs."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["text_table"]

MOST_ROWS = 40


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines with columns of equal width; what is more than `MOST_ROWS` is counted.

    Examples
    --------
    >>> print(text_table(["node", "found"], [["0", "not installed"], ["12", "1.0"]]))
    node  found
    0     not installed
    12    1.0
    """
    shown = [header, *rows[:MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]
    return "\n".join(lines + ([f"and {len(rows) - MOST_ROWS:,} more"] if len(rows) > MOST_ROWS else []))

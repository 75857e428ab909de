"""Text in logs: what users wrote cannot disturb a terminal or forge a line. Times are UTC. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = [
    "MOST_OF_A_FIELD",
    "NO_NODE",
    "csv_field",
    "one_line",
    "plain",
    "process_label",
    "process_name",
    "shortened",
    "utc_text",
]

NO_NODE = -1
"""Stands for node and process where an attempt was lost together with them."""

MOST_OF_A_FIELD = 1000
"""Characters of a text in a table."""

# C0 and C1 controls, DEL, line separators, bidirectional overrides, lone surrogates.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_SHOWN_IN_BLOCKS = re.compile(_NOT_SHOWN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def plain(text: str) -> str:
    r"""Text over several lines with control characters shown as ``\x1b``; newlines and tabs stay."""
    return _NOT_SHOWN_IN_BLOCKS.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str, most: int = 500) -> str:
    r"""Text on one line of at most ``most`` characters; a newline in it is shown as ``\n``."""
    if len(text) <= most and text.isprintable():  # as most are
        return text.strip()
    return _NOT_SHOWN.sub(_escape, shortened(text.strip(), most))


def csv_field(text: str) -> str:
    """Text as one CSV field on one line."""
    text = one_line(text, MOST_OF_A_FIELD)
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text else text


def shortened(text: str, most: int) -> str:
    """Text of at most ``most`` characters, saying what was left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … ({len(text) - most:,} characters more)"


def utc_text(seconds: float) -> str:
    """Seconds since the epoch as ``2026-01-31T08:15:00.123Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def process_name(process: int) -> str:
    """``process007``."""
    return f"process{process:03d}"


def process_label(node: int, process: int) -> str:
    """``0/process007``, as in the paths of the tree; empty where both were lost."""
    return "" if NO_NODE in (node, process) else f"{node}/{process_name(process)}"

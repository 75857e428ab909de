"""Text of users and data, made safe to show on a terminal.

File names, error messages and log lines may hold control sequences that move the cursor, change
colours or hide text. They are shown as escapes (``\\x1b``), never sent.
"""

from __future__ import annotations

import re
import sys

__all__ = ["printable", "tell", "tell_error"]

# C0 but tab and newline, DEL, C1, surrogates, line and paragraph separators, direction marks and overrides.
_UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """The text with every character that a terminal could obey shown as an escape.

    Examples
    --------
    >>> print(printable("red: \\x1b[31m"))
    red: \\x1b[31m
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def tell(text: object = "") -> None:
    """Print a line on stdout."""
    import click

    click.echo(_encodable(printable(text), sys.stdout.encoding))


def tell_error(text: object) -> None:
    """Print a line on stderr."""
    import click

    click.echo(_encodable(printable(text), sys.stderr.encoding), err=True)


def _encodable(text: str, encoding: str | None) -> str:
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)

"""Patterns of an ignore file, by git's rules: gitignore(5), and what git's wildmatch.c makes of single letters.

They are made for a walk from the top: whoever is told that a folder is left out does not look into it, so that no later
pattern can bring back what lies there. Git compares bytes, and so does this: ``?`` is no letter with an accent.
"""

from __future__ import annotations

import os
import re
import string
from dataclasses import dataclass

__all__ = ["IgnorePatterns"]

_LETTERS = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, (*range(32), 127))),
    "digit": string.digits,
    "graph": string.ascii_letters + string.digits + string.punctuation,
    "lower": string.ascii_lowercase,
    "print": string.ascii_letters + string.digits + string.punctuation + " ",
    "punct": string.punctuation,
    "space": " \t\n\r",
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}
_CLASSES = {name.encode(): frozenset(letters.encode()) for name, letters in _LETTERS.items()}
_CLASS = re.compile(rb"\[:([^]]*):\]")
_STARS = re.compile(rb"\*+")
_SLASH, _BACKSLASH, _DASH, _CLOSED = b"/\\-]"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One line: the names that it is about, and whether it leaves them out or, with ``!``, keeps them."""

    names: re.Pattern[bytes]
    leaves_out: bool
    folders_only: bool


class IgnorePatterns:
    """The patterns of one ignore file; the last one that is about an entry decides.

    Parameters
    ----------
    content
        The file's. Lines that no name can match are passed over, as git does.

    Raises
    ------
    UnicodeDecodeError
        It is no UTF-8.
    """

    def __init__(self, content: bytes) -> None:
        lines = content.decode("utf-8-sig").encode().split(b"\n")
        patterns = (_pattern(line.removesuffix(b"\r")) for line in lines if not line.startswith(b"#"))
        self._last_first = [pattern for pattern in patterns if pattern is not None][::-1]

    def leaves_out(self, name: str, *, is_folder: bool) -> bool:
        """Does an entry stay at home, of which all folders above it are kept?

        Parameters
        ----------
        name
            Relative to the ignore file's folder, with ``/``.
        is_folder
            A link to a folder is none.
        """
        path = os.fsencode(name)
        for pattern in self._last_first:
            if (is_folder or not pattern.folders_only) and pattern.names.fullmatch(path):
                return pattern.leaves_out
        return False


def _pattern(line: bytes) -> _Pattern | None:
    text = line.rstrip(b" ")
    if text != line and (len(text) - len(text.rstrip(b"\\"))) % 2:
        text += b" "  # it is escaped
    keeps = text.startswith(b"!")
    folders_only = text.endswith(b"/")
    text = text[keeps : len(text) - folders_only]
    anywhere = b"" if b"/" in text else b"(?:.*/)?"
    try:
        names = re.compile(anywhere + _regex(text.removeprefix(b"/")), re.DOTALL)
    except (IndexError, KeyError):  # something is begun and never closed, or has a class that nobody knows
        return None
    return _Pattern(names, not keeps, folders_only)


def _regex(pattern: bytes) -> bytes:
    """The names as a regular expression."""
    parts: list[bytes] = []
    at = 0
    while at < len(pattern):
        if stars := _STARS.match(pattern, at):
            crosses = len(stars[0]) > 1 and (at == 0 or pattern[at - 1] == _SLASH)
            at = stars.end()
            if crosses and pattern.startswith(b"/", at):
                parts.append(rb"(?:.*/)?")
                at += 1
            else:
                crosses = crosses and (at == len(pattern) or pattern.startswith(b"\\/", at))
                parts.append(rb".*" if crosses else rb"[^/]*")
        elif pattern.startswith(b"?", at):
            parts.append(rb"[^/]")
            at += 1
        elif pattern.startswith(b"[", at):
            one_of, at = _set(pattern, at + 1)
            parts.append(one_of)
        else:
            at += pattern[at] == _BACKSLASH
            parts.append(re.escape(bytes([pattern[at]])))
            at += 1
    return b"".join(parts)


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """What is behind ``[``, and where it ends."""
    others = pattern.startswith((b"!", b"^"), at)
    at += others
    start, low = at, -1
    letters: set[int] = set()
    while at == start or pattern[at] != _CLOSED:  # the first may be a bracket
        if named := _CLASS.match(pattern, at):
            letters |= _CLASSES[named[1]]
            at, low = named.end(), -1
            continue
        is_range = low >= 0 and pattern[at] == _DASH and pattern[at + 1] != _CLOSED
        at += is_range
        at += pattern[at] == _BACKSLASH
        letters.update(range(low if is_range else pattern[at], pattern[at] + 1))
        low = -1 if is_range else pattern[at]
        at += 1
    chosen = (set(range(256)) - letters if others else letters) - {_SLASH}
    return b"[%b]" % b"".join(re.escape(bytes([one])) for one in sorted(chosen)) if chosen else rb"(?!)", at + 1

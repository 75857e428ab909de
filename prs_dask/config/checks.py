"""The parsers of single settings: a value in, the value to keep out. Pure.

A parser raises ``ValueError`` for a value that is refused: a plain one where the setting's list of
what is allowed says enough, ``Refused`` where there is more to tell.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsIndex

from prs_dask.config.refused import Refused
from prs_dask.config.requirements import parse_requirements
from prs_dask.quantities import LARGEST, parse_memory_size, parse_mini_batch_size

__all__ = [
    "LONGEST_SECONDS",
    "SMALLEST_MEMORY_LIMIT",
    "at_least",
    "backoff",
    "boolean",
    "entry_script",
    "environment",
    "environment_variables",
    "exception_names",
    "file_name",
    "folder",
    "is_address",
    "memory_limit",
    "mini_batch_size",
    "number_between",
    "one_of",
    "optional",
    "partition_keys",
    "seconds",
    "size",
    "text",
]

Parser = Callable[[object], Any]


LONGEST_SECONDS = 1e8
"""About three years: more overflows the clocks of the system below."""

SMALLEST_MEMORY_LIMIT = 16 * 1024**2
"""A Python process that has done nothing yet needs about as much."""

_ADDRESS = re.compile(r"(?:tcp|tls|ucx|ucxx|ws|wss|inproc)://\S+|[\w.\-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_EXCEPTION = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_FORBIDDEN_IN_FILE_NAMES = set('~"#%&*:<>?/\\{}|')


def is_address(value: str) -> bool:
    """Is it written as a Dask scheduler's address (``tcp://host:8786``, ``host:8786``)?"""
    return _ADDRESS.fullmatch(value) is not None


def optional(parser: Parser) -> Parser:
    """None, or what ``parser`` accepts."""

    def parse(value: object) -> Any:
        return None if value is None else parser(value)

    return parse


def at_least(smallest: int, largest: int = LARGEST) -> Parser:
    """A whole number in ``[smallest, largest]``; no bool, no float."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise ValueError
        number = value.__index__()
        if not smallest <= number <= largest:
            raise ValueError
        return number

    return parse


def number_between(smallest: float, largest: float) -> Parser:
    """A finite number in ``[smallest, largest]``; whole numbers stay whole."""

    def parse(value: object) -> float:
        if isinstance(value, (bool, str, bytes)) or not isinstance(value, (SupportsFloat, SupportsIndex)):
            raise ValueError
        number = value.__index__() if isinstance(value, SupportsIndex) else float(value)
        if not smallest <= number <= largest or not math.isfinite(number):
            raise ValueError
        return number

    return parse


def seconds(value: object) -> float:
    """A time span above 0."""
    number: float = number_between(0, LONGEST_SECONDS)(value)
    if number == 0:
        raise ValueError
    return number


def one_of(*words: str) -> Parser:
    """One of some words, in any case; kept as they are written here."""
    known = {word.lower(): word for word in words}

    def parse(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in known:
            raise ValueError
        return known[value.lower()]

    return parse


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def folder(value: object) -> str:
    """A folder's path, made absolute so that a later change of directory does not matter."""
    path = _path(value)
    return os.path.abspath(path)


def _path(value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError
    return path


def entry_script(value: object) -> object:
    """A script's path, or an object with ``run`` and maybe ``init`` and ``shutdown``."""
    if isinstance(value, (str, os.PathLike)):
        path = _path(value)
        if not path.endswith(".py"):
            raise Refused("which does not end in .py")
        return path
    if value is None or isinstance(value, (bytes, bool, int, float)):
        raise ValueError
    for name, needed in (("run", True), ("init", False), ("shutdown", False)):
        member = getattr(value, name, None)
        if member is None and not needed:
            continue
        if not callable(member):
            raise Refused(f"which has no function {name}" if member is None else f"whose {name} is no function")
    return value


def mini_batch_size(value: object) -> int | str:
    parse_mini_batch_size(value)
    return value if isinstance(value, str) else value.__index__()  # type: ignore[attr-defined]


def memory_limit(value: object) -> int:
    number = parse_memory_size(value)
    if number < SMALLEST_MEMORY_LIMIT:
        raise Refused("which no Python process can start in")
    return number


def size(value: object) -> int:
    return parse_memory_size(value)


def file_name(value: object) -> str:
    """One path component, free of what file systems and stores refuse."""
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise ValueError
    bad = sorted({character for character in value if character in _FORBIDDEN_IN_FILE_NAMES or ord(character) < 32})
    if bad:
        raise Refused(f"which contains {' '.join(repr(character)[1:-1] for character in bad)}")
    if len(os.fsencode(value)) > 240:
        raise Refused("which is too long")
    return value


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError
    if not value or not all(isinstance(one, str) and one for one in value):
        raise ValueError
    if len(set(value)) < len(value):
        raise Refused("which names one twice")
    return tuple(value)


def partition_keys(value: object) -> tuple[str, ...]:
    return _strings(value)


def exception_names(value: object) -> tuple[str, ...]:
    names = _strings(value)
    if not all(_EXCEPTION.fullmatch(name) for name in names):
        raise ValueError
    return names


def backoff(value: object) -> float | tuple[float, float, float]:
    """Seconds, or (first, factor, max): first ≥ 0, factor ≥ 1, max ≥ first."""
    wait = number_between(0, LONGEST_SECONDS)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        number: float = wait(value)
        return number
    if len(value) != 3:
        raise Refused(f"with {len(value)} numbers in place of 3")
    first, factor, longest = wait(value[0]), number_between(1, 1e6)(value[1]), wait(value[2])
    if longest < first:
        raise Refused("whose max is below its first")
    return (first, factor, longest)


def environment_variables(value: object) -> dict[str, str]:
    """Names and values; the messages tell names only, for values may be secrets."""
    if not isinstance(value, Mapping):
        raise ValueError
    kept: dict[str, str] = {}
    for name, content in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise Refused(f"where {name!r} is no name of a variable")
        if isinstance(content, bool) or not isinstance(content, (str, int, float)):
            raise Refused(f"where the value of {name} is a {type(content).__name__}")
        if "\0" in str(content):
            raise Refused(f"where the value of {name} holds a NUL character")
        kept[name] = str(content)
    return kept


def environment(value: object) -> tuple[str, ...] | str:
    """pip requirements, or the path of a file of them."""
    if isinstance(value, (str, os.PathLike)):
        return os.path.abspath(_path(value))
    return parse_requirements(value)

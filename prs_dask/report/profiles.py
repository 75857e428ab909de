"""The functions in which processes spent their time, from the files of cProfile (``--profiling_module cProfile``)."""

from __future__ import annotations

import marshal
import pstats
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["MOST_FILES", "Function", "top_functions"]

MOST_FILES = 200


class Function(NamedTuple):
    """One function, of all processes together.

    Parameters
    ----------
    place
        ``score.py:12``, with the folder it lies in; ``built in`` for C code.
    name
        Its name.
    calls
        How often it was called.
    own, total
        Seconds: in itself, and with what it called.
    """

    place: str
    name: str
    calls: int
    own: float
    total: float


def top_functions(paths: Iterable[Path], most: int = 30) -> tuple[list[Function], int]:
    """The functions with the most time of their own, and how many files were read.

    A file that is torn, or is none of cProfile's, is left out; of more than `MOST_FILES` the largest are read.
    """
    stats: pstats.Stats | None = None
    count = 0
    for path in sorted(paths, key=_size, reverse=True)[:MOST_FILES]:
        try:
            if not isinstance(marshal.loads(path.read_bytes()), dict):  # noqa: S302
                continue
            stats = pstats.Stats(str(path)) if stats is None else stats.add(str(path))
            count += 1
        except (OSError, EOFError, ValueError, TypeError, AttributeError):
            continue
    if stats is None:
        return [], 0
    functions = [
        Function(_place(file, line), name, int(calls), float(own), float(total))
        for (file, line, name), (_, calls, own, total, _) in stats.stats.items()  # type: ignore[attr-defined]
    ]
    return sorted(functions, key=lambda function: -function.own)[:most], count


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _place(file: str, line: int) -> str:
    return "built in" if file == "~" else f"{'/'.join(file.split('/')[-2:])}:{line}"

"""Reads processed_mini-batches.csv: the inverse of `prs_dask.logs.attempt_table`, one line at a time.

The table may be written to meanwhile, and may hold lines that a killed driver or a full disk has torn. A row is one
line, whatever text it holds, so a torn one costs itself and at most the row after it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from prs_dask.attempts.records import AttemptRecord, Category
from prs_dask.logs.attempt_table import FAILED, FAILED_ATTEMPT, OVERTAKEN, READ, SUCCEEDED
from prs_dask.logs.places import ATTEMPT_COLUMNS
from prs_dask.logs.text import NO_NODE

__all__ = ["AttemptRow", "AttemptRows", "iter_attempts", "lines_tried_again"]

_NEEDED = tuple(name for name in ATTEMPT_COLUMNS if name != READ)
_WIDTHS = (len(_NEEDED), len(ATTEMPT_COLUMNS))
"""Of a table that has lost its header: of an earlier version, or of this one."""

_PROCESS = "process"
_CATEGORIES = {"": 0, **{category.label: int(category) for category in Category}}
_new = tuple.__new__  # a quarter of the time that AttemptRecord(...) takes
_FINAL = {SUCCEEDED: 1, FAILED: 1, FAILED_ATTEMPT: 0, OVERTAKEN: 0}


class AttemptRow(NamedTuple):
    """One row of the table.

    Parameters
    ----------
    node, process
        Where it ran; both `NO_NODE` where they were lost with it.
    record
        The attempt. ``mini_batch`` is the mini-batch's id also for a part of it. What the table does not hold is 0
        (``length``), and ``results`` are no more than ``items``.
    part
        Which items of a bisected mini-batch: (start, stop).
    message
        Type and message of the error, on one line; empty where it succeeded.
    detail
        What the mini-batch holds; may be empty.
    """

    node: int
    process: int
    record: AttemptRecord
    part: tuple[int, int] | None
    message: str
    detail: str

    @property
    def name(self) -> str:
        """The mini-batch as it is called in logs: ``7``, or ``7[3:5]``."""
        number = self.record.mini_batch
        return str(number) if self.part is None else f"{number}[{self.part[0]}:{self.part[1]}]"


class AttemptRows:
    """Iterates over the rows; each time from the file's begin. See `iter_attempts`.

    Attributes
    ----------
    torn
        Lines that were passed over so far in the last iteration.
    """

    def __init__(self, path: str | os.PathLike[str], *, resumed: bool = False) -> None:
        self.torn = 0
        self._path = path
        self._resumed = resumed
        self._second = ("", 0.0)
        self._places: dict[str, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[AttemptRow]:
        self.torn = 0
        tried_again = lines_tried_again(self._path) if self._resumed else frozenset()
        take: _Taker | None = None
        for number, line in enumerate(_lines(self._path)):
            if number == 0 and (take := _Taker.of(line)) is not None:
                continue
            row = self._row(line, take)
            if row is None:
                self.torn += 1
            elif number in tried_again:
                yield row._replace(record=row.record._replace(final=0))
            else:
                yield row

    def _row(self, line: str, take: _Taker | None) -> AttemptRow | None:
        """None for what is no whole row."""
        try:
            fields: Sequence[str] = line[:-1].split(",") if '"' not in line else next(csv.reader((line,)))
            width = len(fields)
            if line[-1] != "\n" or (width not in _WIDTHS if take is None else width != take.width):
                return None
            if take is not None and not take.in_order:
                fields = take.columns(fields)
            name, attempt, process, when, items, good, _, elapsed, cpu, run, status, category = fields[:12]
            part = None
            if name[-1] == "]":
                name, _, items_of_it = name[:-1].partition("[")
                start, _, stop = items_of_it.partition(":")
                part = (int(start), int(stop))
            place = self._places.get(process) or self._place(process)
            second, seconds = self._second
            if when[:19] != second:  # most rows share theirs with the one before
                second, seconds = when[:19], datetime.fromisoformat(f"{when[:19]}+00:00").timestamp()
                self._second = second, seconds
            values = (
                int(name), int(attempt), _CATEGORIES[category] if category in _CATEGORIES else int(category),
                _FINAL[status], int(items), int(good), 0, seconds + int(when[20:23]) / 1000,
                float(elapsed), float(fields[14]) if len(fields) > 14 else 0.0, float(run), float(cpu),
            )  # fmt: skip
            return _new(AttemptRow, (*place, _new(AttemptRecord, values), part, fields[12], fields[13]))
        except (ValueError, LookupError, StopIteration, csv.Error):
            return None

    def _place(self, process: str) -> tuple[int, int]:
        if not process:
            return NO_NODE, NO_NODE
        node, _, number = process.partition("/" + _PROCESS)
        return self._places.setdefault(process, (int(node), int(number)))


def lines_tried_again(path: str | os.PathLike[str]) -> set[int]:
    """Numbers of the lines with final rows that are not the last one of their mini-batch; the header has number 0.

    Only a mini-batch that had failed is run again, by a resume, so what is remembered are the failures.
    """
    failed: dict[str, int] = {}
    tried_again = set()
    for number, line in enumerate(_lines(path)):
        name, *_, status, _ = (*line.split(",", 11), "", "")[:12]
        if status not in (FAILED, SUCCEEDED) or (status == SUCCEEDED and name not in failed):
            continue
        if name in failed:
            tried_again.add(failed.pop(name))
        if status == FAILED:
            failed[name] = number
    return tried_again


def _lines(path: str | os.PathLike[str]) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            yield from file
    except FileNotFoundError:
        return


def iter_attempts(path: str | os.PathLike[str], *, resumed: bool = False) -> AttemptRows:
    """Every attempt of a table, in the order in which they were recorded; memory does not grow with them.

    Parameters
    ----------
    path
        ``logs/sys/job_report/processed_mini-batches.csv``; where there is none, there are no rows.
    resumed
        The step run was resumed. Then a mini-batch may have failed for good and been run again: of its final rows
        the last counts, and those before it are given as what they have become, attempts that were tried again
        (``final`` 0). Takes one more pass, and memory for the failures.

    Examples
    --------
    >>> rows = iter_attempts("prs_runs/none/logs/sys/job_report/processed_mini-batches.csv")
    >>> list(rows), rows.torn
    ([], 0)
    """
    return AttemptRows(path, resumed=resumed)


class _Taker(NamedTuple):
    """Takes the columns out of a row by name, as the header has them."""

    columns: Callable[[Sequence[str]], Sequence[str]]
    width: int
    in_order: bool

    @classmethod
    def of(cls, header: str) -> _Taker | None:
        """None where the line is no header."""
        names = header.rstrip("\r\n").split(",")
        if any(name not in names for name in _NEEDED):
            return None
        places = [names.index(name) for name in (*_NEEDED, *([READ] if READ in names else []))]
        return cls(itemgetter(*places), len(names), places == list(range(len(places))))

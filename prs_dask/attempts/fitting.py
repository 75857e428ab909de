"""Which workers have what the step run wants to find installed, and what becomes of it where some have not. Pure.

====================================================  =====================================================
a worker that was there when the step run began       ends it as Failed, with one table of all that have
does not fit                                          come by then, unless ``node_count`` nodes fit
a worker that comes later does not fit                is left out, with a note
no worker has ever fitted, and nobody is waited for   ends it as Failed, whoever came when
====================================================  =====================================================

Nobody is told of before all that were there from the beginning have said what they have, or have gone, or have been
waited for: one table tells of all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from prs_dask.text_table import text_table

__all__ = ["Fitting", "Misfits"]

PATIENCE_SECONDS = 10.0
"""So long a table waits for workers that have not told what they have: one that hangs tells it never."""

Row = tuple[str, str, str]
"""Package, found, wanted."""


class Misfits(NamedTuple):
    """What is to be told.

    Parameters
    ----------
    ends
        Does it end the step run? Otherwise those workers are left out.
    text
        A sentence, and the table.
    """

    ends: bool
    text: str


class _Misfit(NamedTuple):
    node: str
    rows: tuple[Row, ...]
    first: bool


class Fitting:
    """See the module's docstring.

    Parameters
    ----------
    first
        The workers that are there when the step run begins.
    node_count
        Most nodes that are used; None: all.
    """

    def __init__(self, first: Iterable[str], node_count: int | None) -> None:
        self._first = frozenset(first)
        self._awaited = set(self._first)
        self._needed = node_count
        self._fitting: dict[str, int] = {}
        self._misfits: dict[str, _Misfit] = {}  # not told yet
        self._since = 0.0
        self._has_fitted = False

    def fits(self, worker: str, node: int) -> None:
        """A worker has all that is wanted."""
        self._awaited.discard(worker)
        self._fitting[worker] = node
        self._has_fitted = True

    def does_not_fit(self, worker: str, node: str, rows: Sequence[Sequence[str]], now: float) -> None:
        """A worker lacks something; ``node``: what the table calls its node."""
        self._awaited.discard(worker)
        self._since = self._since if self._misfits else now
        first = worker in self._first
        self._misfits[worker] = _Misfit(node, tuple((str(a), str(b), str(c)) for a, b, c in rows), first)

    def left(self, worker: str) -> None:
        """A worker is gone, or cannot be used for another reason."""
        self._awaited.discard(worker)
        self._fitting.pop(worker, None)

    def decide(self, now: float) -> Misfits | None:
        """What is to be told now, once; None where there is nothing, or others are waited for."""
        if not self._misfits or (self._awaited and now - self._since < PATIENCE_SECONDS):
            return None
        misfits, self._misfits = self._misfits, {}
        nodes = set(self._fitting.values())
        wanting = self._needed is None or len(nodes) < self._needed
        ends = (wanting and any(one.first for one in misfits.values())) or not (self._has_fitted or self._awaited)
        return Misfits(ends, _told(misfits.values(), ends=ends))


def _told(misfits: Collection[_Misfit], *, ends: bool) -> str:
    count = f"{len(misfits)} worker{'s' * (len(misfits) != 1)}"
    lack = "does not have" if len(misfits) == 1 else "do not have"
    rows = sorted({(one.node, *row) for one in misfits for row in one.rows})
    table = text_table(("node", "package", "found", "wanted"), rows)
    advice = "install it there, or change environment=" if ends else f"left out, others do the work: {count}"
    return f"environment: {count} {lack} what the step wants\n{table}\n{advice}"

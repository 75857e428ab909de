"""Which attempt is so slow that its mini-batch is started a second time, and which two attempts race for one.

Near the end of a step run, when nothing waits any more and lanes are idle, an attempt may hang on a machine that is
slower than the others, or for a reason that the next attempt does not have. A second one beside it costs nothing but
what is idle anyway; the first to succeed counts.

Far slower
    It has run for more than `FACTOR` times what `SHARE` of its peers took, and for `EXCESS_SECONDS` longer than their
    median. Its peers are the last `RECENT` that succeeded: inputs whose mini-batches take longer than those of others
    are compared with their own kind as soon as one in twenty of the last ones was of it. With fewer than `FEWEST`
    peers nobody knows what is slow.

Not for all
    Once in the life of a mini-batch. Never for one that a lost worker or node makes a suspect, for a part of a bisected
    one, and not at all once an attempt has come with files: what a process has stored it may want to add to, and the
    one that is killed would not come to that.

The two are one try: they have one number, and the try has failed when both have.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from prs_dask.attempts.grants import Grant, LaneKey
from prs_dask.quantities import format_seconds

__all__ = ["Race", "RunTimes", "Speculation"]

FACTOR = 1.5
SHARE = 0.95
EXCESS_SECONDS = 1.0
RECENT = 256
FEWEST = 10

OTHER_NODE_SECONDS = 1.0
"""So long an idle lane of the same node leaves it to one of another node, where there is such a lane."""

Race = tuple[LaneKey, LaneKey]
"""The lanes that run the same mini-batch; who was first stands first."""


class RunTimes:
    """What the last attempts that succeeded have taken, in seconds."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=RECENT)
        self._limit: float | None = None

    def add(self, seconds: Iterable[float]) -> None:
        """Attempts that succeeded took so long."""
        self._last.extend(seconds)
        self._limit = None

    @property
    def far_slower(self) -> float:
        """Seconds from which on an attempt is far slower than these; infinite while there are too few of them."""
        if self._limit is None:
            self._limit = self._find()
        return self._limit

    def _find(self) -> float:
        if len(self._last) < FEWEST:
            return math.inf
        ordered = sorted(self._last)
        share = ordered[math.ceil(SHARE * len(ordered)) - 1]
        median = ordered[(len(ordered) - 1) // 2]
        return max(FACTOR * share, median + EXCESS_SECONDS)


class Speculation:
    """Second attempts of one step run.

    Parameters
    ----------
    enabled
        Are there any?

    Attributes
    ----------
    races
        By mini-batch id: the two lanes that run it.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.times = RunTimes()
        self.races: dict[int, Race] = {}

    def files_came(self) -> None:
        """The script stores files: no more second attempts from here on."""
        self.enabled = False

    def slow(self, grants: Iterable[Grant], now: float) -> list[Grant]:
        """Those that run one mini-batch, far slower than its peers, which may be started a second time; the slowest
        first."""
        if not self.enabled or (limit := self.times.far_slower) == math.inf:
            return []
        found = [grant for grant in grants if now - grant.since > limit and _may_be_doubled(grant)]
        return sorted(found, key=lambda grant: grant.since)

    def choose(
        self,
        slow: Iterable[Grant],
        lane: LaneKey,
        process: str,
        now: float,
        node_of: Callable[[LaneKey], int | None],
        idle_beyond: Callable[[int | None], bool],
    ) -> Grant | None:
        """The one of which this idle lane gets a second attempt.

        Parameters
        ----------
        slow
            What `slow` has found.
        node_of
            The node of a lane.
        idle_beyond
            Is a lane idle on another node than this?
        """
        for grant in slow:
            [mini_batch] = grant.open.values()
            if mini_batch.avoid == process:
                continue
            node = node_of(grant.lane)
            waited = now - grant.since - self.times.far_slower
            if node_of(lane) != node or waited > OTHER_NODE_SECONDS or not idle_beyond(node):
                return grant
        return None

    def why(self, slow: Grant, now: float) -> str:
        """In words: what makes it far slower."""
        took, limit = format_seconds(now - slow.since), format_seconds(self.times.far_slower)
        return f"after {took}: from {limit} on an attempt is far slower than those that succeeded"


def _may_be_doubled(grant: Grant) -> bool:
    """Is it certain which mini-batch is under way, and does nothing speak against a second attempt of it?"""
    if len(grant.open) != 1 or grant.careful:
        return False
    [mini_batch] = grant.open.values()
    return not (mini_batch.doubled or mini_batch.part or mini_batch.losses or mini_batch.nodes_lost)

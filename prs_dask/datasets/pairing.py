"""Two listings of nearly the same things, brought together in as much memory as they differ. Pure.

Both are in the same order but for what was added, removed or listed behind the others later on. One step of each
is taken in turn, and what has no partner yet waits: nothing where the two are equal, one entry for each that was added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["Pairing"]

Before = TypeVar("Before")
Now = TypeVar("Now")


class Pairing(Generic[Before, Now]):
    """What was listed before is given one by one; what there is now is drawn as that goes on.

    Keys may come several times: as many pairs are made as there are in both.

    Parameters
    ----------
    now
        What there is now, lazily.
    key
        What it is told by.

    Attributes
    ----------
    last
        Place in ``now`` of the last that has a partner; -1 while there is none.
    """

    def __init__(self, now: Iterable[Now], key: Callable[[Now], Hashable]) -> None:
        self.last = -1
        self._now = iter(now)
        self._key = key
        self._place = -1
        self._drawn: deque[Now] = deque()
        self._waiting_before: dict[Hashable, list[Before]] = {}
        self._waiting_now: dict[Hashable, list[tuple[int, Now]]] = {}

    def _draw(self, count: int) -> list[Now]:
        """The next ones there are now, fewer at the end only."""
        drawn = [self._drawn.popleft() for _ in range(min(count, len(self._drawn)))]
        return drawn + list(islice(self._now, count - len(drawn)))

    def add_equal(self, keys: tuple[Hashable, ...]) -> tuple[Now, ...]:
        """The next ones there are now, if they are just these; else none, and `add` is to be used.

        Some in one go: ten times as fast where nothing has changed. For things that are equal to their keys.
        """
        if self._waiting_before or not self._waiting_now.keys().isdisjoint(keys):
            return ()
        drawn = tuple(self._draw(len(keys)))
        if drawn != keys:
            self._drawn.extendleft(reversed(drawn))
            return ()
        self._place += len(drawn)
        self.last = max(self.last, self._place)
        return drawn

    def add(self, key: Hashable, before: Before) -> Sequence[tuple[Before, Now]]:
        """One that was listed before; returns the pairs that have come together by this."""
        if key in self._waiting_now:
            place, now = _taken(self._waiting_now, key)
            self.last = max(self.last, place)
            return ((before, now),)
        self._waiting_before.setdefault(key, []).append(before)
        pairs: list[tuple[Before, Now]] = []
        for _ in range(2):  # one more than was given: so a lag behind those that were added is made up for
            for now in self._draw(1):
                pairs += self._come(now)
            if not self._waiting_before:
                break
        return pairs

    def _come(self, now: Now) -> Sequence[tuple[Before, Now]]:
        self._place += 1
        key = self._key(now)
        if key in self._waiting_before:
            self.last = self._place
            return ((_taken(self._waiting_before, key), now),)
        self._waiting_now.setdefault(key, []).append((self._place, now))
        return ()

    def search(self, to_the_end: bool) -> Iterator[tuple[Before, Now]]:
        """Pairs of those that still wait, when all that was listed before has been given.

        Parameters
        ----------
        to_the_end
            Draw all there is now; otherwise only as long as something that was listed before waits for its partner.
        """
        while to_the_end or self._waiting_before:
            drawn = self._draw(1)
            if not drawn:
                return
            yield from self._come(drawn[0])

    def only_before(self) -> list[Before]:
        """What was listed before and has no partner."""
        return [one for some in self._waiting_before.values() for one in some]

    def only_now(self) -> list[Now]:
        """What was drawn and has no partner, up to the last one that has."""
        return [now for place, now in self._unpaired() if place < self.last]

    def rest(self) -> Iterator[Now]:
        """What comes behind the last that has a partner; draws it lazily."""
        yield from [now for place, now in self._unpaired() if place > self.last]
        yield from self._drawn
        yield from self._now

    def _unpaired(self) -> list[tuple[int, Now]]:
        return sorted(
            ((place, now) for some in self._waiting_now.values() for place, now in some), key=lambda one: one[0]
        )


Waiting = TypeVar("Waiting")


def _taken(waiting: dict[Hashable, list[Waiting]], key: Hashable) -> Waiting:
    some = waiting[key]
    one = some.pop(0)
    if not some:
        del waiting[key]
    return one

"""How many workers there should be while there are step runs: Dask's own ``adaptive_target``, corrected.

Of a step run Dask sees permits only: they say nothing of what waits, they last, and each worker gets some, so that
Dask would want more and more workers as long as there is a little work. Where nobody else has tasks the step runs
alone tell how many are wanted; else it is the larger of the two numbers.

The scheduler's method and the handler of its name are replaced while there is a step run: `Adaptive` asks the handler,
Dask's pages the method. The last step run puts both back as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import dask
from dask.utils import key_split, parse_timedelta

from prs_dask.engine.run_settings import plugin_name

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

__all__ = ["join", "leave"]

Wanted = Callable[[float], int]
"""From the seconds within which all should end to the number of workers."""

_NAME = "adaptive_target"
_TO_DO: tuple[Literal["waiting", "queued", "no-worker", "processing"], ...] = (
    "waiting",
    "queued",
    "no-worker",
    "processing",
)

_reckonings: WeakKeyDictionary[Scheduler, _Reckoning] = WeakKeyDictionary()


class _Reckoning:
    """That of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.runs: dict[str, Wanted] = {}
        self._prefixes = scheduler.task_prefixes
        self._of_dask: Callable[..., int] = scheduler.adaptive_target
        self._handler = scheduler.handlers[_NAME]
        setattr(scheduler, _NAME, self.target)
        scheduler.handlers[_NAME] = self.target

    def target(self, target_duration: Any = None) -> int:
        """As `Scheduler.adaptive_target`."""
        if target_duration is None:
            target_duration = dask.config.get("distributed.adaptive.target-duration")
        horizon = float(parse_timedelta(target_duration))
        wanted = sum(run(horizon) for run in self.runs.values())
        return max(self._of_dask(target_duration), wanted) if self._others_have_tasks() else wanted

    def _others_have_tasks(self) -> bool:
        ours = {key_split(plugin_name(run)) for run in self.runs}
        return any(
            prefix.states.get(state) for name, prefix in self._prefixes.items() if name not in ours for state in _TO_DO
        )

    def put_back(self, scheduler: Scheduler) -> None:
        """As it was; what somebody else has put there meanwhile stays."""
        if scheduler.__dict__.get(_NAME) == self.target:
            delattr(scheduler, _NAME)
        if scheduler.handlers.get(_NAME) == self.target:
            scheduler.handlers[_NAME] = self._handler


def join(scheduler: Scheduler, run: str, wanted: Wanted) -> None:
    """A step run counts from now on."""
    reckoning = _reckonings.get(scheduler)
    if reckoning is None:
        reckoning = _reckonings[scheduler] = _Reckoning(scheduler)
    reckoning.runs[run] = wanted


def leave(scheduler: Scheduler, run: str) -> None:
    """It counts no more."""
    reckoning = _reckonings.get(scheduler)
    if reckoning is not None:
        reckoning.runs.pop(run, None)
        if not reckoning.runs:
            _reckonings.pop(scheduler).put_back(scheduler)

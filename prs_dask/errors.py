"""Every error prs_dask raises, in one tree.

Each branch says whose turn it is to act::

    PrsError
    ├── SettingsError          the user's settings: all faults at once, before anything starts
    │   ├── InputError         an input that is missing, empty or unreadable
    │   ├── OutputError        an output that exists, or cannot be written
    │   └── ResumeError        a step run that cannot be resumed so: what has changed since it began
    ├── ReadError              the data of one mini-batch is not what the dataset says
    ├── EntryScriptError       the user's code: it cannot be loaded, init() or run() failed
    ├── ClusterError           the machines: no workers, other versions, the scheduler is gone
    ├── StepRunFailed          a step run that ended as Failed or Canceled
    └── EngineError            a fault of prs_dask itself: please report it

Messages say what was found, what is allowed and what to do; the parts are attributes too.
All of them survive pickling.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "ClusterError",
    "EngineError",
    "EntryScriptError",
    "Fault",
    "InputError",
    "OutputError",
    "PrsError",
    "ReadError",
    "ResumeError",
    "SettingsError",
    "StepRunFailed",
]


class PrsError(Exception):
    """Base of all errors that prs_dask raises."""


class Fault(NamedTuple):
    """One thing that is wrong with the user's settings.

    Parameters
    ----------
    name
        The setting, as the user spells it (``mini_batch_size``).
    found
        What was found, already as text (``'1.5MB'``).
    allowed
        What is allowed there.
    try_this
        A value or action to copy; empty where there is none.
    """

    name: str
    found: str
    allowed: str
    try_this: str = ""

    def __str__(self) -> str:
        text = f"{self.name}: found {self.found}; allowed: {self.allowed}"
        return f"{text}; try: {self.try_this}" if self.try_this else text


class SettingsError(PrsError):
    """Settings that cannot work; nothing was started or written.

    Parameters
    ----------
    faults
        Every fault that was found, at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        return f"{len(self.faults)} settings cannot be used:\n{lines}"

    def __reduce__(self) -> tuple[type[SettingsError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class InputError(SettingsError):
    """An input is missing, matches nothing or cannot be read."""


class OutputError(SettingsError):
    """An output exists already or cannot be written."""


class ResumeError(SettingsError):
    """A step run cannot be resumed like this; its run folder was not changed.

    Each fault is a difference: ``found`` is what there is now, ``allowed`` what it was before.
    """

    def _text(self) -> str:
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        count = f"{len(self.faults)} differences" if len(self.faults) > 1 else "one difference"
        return f"the step run cannot be resumed like this, {count}:\n{lines}"


class ReadError(PrsError):
    """A mini-batch cannot be read: its data is not what the dataset says. Names file and line."""


class EntryScriptError(PrsError):
    """The entry script cannot be loaded, or its ``init()`` failed."""


class ClusterError(PrsError):
    """The cluster cannot do the work: no workers, other versions, a lost scheduler."""


class EngineError(PrsError):
    """A fault of prs_dask itself."""


class StepRunFailed(PrsError):
    """A step run ended as Failed or Canceled.

    Parameters
    ----------
    state
        ``"Failed"`` or ``"Canceled"``.
    cause
        Why, in a sentence or more.
    run_folder
        Where its logs and partial output lie.
    resume
        How to go on with it: a command or a call; may be empty.
    """

    def __init__(self, state: str, cause: str, run_folder: str, resume: str = "") -> None:
        self.state = state
        self.cause = cause
        self.run_folder = run_folder
        self.resume = resume
        advice = f"\nto go on with it: {resume}" if resume else ""
        super().__init__(f"the step run {state.lower()}: {cause}\nlogs: {run_folder}/logs{advice}")

    def __reduce__(self) -> tuple[type[StepRunFailed], tuple[str, str, str, str]]:
        return type(self), (self.state, self.cause, self.run_folder, self.resume)

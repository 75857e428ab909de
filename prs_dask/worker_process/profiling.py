"""Profiles of a worker process, where they are asked for (``--profiling_module``).

``cProfile`` measures ``run()``, in the thread that calls it, and what a generator that it returns does. The file is
written between mini-batches, every few seconds at first, every minute at last, and never within their limits, so that a
process that is killed leaves all but the last of it. ``memray`` follows memory from before the script is imported; its
file grows as it goes, and can be read whatever has become of the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prs_dask.errors import EntryScriptError

if TYPE_CHECKING:
    from prs_dask.entry_script.host import ScriptHost

__all__ = ["PROFILING_MODULES", "Profile", "profile_file", "profile_of"]

SAVE_SECONDS = 5.0
SAVED_PART = 10
MOST_SAVE_SECONDS = 60.0
"""Each time it is sent whole: not before another tenth of the process' life, up to a minute."""

COST_FACTOR = 100
"""Writing takes a hundredth of the time at most, however large the profile is."""

_ENDINGS = {"cProfile": ".profile", "memray": ".memray.bin"}
PROFILING_MODULES = tuple(_ENDINGS)


def profile_file(module: str, process: str) -> str:
    """Name of the file, ``process007.profile``."""
    return process + _ENDINGS[module]


def profile_of(module: str | None, folder: str, process: str) -> Profile:
    """The profile that was asked for.

    Parameters
    ----------
    module
        ``"cProfile"``, ``"memray"``, or None.
    folder
        Where its file goes.
    process
        ``process007``.

    Raises
    ------
    EntryScriptError
        The module is not installed here.
    """
    if module is None:
        return Profile()
    path = os.path.join(folder, profile_file(module, process))
    return TimeProfile(path) if module == "cProfile" else MemoryProfile(path)


class Profile:
    """None: nothing is measured."""

    def follow(self, host: ScriptHost) -> None:
        """The script has been loaded."""

    @property
    def is_due(self) -> bool:
        """Is there something to be saved?"""
        return False

    def save(self) -> None:
        """Write what has been measured so far; for the time between mini-batches."""

    def end(self) -> None:
        """The process has come to its end."""


class TimeProfile(Profile):
    """cProfile's.

    Parameters
    ----------
    path
        Of the file.
    complain
        Is told once what goes wrong; then nothing more is measured.
    """

    def __init__(self, path: str, complain: Callable[[str], None] | None = None) -> None:
        from cProfile import Profile as Profiler

        from prs_dask.output.rows import materialise
        from prs_dask.worker_process.attempts import complain as on_stderr

        self._profiler: Any = Profiler()
        self._materialise = materialise
        self._complain = complain or on_stderr
        self._path = path
        self._works = True
        self._begun = time.monotonic()
        self._due = 0.0
        self._changed = False

    def follow(self, host: ScriptHost) -> None:
        """Measure each call of its ``run()`` from now on."""
        run, materialise = host.run_function, self._materialise

        def profiled(*arguments: Any) -> Any:
            self._begin()
            try:
                return materialise(run(*arguments))
            finally:
                self._profiler.disable()

        host.run_function = profiled

    def _begin(self) -> None:
        if self._works:
            try:
                self._profiler.enable()
                self._changed = True
            except ValueError as error:  # since Python 3.12 there is one at a time, and the script has its own
                self._give_up(error)

    @property
    def is_due(self) -> bool:
        """Has something been measured since it was written, and is it long enough ago?"""
        return self._changed and time.monotonic() >= self._due

    def save(self) -> None:
        """Write it; who reads it meanwhile reads what was there before."""
        if not self._works or not self._changed:
            return
        begun = time.monotonic()
        new = f"{self._path}.new"
        try:
            self._profiler.dump_stats(new)
            os.replace(new, self._path)
        except BaseException as error:  # an alarm of user code may raise anything here
            self._give_up(error)
        now = time.monotonic()
        self._changed = False
        pause = min(max(SAVE_SECONDS, (now - self._begun) / SAVED_PART), MOST_SAVE_SECONDS)
        self._due = now + max(pause, COST_FACTOR * (now - begun))

    def end(self) -> None:
        """Write the rest."""
        self.save()

    def _give_up(self, error: BaseException) -> None:
        self._works = self._changed = False
        self._complain(f"no more profile of this process: {type(error).__name__}: {error}")


class MemoryProfile(Profile):
    """memray's.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: str) -> None:
        try:
            from memray import Tracker
        except ImportError as error:
            raise EntryScriptError(
                f"--profiling_module: found memray, which is not installed where the worker processes run ({error});"
                " try: pip install 'prs-dask[memray]' there"
            ) from error
        self._tracker = Tracker(path)
        self._tracker.__enter__()

    def end(self) -> None:
        """Close the file; it can be read without that, too."""
        with suppress(Exception):
            self._tracker.__exit__(None, None, None)

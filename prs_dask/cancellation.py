"""A wish from another thread that something be no more waited for; whoever waits says how the wait is ended.

Between submit and the first mini-batch there is much to wait for: hosts over SSH, an address, versions, side inputs.
Each of these waits stands within `Cancellation.by` or is one of `Cancellation.awaited`, and ends as `Canceled` at once
when the step run is to end; what had been begun is cleared away on the way up, as after any error.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

__all__ = ["Canceled", "Cancellation"]

T = TypeVar("T")


class Canceled(Exception):
    """It is not to be waited for any longer."""


class Cancellation:
    """Asked for once, and never taken back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._hooks: list[Callable[[], object]] = []

    @property
    def asked(self) -> bool:
        """Was it asked for?"""
        return self._asked

    def ask(self) -> None:
        """End all that is waited for now, and let no other wait begin."""
        with self._lock:
            self._asked = True
            for hook in self._hooks:
                hook()

    @contextlib.contextmanager
    def by(self, hook: Callable[[], object]) -> Iterator[None]:
        """A wait within this context is ended by a hook, which is called from another thread and returns at once.

        Raises
        ------
        Canceled
            It was asked for before, or the hook has canceled what was waited for.
        """
        with self._lock:
            if self._asked:
                raise Canceled
            self._hooks.append(hook)
        try:
            yield
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            if not self._asked:
                raise
            raise Canceled from None
        finally:
            with self._lock:
                self._hooks.remove(hook)

    async def awaited(self, function: Callable[..., Awaitable[T]], *arguments: Any, **settings: Any) -> T:
        """What a coroutine function gives; the task that waits for it here is canceled when that is asked for."""
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
        with self.by(lambda: loop.call_soon_threadsafe(task.cancel)):
            return await function(*arguments, **settings)

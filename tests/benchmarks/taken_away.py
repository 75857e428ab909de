"""What parts of the engine cost that it has no switch for: the same job with them and without, in turn."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from unittest import mock

from distributed import Client

__all__ = ["PAIRS", "Part", "in_pairs", "nothing", "replace_here", "ship_nothing", "taken_away", "tell_percent"]

PAIRS = 5

T = TypeVar("T")
Part = tuple[object, str, Callable[..., Any]]
"""Its owner, its name there, and what it is replaced by."""


def in_pairs(on: Callable[[], T], off: Callable[[], T]) -> list[tuple[T, T]]:
    """What both give, `PAIRS` times side by side; which of them comes first changes."""
    return [(on(), off()) if number % 2 else (off(), on())[::-1] for number in range(PAIRS)]


def tell_percent(figure: dict[str, Any], name: str, shares: Iterable[float]) -> None:
    """The median of these shares, and all of them."""
    percents = sorted(100 * share for share in shares)
    figure[name] = round(statistics.median(percents), 1)
    figure[f"{name}_all"] = [round(percent, 1) for percent in percents]


def nothing(*_: Any, **__: Any) -> None:
    """What most parts are replaced by."""


@contextlib.contextmanager
def taken_away(client: Client, on_driver: Iterable[Part], on_workers: Callable[[], None]) -> Iterator[None]:
    """Without these parts of the driver; a function takes away others on every worker, with `replace_here`."""
    with contextlib.ExitStack() as stack:
        for owner, name, new in on_driver:
            stack.enter_context(mock.patch.object(owner, name, new))
        stack.callback(client.run, _put_back)
        client.run(on_workers)
        yield


_REPLACED = contextlib.ExitStack()
"""On a worker: it puts back what was there before."""


def replace_here(owner: object, name: str, new: Any) -> None:
    """On a worker, until `taken_away` ends."""
    _REPLACED.enter_context(mock.patch.object(owner, name, new))


def _put_back() -> None:
    _REPLACED.close()


def ship_nothing() -> None:
    """On a worker."""
    import asyncio

    from prs_dask.engine.supervisor import Supervisor

    async def rest(_: Supervisor) -> None:
        await asyncio.Event().wait()

    replace_here(Supervisor, "_ship", rest)

"""Faults of a store that pass by themselves are met by asking again.

Five times within about ten seconds: a mini-batch has half a minute to be read (``task_overhead_timeout``). The
clients' own retries are switched off, so that there is one count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from prs_dask.errors import PrsError
from prs_dask.stores.failures import Failure, describe, kind_of
from prs_dask.stores.options import StorageOptions

__all__ = ["TRIES", "patiently"]

TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
MOST_SECONDS = 60.0

T = TypeVar("T")


def patiently(ask: Callable[[], T], url: str, options: StorageOptions | None, stop: threading.Event | None = None) -> T:
    """What ``ask`` returns, asked again while faults are transient, and until ``stop`` is set.

    Raises
    ------
    FileNotFoundError
        There is no such file. Never asked again.
    AccessRefused
        401, 403, no credentials. Never asked again.
    StoreFailed
        Anything else.
    """
    from tenacity import (
        Retrying,
        retry_if_exception,
        sleep_using_event,
        stop_after_attempt,
        stop_after_delay,
        stop_when_event_set,
        wait_exponential,
        wait_random,
    )

    stop = stop or threading.Event()
    asking = Retrying(
        sleep=sleep_using_event(stop),
        stop=stop_after_attempt(TRIES) | stop_after_delay(MOST_SECONDS) | stop_when_event_set(stop),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + wait_random(0, FIRST_WAIT),
        retry=retry_if_exception(lambda error: kind_of(error) is Failure.TRANSIENT),
        reraise=True,
    )
    try:
        return asking(ask)
    except PrsError:
        raise
    except Exception as error:
        # Without the cause: clients' messages hold URLs with their queries.
        raise describe(error, url, options) from None

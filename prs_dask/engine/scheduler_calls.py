"""The driver's calls to the scheduler plugin, and how it finds out that there is no scheduler any more.

====================================  ===================================================================
the connection is closed              waited for as long as `LOST_SECONDS`: Dask connects again
it stands, but nothing is answered    waited for as long as `SILENT_SECONDS`: a scheduler may be busy
another scheduler answers             at once: it was started anew and knows nothing of the step run
the Client was closed                 at once
====================================  ===================================================================

A call is tried again and again within these times; calls may be repeated, see `RunPlugin`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prs_dask.engine.run_settings import OP
from prs_dask.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SchedulerCalls", "SchedulerGone"]

LOST_SECONDS = 10.0
SILENT_SECONDS = 30.0
TRY_SECONDS = 5.0
"""One try; it answers within a quarter of a second where all is well."""

STOPPING_SECONDS = 5.0
"""Who has been told to stop waits no longer than this, for either."""


class SchedulerGone(ClusterError):
    """Nothing can be asked of the scheduler any more: there is none, or it does not know the step run."""


class SchedulerCalls:
    """Calls of one step run, from any thread but that of the client's event loop.

    Parameters
    ----------
    client
        Of the cluster.
    run_id
        The step run.
    """

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._address = client.scheduler.address if client.scheduler is not None else "the given address"
        self._scheduler = _identity(client)
        self._patience = SILENT_SECONDS

    def hurry(self, seconds: float = STOPPING_SECONDS) -> None:
        """Wait no longer than this for the scheduler from now on."""
        self._patience = min(self._patience, seconds)

    def __call__(self, call: str, **arguments: Any) -> dict[str, Any]:
        """The answer.

        Raises
        ------
        SchedulerGone
            There is none.
        ClusterError
            A fault of our own over there.
        """
        silent = lost = 0.0
        while True:
            begun = time.monotonic()
            try:
                operation = getattr(self._usable_scheduler(lost), OP)
                answer: dict[str, Any] | None = self._client.sync(
                    operation, run=self._run_id, call=call, callback_timeout=self._one_try, **arguments
                )
            except (OSError, RuntimeError, UnboundLocalError) as problem:  # the last: Dask's, for a call it cancels
                time.sleep(0.1)
                # No more than one try's worth: this process may have been stopped meanwhile.
                took = min(time.monotonic() - begun, TRY_SECONDS)
                if self._client.status == "running":
                    silent += took
                elif not self._closed_here:  # who closes the Client ends this call before it may say so
                    lost += took
                self._give_up(silent, lost, problem)
                continue
            if answer is None:  # what Dask answers to an op that it does not know
                raise self._closed("")
            if "fault" in answer:
                raise ClusterError(answer["fault"])
            if answer.get("closed"):
                raise self._closed(answer.get("why", ""))
            return answer

    @property
    def _one_try(self) -> float:
        return max(1.0, min(TRY_SECONDS, self._patience))

    @property
    def _closed_here(self) -> bool:
        return self._client.scheduler is None or self._client.status in ("closing", "closed")

    def _usable_scheduler(self, lost: float = 0.0) -> Any:
        client = self._client
        if self._closed_here:
            if lost:  # it has closed itself, since it could not connect again
                raise self._lost(lost, "")
            raise SchedulerGone(
                f"the Client of the scheduler at {self._address} was closed while the step run went on, by the program "
                "that had made it or because its cluster was closed"
            )
        if client.status == "running" and _identity(client) != self._scheduler:
            raise SchedulerGone(
                f"the scheduler at {self._address} was started anew while the step run went on, and knows nothing of it"
            )
        return client.scheduler

    def _give_up(self, silent: float, lost: float, problem: BaseException) -> None:
        if lost and lost >= min(LOST_SECONDS, self._patience):
            raise self._lost(lost, f" ({_words(problem)})") from problem
        if silent >= self._patience:
            raise SchedulerGone(
                f"the scheduler at {self._address} has not answered for {silent:.0f} s: it is stopped, hangs, or its"
                f" host is not there ({_words(problem)})"
            ) from problem

    def _lost(self, seconds: float, words: str) -> SchedulerGone:
        return SchedulerGone(
            f"the connection to the scheduler at {self._address} is lost and did not come back within {seconds:.0f} s:"
            f" its process has ended, or its host or the network has failed{words}"
        )

    def _closed(self, why: str) -> SchedulerGone:
        self._usable_scheduler()  # a new one that has other step runs answers too
        return SchedulerGone(f"the scheduler at {self._address} has ended the step run: {why or 'it does not know it'}")


def _identity(client: Client) -> Any:
    return client._scheduler_identity.get("id")


def _words(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__

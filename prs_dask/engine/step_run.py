"""The driver's loop of one step run. Read this first.

::

    submission ──supply──▶ scheduler plugin ──results──▶ committer (output, journal)
        ▲                    │  ▲                            │
        └──────room──────────┘  └────────acknowledge─────────┘

Each round is one call to the scheduler plugin: it supplies mini-batches and acknowledges what is on
disk; it brings results, permits to hand to Dask, log pieces and, at last, the verdict. Rows are
appended and made durable, then the journal line, and only the next round acknowledges them: what
is lost on the way is sent again, and what was written twice cannot be, see `Committer`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distributed.protocol.pickle import dumps

from prs_dask import __version__
from prs_dask.attempts.judge import Counts, Verdict
from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.engine.end_wait import EndWait
from prs_dask.engine.parcels import Desk, Parcel
from prs_dask.engine.results import Results
from prs_dask.engine.run_settings import OP, RunSettings, plugin_name
from prs_dask.engine.scheduler_calls import SchedulerCalls, SchedulerGone
from prs_dask.engine.scheduler_plugin import RunPlugin
from prs_dask.engine.submission import Submission
from prs_dask.engine.worker_plugin import RunWorkerPlugin, run_permit
from prs_dask.errors import ClusterError, InputError, SettingsError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Situation", "StepRunDriver"]

SYNC_SECONDS = 0.2
ALIVE_SECONDS = 5.0
FUTURES_SECONDS = 0.25
REGISTER_SECONDS = 60.0
"""For handing the scheduler what it needs."""

END_SECONDS = 30.0
"""So long nothing may come at the end, beyond the time that ``shutdown()`` may take."""

_UNSTORED = (
    "files that processes may have stored in shutdown(), or since their last mini-batch, did not arrive whole ({}):"
    " they or their worker went away, or were too slow; the output has all that was stored by mini-batches"
)

WORKERS_SECONDS = 10.0
"""So long one worker that does not answer may hold up the start and the end."""


@dataclass(frozen=True, slots=True)
class Situation:
    """How far the step run is, as of the last round.

    Parameters
    ----------
    counts
        Of mini-batches and items.
    total
        Mini-batches in all; None while they are being listed.
    lanes, nodes
        What works on it.
    unused_nodes
        Nodes beyond node_count.
    rows
        Rows committed.
    seconds
        Since the first mini-batch was handed out; 0 before.
    waits_for
        See `Judge.waits_for`.
    """

    counts: Counts = field(default_factory=Counts)
    total: int | None = None
    lanes: int = 0
    nodes: int = 0
    unused_nodes: int = 0
    rows: int = 0
    seconds: float = 0.0
    waits_for: str = ""


class StepRunDriver:
    """Drives one step run on a cluster; `run` is the whole of it, in the caller's thread.

    Parameters
    ----------
    client
        Of the cluster.
    settings, worker_settings
        For the plugins, see `RunPlugin`.
    parcels
        What workers fetch: the source, and side inputs.
    submission
        The mini-batches.
    results
        Where results go.
    first_task_seconds
        Longest time until the first mini-batch exists.
    on_round
        Called after each round with the situation.

    Attributes
    ----------
    missing_logs
        What of the logs did not come in time, once it has ended; empty where all came.
    """

    def __init__(
        self,
        client: Client,
        settings: RunSettings,
        worker_settings: bytes,
        parcels: Sequence[Parcel],
        submission: Submission,
        results: Results,
        first_task_seconds: float = 600.0,
        on_round: Callable[[Situation], None] = lambda _: None,
    ) -> None:
        self.situation = Situation()
        self.missing_logs = ""
        self._client = client
        self._settings = settings = replace(settings, client=client.id)
        self._plugin = RunPlugin(settings, worker_settings)
        self._parcels = parcels
        self._desk: Desk | None = None
        self._call = SchedulerCalls(client, settings.run_id)
        self._submission = submission
        self._results = results
        self._first_task_seconds = first_task_seconds
        self._on_round = on_round
        self._permits: dict[int, Future[None]] = {}
        self._ended: list[int] = []
        self._futures_looked_at = 0.0
        self._acknowledged = 0
        self._total_told = False
        self._stop = Cancellation()
        self._stop_state = ("", "")
        self._end = EndWait(END_SECONDS + settings.limits.shutdown_seconds)
        self._hurried = False
        self._last_row: int | None = None  # the last result when there was a verdict: behind it come logs only
        self._begun = time.monotonic()
        self._alive: concurrent.futures.Future[None] | None = None

    def stop(self, state: str, cause: str) -> None:
        """End the step run from another thread; what has been finished is still written."""
        self._stop_state = (state, cause)
        self._call.hurry()
        self._stop.ask()

    def hurry(self) -> None:
        """Do not wait for workers at the end, nor write what has come from them; to be stopped first."""
        self._hurried = True
        self._end.seconds = 0.0
        self._call.hurry(0.0)

    # ---------------------------------------------------------------- the loop

    def run(self) -> Verdict:
        """Run to the end; returns how it ended. The cluster is left as it was found."""
        scheduler_gone = False
        try:
            self._register()
            return self._rounds()
        except SchedulerGone as error:
            scheduler_gone = True
            return self._after(error)
        except ClusterError as error:
            return self._after(error)
        except Canceled:  # before the scheduler had answered that it has the step run
            self._call.hurry(0.0)
            return Verdict(*self._stop_state)
        finally:
            self._submission.close()
            if self._alive is not None:
                self._alive.cancel()
            if not scheduler_gone:
                self._clear_away()
            if self._desk is not None:
                self._desk.close()

    def _after(self, error: ClusterError) -> Verdict:
        """Who was told to stop has stopped; else it is the error that ends the step run."""
        return Verdict(*self._stop_state) if self._stop.asked else Verdict("Failed", str(error))

    def _rounds(self) -> Verdict:
        """Rounds until the verdict, then until the workers have said all there is to say.

        The time for that is limited, but for what is completed: logs may come too late, rows and files may not.
        """
        room, stop_sent = 1, False
        while True:
            reply = self._round(room)
            room = reply["room"]
            if self._stop.asked and reply["verdict"] is None:
                state, cause = self._stop_state
                self._call("stop", orderly=False, state=state, cause=cause)
                stop_sent = True
                self._end.begin(time.monotonic())
            elif reply["verdict"] is not None and not stop_sent:
                self._call("stop", orderly=reply["verdict"]["state"] == "Completed")
                stop_sent = True
                self._end.begin(time.monotonic())
            if stop_sent:
                now = time.monotonic()
                verdict = self._verdict(reply, late=self._end.is_late(now))
                if verdict is not None:
                    if not self._is_all_here(reply):
                        self.missing_logs = self._end.missing_logs(reply["live"], reply["some_live"], now)
                    return verdict
                time.sleep(0.01)

    def _is_all_here(self, reply: dict[str, Any]) -> bool:
        return self._acknowledged == reply["last"] and not reply["live"] and not reply["more_logs"]

    def _verdict(self, reply: dict[str, Any], *, late: bool) -> Verdict | None:
        """How it has ended, when all is here or it is too late for what is not."""
        told = Verdict(*self._stop_state)
        if reply["verdict"] is None:
            return told if late else None
        verdict = Verdict(**reply["verdict"])
        if self._last_row is None:
            self._last_row = reply["last"]
        complete = self._is_all_here(reply)
        if not complete and not late:
            return None
        if verdict.state == "Completed" and reply["unstored"]:
            return Verdict("Failed", _UNSTORED.format(", ".join(reply["unstored"])))
        if complete:
            return verdict
        if verdict.state != "Completed" or self._acknowledged >= self._last_row:
            return verdict
        return told if self._hurried else None

    def _round(self, room: int) -> dict[str, Any]:
        supply = self._submission.take(room)
        total = None
        # A listing that broke off has no total: what was listed must never pass for the whole input.
        if self._submission.complete and not self._total_told:
            total, self._total_told = self._submission.listed, True
        self._look_at_futures()
        ended, self._ended = self._ended, []
        reply = self._call(
            "sync",
            ack=self._acknowledged,
            supply=supply,
            total=total,
            ended=ended,
            ahead=self._submission.ahead,
            wait=0.0 if supply else SYNC_SECONDS if self._submission.exhausted else SYNC_SECONDS / 10,
        )
        entries = [entry for number, entry in reply["results"] if number > self._acknowledged]
        self._results.write(entries, dict(reply["process_numbers"]), self._submission)
        self._end.came(entries, time.monotonic())
        for entry in entries:
            if entry["kind"] == "permit":
                self._submit(entry["permit"], entry["worker"])
            elif entry["kind"] == "void":
                self._release(entry["permits"])
        if reply["results"]:
            self._acknowledged = max(self._acknowledged, reply["results"][-1][0])
        self.situation = Situation(
            Counts(**reply["counts"]),
            self._submission.listed if self._submission.exhausted else None,
            reply["lanes"],
            reply["nodes"],
            reply["unused_nodes"],
            self._results.rows,
            self._seconds(reply["seconds"]),
            reply["waits_for"],
        )
        self._check_submission()
        self._on_round(self.situation)
        return reply

    def _seconds(self, since_first: float) -> float:
        """Until the last row was on disk."""
        if self._results.rows != self.situation.rows or not self._results.rows:
            return since_first
        return self.situation.seconds

    def _check_submission(self) -> None:
        error = self._submission.error
        if error is not None:
            told = isinstance(error, SettingsError) and not isinstance(error, InputError)  # by its own first words
            self.stop("Failed", str(error) if told else f"the input could not be cut into mini-batches: {error}")
        elif not self._submission.listed and not self._submission.ended:
            waited = time.monotonic() - self._begun
            if waited > self._first_task_seconds:
                cause = f"no mini-batch existed after {waited:.0f} s (--first_task_creation_timeout)"
                self.stop("Failed", cause)

    # ---------------------------------------------------------------- permits

    def _submit(self, permit: int, worker: str) -> None:
        """A permit becomes a task of Dask, on the worker that the plugin chose."""
        run_id = self._settings.run_id
        try:
            self._permits[permit] = self._client.submit(
                run_permit,
                run_id,
                permit,
                key=f"{plugin_name(run_id)}-{permit}",
                workers=[worker],
                allow_other_workers=False,
                pure=False,
            )
        except Exception:  # a Client that is closed, or being closed just now, says so in many ways
            if self._client.status == "running":
                raise  # else the next call says what has happened

    def _look_at_futures(self) -> None:
        """Permits whose tasks are not pending any more, however they ended."""
        now = time.monotonic()
        if now - self._futures_looked_at < FUTURES_SECONDS:
            return
        self._futures_looked_at = now
        ended = [number for number, future in self._permits.items() if future.status != "pending"]
        self._ended += ended
        self._release(ended)

    def _release(self, permits: list[int]) -> None:
        for number in permits:
            future = self._permits.pop(number, None)
            if future is not None:
                future.release()

    # ---------------------------------------------------------------- calls

    def _register(self) -> None:
        client: Any = self._client
        worker_plugin = RunWorkerPlugin(self._settings.run_id)
        try:
            client.sync(
                self._stop.awaited,
                client.scheduler.register_scheduler_plugin,
                plugin=dumps(self._plugin),
                name=self._plugin.name,
                idempotent=False,
                callback_timeout=REGISTER_SECONDS,
            )
            with contextlib.suppress(OSError):  # a worker that hangs, or goes just now, has not stopped the others
                client.sync(
                    self._stop.awaited,
                    client.scheduler.register_worker_plugin,
                    plugin=dumps(worker_plugin),
                    name=worker_plugin.name,
                    idempotent=False,
                    callback_timeout=WORKERS_SECONDS,
                )
        except ModuleNotFoundError as error:
            text = f"scheduler and workers need prs_dask {__version__} installed, as the driver has it: {error}"
            raise ClusterError(text) from error
        except (OSError, AttributeError) as error:
            raise SchedulerGone(
                f"the scheduler could not be given the step run: {str(error) or type(error).__name__}"
            ) from error
        self._alive = asyncio.run_coroutine_threadsafe(self._say_alive(), client.loop.asyncio_loop)
        self._desk = Desk(SchedulerCalls(client, self._settings.run_id), self._parcels)

    async def _say_alive(self) -> None:
        """Apart from the loop, so that a slow disk does not look like a dead driver."""
        while self._client.scheduler is not None:
            with contextlib.suppress(OSError):
                alive = getattr(self._client.scheduler, OP)(run=self._settings.run_id, call="driver_alive")
                await asyncio.wait_for(alive, ALIVE_SECONDS)
            await asyncio.sleep(ALIVE_SECONDS)

    def _clear_away(self) -> None:
        """Take the plugins away again; only the inert op stays."""
        self._release(list(self._permits))
        client: Any = self._client
        with contextlib.suppress(ClusterError):
            self._call("remove")
            with contextlib.suppress(OSError, ValueError, AttributeError):
                client.sync(
                    client.scheduler.unregister_worker_plugin,
                    name=plugin_name(self._settings.run_id),
                    callback_timeout=WORKERS_SECONDS,
                )

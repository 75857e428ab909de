"""The ``local`` target: a LocalCluster on this machine, as quick to start and to end as Dask allows.

Workers are forked from a warm process (``fork_server``), listen on the loopback interface only,
serve no dashboard and do not take its port 8787, keep their files in one temporary folder, and
are replaced by their nannies when they die. User code does not run in them but in their children.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.deploy.cluster import Cluster

from prs_dask.attempts.gpus import VISIBLE
from prs_dask.clusters import fork_server
from prs_dask.clusters.temporary_folder import TemporaryFolder
from prs_dask.errors import ClusterError

__all__ = ["CLUSTER_ARGUMENTS", "LastingCluster", "LocalWorkers", "OwnWorkers"]

PATIENCE = 0.7
"""Seconds that workers get to end by themselves; a worker that hangs is killed then."""

CLUSTER_ARGUMENTS: dict[str, Any] = {
    "host": "127.0.0.1",
    # Without an address Dask's HTTP server would take port 8787 even with no dashboard.
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": logging.CRITICAL,
    "preload": "prs_dask.clusters.worker_preload",
}
"""Of every cluster that is started on this machine."""


class OwnWorkers:
    """A cluster on this machine and everything that came with it.

    Parameters
    ----------
    start
        Makes the cluster; it gets a temporary folder, and environment variables for the workers.
    what
        For people, where that fails.
    forked
        May workers be forked from a warm process?

    Raises
    ------
    ClusterError
        Where it cannot be started.
    """

    cluster: distributed.LocalCluster

    def __init__(
        self, start: Callable[[str, dict[str, str]], distributed.LocalCluster], what: str, *, forked: bool = True
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ClusterError(_UNGUARDED)
        with contextlib.ExitStack() as stack:
            forked = forked and stack.enter_context(fork_server.forking())
            temporary = TemporaryFolder()
            stack.callback(temporary.remove)
            folder = temporary.path
            environment = _worker_environment()
            with dask.config.set(_dask_settings(forked, folder)):
                self.cluster = _started(start, folder, environment, what)
            self._what_came_with_it = stack.pop_all()

    def close(self) -> None:
        """End all of it, also where workers hang or are dead."""
        with self._what_came_with_it:
            killer = threading.Timer(PATIENCE, self._kill_workers)
            killer.start()
            try:
                with contextlib.suppress(TimeoutError):
                    self.cluster.close(timeout=10)
            finally:
                killer.cancel()
                killer.join()
                self._kill_workers()

    def _kill_workers(self) -> None:
        for nanny in list(self.cluster.workers.values()):
            process = getattr(getattr(nanny, "process", None), "process", None)
            with contextlib.suppress(Exception):  # it has just ended
                if process is not None and process.pid and process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)


class LastingCluster(distributed.LocalCluster):
    """Keeps every worker: Dask gives up one for good that is away 15 s after it was lost before, even
    where it has died a second time only just then and its nanny is starting it again."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def _update_worker_status(self, op: str, msg: Any) -> None:
        Cluster._update_worker_status(self, op, msg)


class LocalWorkers(OwnWorkers):
    """A LocalCluster.

    Parameters
    ----------
    processes
        How many workers of one thread each; None: one for each CPU core that this process may use.
    """

    def __init__(self, processes: int | None) -> None:
        count = processes or CPU_COUNT

        def start(folder: str, environment: dict[str, str]) -> distributed.LocalCluster:
            return LastingCluster(
                n_workers=count, threads_per_worker=1, local_directory=folder, env=environment, **CLUSTER_ARGUMENTS
            )

        super().__init__(start, f"the {count} Dask workers of a local cluster")


def _started(
    start: Callable[[str, dict[str, str]], distributed.LocalCluster],
    folder: str,
    environment: dict[str, str],
    what: str,
) -> distributed.LocalCluster:
    hash_seed = os.environ.get("PYTHONHASHSEED")
    try:
        cluster = start(folder, environment)
    except (RuntimeError, OSError, TimeoutError) as error:
        why = str(error).rstrip(".")
        raise ClusterError(f"{what} could not be started: {why}. {_UNGUARDED}") from error
    finally:
        if hash_seed is None:
            os.environ.pop("PYTHONHASHSEED", None)
    for nanny in cluster.workers.values():
        nanny.pre_spawn_env.clear()  # or it would come back with each worker that is replaced
    return cluster


def _dask_settings(forked: bool, folder: str) -> dict[str, Any]:
    """Dask's settings while the cluster starts."""
    # A nanny would put these variables into the driver's own environment and leave them there, and
    # PYTHONHASHSEED with them; workers get them by ``env`` instead.
    settings: dict[str, Any] = {"distributed.nanny.pre-spawn-environ": {}}
    # The scheduler makes a folder for files it never has, and takes no argument for where.
    settings["temporary-directory"] = folder
    # They serve pages that this cluster does not show: workers would look every 10 ms at which line each thread is
    # on, and every event loop every 20 ms at how late it is, 5 % of a core each.
    settings["distributed.worker.profile.enabled"] = False
    settings["distributed.admin.tick.interval"] = "500ms"
    if forked:
        settings["distributed.worker.multiprocessing-method"] = "forkserver"
        # Dask would import pandas and all else that it knows into the driver first.
        distributed.utils._forkserver_preload_set = True
    return settings


def _worker_environment() -> dict[str, str]:
    """Dask's defaults for workers (one thread for each numeric library), where nothing else is set; and GPUs as they
    are listed now, not when the fork server was started."""
    defaults = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    gpus = {VISIBLE: os.environ[VISIBLE]} if VISIBLE in os.environ else {}
    return gpus | {name: str(value) for name, value in defaults.items() if name not in os.environ}


_UNGUARDED = (
    'If this is a script of your own, start the step run below the line  if __name__ == "__main__":  '
    "because Python imports the script again in every worker"
)

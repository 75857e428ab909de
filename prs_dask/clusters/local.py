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
from typing import Any

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.deploy.cluster import Cluster

from prs_dask.clusters import fork_server
from prs_dask.clusters.temporary_folder import TemporaryFolder
from prs_dask.errors import ClusterError

__all__ = ["LocalWorkers"]

PATIENCE = 0.7
"""Seconds that workers get to end by themselves; a worker that hangs is killed then."""


class LocalWorkers:
    """A LocalCluster and everything that came with it.

    Parameters
    ----------
    processes
        How many workers of one thread each; None: one for each CPU core that this process may use.

    Raises
    ------
    ClusterError
        Where it cannot be started.
    """

    cluster: distributed.LocalCluster

    def __init__(self, processes: int | None) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ClusterError(_UNGUARDED)
        with contextlib.ExitStack() as stack:
            forked = stack.enter_context(fork_server.forking())
            temporary = TemporaryFolder()
            stack.callback(temporary.remove)
            folder = temporary.path
            environment = _worker_environment()
            with dask.config.set(_dask_settings(forked, folder)):
                self.cluster = _start(processes or CPU_COUNT, folder, environment)
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


class _LastingCluster(distributed.LocalCluster):
    """Keeps every worker: Dask gives up one for good that is away 15 s after it was lost before, even
    where it has died a second time only just then and its nanny is starting it again."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def _update_worker_status(self, op: str, msg: Any) -> None:
        Cluster._update_worker_status(self, op, msg)


def _start(processes: int, folder: str, environment: dict[str, str]) -> distributed.LocalCluster:
    hash_seed = os.environ.get("PYTHONHASHSEED")
    try:
        cluster = _LastingCluster(
            n_workers=processes,
            threads_per_worker=1,
            host="127.0.0.1",
            # Without an address Dask's HTTP server would take port 8787 even with no dashboard.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            local_directory=folder,
            env=environment,
            preload="prs_dask.clusters.worker_preload",
        )
    except (RuntimeError, OSError, TimeoutError) as error:
        why = str(error).rstrip(".")
        raise ClusterError(
            f"the {processes} Dask workers of a local cluster could not be started: {why}. {_UNGUARDED}"
        ) from error
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
    """Dask's defaults for workers (one thread for each numeric library), where nothing else is set."""
    defaults = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: str(value) for name, value in defaults.items() if name not in os.environ}


_UNGUARDED = (
    'If this is a script of your own, start the step run below the line  if __name__ == "__main__":  '
    "because Python imports the script again in every worker"
)

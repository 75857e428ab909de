"""What a ``compute_target`` means, and the cluster it stands for, opened.

===============================  =======================================================
None                             the current Client if there is one, else ``"local"``
``"local"``                      a LocalCluster of our own (``local.py``)
``"cuda"``                       a LocalCUDACluster of our own (needs dask-cuda)
an SSHTarget                     a scheduler and workers of our own on its hosts (``ssh.py``; needs asyncssh)
``"tcp://host:8786"``, …         the scheduler at that address
path of a scheduler file         the scheduler that wrote it
a Dask cluster, a Client         that one
===============================  =======================================================
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

import distributed

from prs_dask.cancellation import Cancellation
from prs_dask.clusters.cuda import open_cuda_workers
from prs_dask.clusters.local import LocalWorkers, OwnWorkers
from prs_dask.clusters.reachable import CONNECT_SECONDS, check_scheduler
from prs_dask.clusters.visible_gpus import seen_gpus
from prs_dask.config import SETTINGS, SSHTarget
from prs_dask.config.checks import is_address
from prs_dask.errors import ClusterError, Fault, SettingsError

__all__ = ["OpenCluster", "check_target", "current_client", "open_cluster"]

_NOT_STARTED = "which is not started yet: await it first, or use  async with"


class OpenCluster:
    """A cluster that a step run can use, until ``close``.

    Parameters
    ----------
    client
        A Client of it; the one that was given, where its event loop is its own.
    owned
        Whether the cluster was started here and ends with ``close``.
    notes
        What the user should know, one sentence each.
    close
        Ends what was started here.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        owned: bool,
        close: Callable[[], None],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.client = client
        self.owned = owned
        self.notes = notes
        self._close: Callable[[], None] | None = close

    def close(self) -> None:
        """End what was started here, leave the rest as it was found. A second call does nothing."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def __enter__(self) -> OpenCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_target(compute_target: Any) -> None:
    """See that a compute target can be a cluster; nothing is started or connected to.

    Raises
    ------
    SettingsError
        It can be none, or is one that was closed.
    """
    if compute_target is None or compute_target in ("local", "cuda") or isinstance(compute_target, SSHTarget):
        return
    if isinstance(compute_target, (str, os.PathLike)):
        _address(os.fspath(compute_target))
    elif isinstance(compute_target, distributed.Client):
        if compute_target.status in ("closed", "closing"):
            raise _refused(compute_target, "which is closed")
        if compute_target.scheduler is None:
            raise _refused(compute_target, _NOT_STARTED)
    elif isinstance(compute_target, type) or not hasattr(compute_target, "scheduler_address"):
        raise _refused(compute_target)
    else:
        status = getattr(getattr(compute_target, "status", None), "name", "running")
        if status in ("closed", "closing", "failed"):
            raise _refused(compute_target, f"which is {status}")
        if status == "created":
            raise _refused(compute_target, _NOT_STARTED)


def open_cluster(
    compute_target: Any = None,
    processes: int | None = None,
    node_count: int = 1,
    *,
    processes_per_gpu: int = 1,
    wished_gpus: tuple[str, ...] | None = None,
    tell: Callable[[str], object] = lambda text: None,
    cancellation: Cancellation | None = None,
) -> OpenCluster:
    """Find or start the cluster that a compute target names.

    Parameters
    ----------
    compute_target
        See this module's table.
    processes
        Workers of a local cluster; None: as many as can have a GPU, without any one for each CPU core. Clusters that
        run already keep theirs.
    node_count
        Nodes asked for; where a target has fewer or more it is said in ``notes``.
    processes_per_gpu
        How many processes may share a GPU.
    wished_gpus
        What the step run may use by its own words; None: all GPUs that this process sees.
    tell
        Gets sentences for the driver's log, from any thread: what becomes of hosts over SSH while it is open.
    cancellation
        Ends the wait for whoever does not answer; then what had been started is ended, too.

    Raises
    ------
    SettingsError
        Where the target can be no cluster, or is one that was closed.
    ClusterError
        Where no scheduler answers, or a cluster cannot be started.
    Canceled
        It is not to be waited for any longer.
    """
    cancellation = cancellation or Cancellation()
    if compute_target is None:
        compute_target = current_client() or "local"
    check_target(compute_target)
    if compute_target == "local":
        gpus = seen_gpus().gpus if wished_gpus is None else wished_gpus
        return _own(LocalWorkers(processes or processes_per_gpu * len(gpus) or None), node_count)
    if compute_target == "cuda":
        return _own(open_cuda_workers(processes, processes_per_gpu, wished_gpus), node_count)
    if isinstance(compute_target, distributed.Client):
        return _of_client(compute_target, cancellation)
    if isinstance(compute_target, SSHTarget):
        return _open_ssh(compute_target, processes, node_count, processes_per_gpu, tell, cancellation)
    if isinstance(compute_target, (str, os.PathLike)):
        address = _address(os.fspath(compute_target))
        return _attached(address, address, cancellation)
    return _open_running_cluster(compute_target, cancellation)


def _refused(target: object, why: str = "") -> SettingsError:
    return SettingsError([SETTINGS["compute_target"].fault(target, why)])


def current_client() -> distributed.Client | None:
    """The Client that Dask itself would use in this thread; None where there is none that works."""
    try:
        client = distributed.default_client()
    except ValueError:
        return None
    return client if client.status == "running" else None


def _one_node(node_count: int) -> tuple[str, ...]:
    if node_count <= 1:
        return ()
    return (f"node_count is {node_count}, but a local target has one node: the step runs on this machine alone",)


def _own(workers: OwnWorkers, node_count: int) -> OpenCluster:
    with contextlib.ExitStack() as stack:
        stack.callback(workers.close)
        client = distributed.Client(workers.cluster, set_as_default=False)
        stack.callback(_close_client, client)
        return OpenCluster(client, owned=True, close=stack.pop_all().close, notes=_one_node(node_count))


def _of_client(client: distributed.Client, cancellation: Cancellation) -> OpenCluster:
    address = str(client.scheduler.address) if client.scheduler is not None else ""
    if client._asynchronous and not address.startswith("inproc://"):
        # Its event loop is the user's (a notebook's), who may block it by waiting for the step run.
        return _attached(address, address, cancellation, security=client.security)
    return OpenCluster(client, owned=False, close=lambda: None)


def _open_running_cluster(cluster: Any, cancellation: Cancellation) -> OpenCluster:
    # By its address, so that the client has an event loop of its own: the cluster's may be the user's
    # (a notebook's), and asynchronous. Within one process there is no address that another loop could use.
    address = cluster.scheduler_address
    where = cluster if address.startswith("inproc://") else address
    security = getattr(cluster, "security", None)
    return _attached(where, address, cancellation, **({"security": security} if security else {}))


def _attached(where: Any, address: str, cancellation: Cancellation, **security: Any) -> OpenCluster:
    check_scheduler(address, cancellation, **security)
    settings = {"timeout": CONNECT_SECONDS, "set_as_default": False, **security}
    client = distributed.Client(where, **settings)
    return OpenCluster(client, owned=False, close=lambda: _close_client(client))


def _open_ssh(
    target: SSHTarget,
    processes: int | None,
    node_count: int,
    processes_per_gpu: int,
    tell: Callable[[str], object],
    cancellation: Cancellation,
) -> OpenCluster:
    try:
        from prs_dask.clusters.ssh import REACH_IT, SSHWorkers
    except ImportError as error:
        raise ClusterError(
            f'hosts over SSH need asyncssh, which cannot be imported here ({error}); try: pip install "prs-dask[ssh]"'
        ) from error
    with contextlib.ExitStack() as stack:
        workers = SSHWorkers(target, processes, node_count, cancellation, processes_per_gpu, tell)
        stack.callback(workers.close)
        security: dict[str, Any] = {"security": workers.security}
        check_scheduler(workers.address, cancellation, advice=REACH_IT, **security)
        client = distributed.Client(workers.address, timeout=CONNECT_SECONDS, set_as_default=False, **security)
        stack.callback(_close_client, client)
        return OpenCluster(client, owned=True, close=stack.pop_all().close, notes=_hosts_used(target, node_count))


def _hosts_used(target: SSHTarget, node_count: int) -> tuple[str, ...]:
    names = list(target.hosts)
    if node_count > len(names):
        return (f"node_count is {node_count}, but the SSHTarget has {len(names)}: the step runs on {', '.join(names)}",)
    if rest := names[node_count:]:
        every = f"node_count={len(names)} uses them all"
        return (f"node_count is {node_count}, so that these hosts are not used: {', '.join(rest)}; {every}",)
    return ()


def _close_client(client: distributed.Client) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        client.close(timeout=2)
    # A client that has closed itself, because the scheduler was gone, leaves the thread of its event loop.
    client._loop_runner.stop()


def _address(target: str) -> str:
    return target if is_address(target) else _address_in_file(target)


def _address_in_file(path: str) -> str:
    """The scheduler's address in a scheduler file (``dask scheduler --scheduler-file``)."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        why = f"which is no scheduler's address and cannot be read as a scheduler file ({error.strerror})"
        raise _refused(path, why) from None
    except ValueError:
        raise _refused(path, "which holds no JSON, as a scheduler file does") from None
    address = content.get("address") if isinstance(content, dict) else None
    if not isinstance(address, str) or not is_address(address):
        found = f"{path!r}, which names no scheduler's address"
        allowed = "a file that  dask scheduler --scheduler-file  wrote"
        raise SettingsError([Fault("compute_target", found, allowed, "dask scheduler --scheduler-file scheduler.json")])
    return address

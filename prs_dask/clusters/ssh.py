"""The ``ssh`` target: a scheduler and workers of our own on hosts that are reached over SSH.

Dask's SSHCluster writes its whole configuration, and with TLS its keys, into the hosts' command lines. Here programs
of ours (``remote.py``) read them from their standard input. Whatever becomes of this process, or of the network, ends
them, because that input ends. A host whose worker has ended is started again, with pauses that grow.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Sequence
from typing import Any

from distributed import Security

from prs_dask.cancellation import Cancellation
from prs_dask.clusters.host_differences import as_table, differences
from prs_dask.clusters.host_facts import facts
from prs_dask.clusters.host_keeper import Tell, keep
from prs_dask.clusters.remote import REACH_IT, TLS_VERSIONS
from prs_dask.clusters.ssh_host import Host, HostProblem, Program
from prs_dask.config import SSHTarget
from prs_dask.config.tls_security import pem_text
from prs_dask.errors import ClusterError

__all__ = ["REACH_IT", "SSHWorkers"]


class SSHWorkers:
    """A scheduler and workers on hosts, until ``close``.

    Parameters
    ----------
    target
        Which hosts, and how to reach them.
    processes
        Threads of each worker, which are worker processes; None: one for each CPU core of its host.
    node_count
        How many of the hosts get a worker, from the first one on.
    cancellation
        Ends the wait for the hosts.
    processes_per_gpu
        How many processes may share a GPU: threads of each worker of dask-cuda, where ``processes`` is None.
    tell
        Gets sentences for the driver's log, from another thread.

    Attributes
    ----------
    address
        Of the scheduler.
    security
        With the client's certificate.

    Raises
    ------
    ClusterError
        Where hosts cannot be used, with what is wrong with each of them.
    Canceled
        They are not to be waited for any longer.
    """

    address: str

    def __init__(
        self,
        target: SSHTarget,
        processes: int | None,
        node_count: int,
        cancellation: Cancellation,
        processes_per_gpu: int = 1,
        tell: Tell = lambda text: None,
    ) -> None:
        self._tell = tell
        self._target, self._processes, self._processes_per_gpu = target, processes, processes_per_gpu
        self._hosts = [Host(host, target) for host in target.ssh_hosts[:node_count]]
        self.security: Security = target.security or Security.temporary()
        self._ready: concurrent.futures.Future[str] = concurrent.futures.Future()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="hosts over SSH", daemon=True)
        self._thread.start()
        try:
            with cancellation.by(self._end):
                self.address = self._ready.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End what was started, on all hosts at once. A second call does nothing."""
        self._end()
        self._thread.join()

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    def _serve(self) -> None:
        runner = asyncio.Runner(loop_factory=lambda: self._loop)
        with runner, contextlib.suppress(asyncio.CancelledError):
            runner.run(self._live())
        self._ready.cancel()  # does nothing where it is known how it went

    async def _live(self) -> None:
        self._task = asyncio.current_task()
        if self._is_over:
            return
        keepers: list[asyncio.Task[None]] = []
        programs: list[Program] = []
        try:
            await self._check()
            scheduler = await _of_all([(self._hosts[0], self._hosts[0].start(self._scheduler_spec()))])
            programs += scheduler
            self.address = scheduler[0].address
            self._tell_dashboard(scheduler[0].dashboard_port)
            starts = [(host, host.start(self._worker_spec(host))) for host in self._hosts]
            workers = await _of_all(starts)
            keepers += [
                asyncio.ensure_future(keep(host, worker, self._worker_spec(host), self._tell))
                for host, worker in zip(self._hosts, workers, strict=True)
            ]
            self._ready.set_result(self.address)
            await asyncio.Event().wait()
        except Exception as error:
            self._ready.set_exception(error)
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await asyncio.gather(*(program.end() for program in programs), return_exceptions=True)
            for host in self._hosts:
                host.close()

    async def _check(self) -> None:
        """Ask all hosts at once what they have."""

        async def ask(host: Host) -> dict[str, str | None]:
            await host.connect()
            return await host.facts()

        here = {**facts(), "platform": "Linux"}  # workers run on Linux, whatever this is
        told = await asyncio.gather(*map(ask, self._hosts), return_exceptions=True)
        problems: list[tuple[Host, BaseException]] = []
        differ = []
        for host, found in zip(self._hosts, told, strict=True):
            if isinstance(found, BaseException):
                problems.append((host, found))
            else:
                differ += differences(host.name, found, here)
        if problems or differ:
            raise ClusterError("\n".join([*_words(problems, len(self._hosts)), *_differ(differ)]))

    def _tell_dashboard(self, port: int | None) -> None:
        if port is not None:
            reach = f"ssh -L {port}:127.0.0.1:{port} {self._hosts[0].login}"
            self._tell(f"Dask's dashboard is at 127.0.0.1:{port} of host {self._hosts[0].name}; here with {reach}")

    def _scheduler_spec(self) -> dict[str, Any]:
        host = self._target.scheduler_host
        security = _sent(self.security, "scheduler")
        port, dashboard = self._target.scheduler_port, self._target.dashboard
        return {"role": "scheduler", "host": host, "port": port, "dashboard": dashboard, "security": security}

    def _worker_spec(self, host: Host) -> dict[str, Any]:
        return {
            "role": "worker",
            "scheduler": self.address,
            "name": host.name,
            "threads": self._processes,
            "processes_per_gpu": self._processes_per_gpu,
            "worker_class": self._target.worker_class,
            "security": _sent(self.security, "worker"),
        }


async def _of_all(starts: Sequence[tuple[Host, Awaitable[Program]]]) -> list[Program]:
    """All of them, or an error that tells of each that did not start; those that did are ended then."""
    hosts = [host for host, _ in starts]
    tasks = [asyncio.ensure_future(start) for _, start in starts]
    started: Sequence[Program | BaseException] = ()
    try:
        started = await asyncio.gather(*tasks, return_exceptions=True)
        problems = [(host, one) for host, one in zip(hosts, started, strict=True) if isinstance(one, BaseException)]
        if problems:
            raise ClusterError("\n".join(_words(problems, len(hosts))))
    except BaseException:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.end() for one in ended if isinstance(one, Program)), return_exceptions=True)
        raise
    return [one for one in started if isinstance(one, Program)]


def _words(problems: Sequence[tuple[Host, BaseException]], hosts: int) -> list[str]:
    if not problems:
        return []
    for _, error in problems:
        if not isinstance(error, HostProblem):
            raise error
    head = f"{len(problems)} of {hosts} hosts cannot be used:" if hosts > 1 else "the host cannot be used:"
    return [head, *(f"  - {host.name}: {error}" for host, error in problems)]


def _differ(lines: Sequence[Any]) -> list[str]:
    if not lines:
        return []
    head = "what hosts have installed differs from this machine; install the wanted versions there, or set python:"
    return [head, *(f"  {line}" for line in as_table(lines).splitlines())]


def _sent(security: Security, role: str) -> dict[str, Any]:
    """What a host needs of it for a role, the content of files in place of their paths."""
    fields = ("tls_ca_file", f"tls_{role}_cert", f"tls_{role}_key")
    try:
        sent: dict[str, Any] = {name: pem_text(getattr(security, name)) for name in fields}
    except OSError as error:
        raise ClusterError(f"security: {error.filename} cannot be read any more ({error.strerror})") from None
    return sent | {name: getattr(security, name) for name in ("tls_ciphers", "require_encryption", *TLS_VERSIONS)}

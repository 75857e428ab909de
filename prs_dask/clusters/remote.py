"""What runs on a host of an SSHTarget: ``python -P -m prs_dask.clusters.remote``, a scheduler or a worker.

What it shall start stands in the first line of its standard input, certificates included: nothing of it is in an
argument, a variable or a file. It tells its address, or why it has none, in a line on its standard output. After that
a line must come every few seconds. When none comes, or the input ends, its driver is gone or cut off, and it ends with
all that it has started, so that nothing waits on a host for a driver that does not come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import json
import logging
import os
import select
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import psutil
from distributed import Nanny, Scheduler, Security, Worker
from distributed.comm.addressing import get_address_host_port, parse_address, unparse_host_port
from distributed.system import MEMORY_LIMIT

from prs_dask.clusters.host_facts import MARK
from prs_dask.clusters.silent_servers import SilentScheduler, SilentWorker, silent
from prs_dask.clusters.temporary_folder import TemporaryFolder

__all__ = ["REACH_IT", "SETTINGS", "SILENCE_SECONDS", "TLS_VERSIONS", "main"]

TLS_VERSIONS = ("tls_min_version", "tls_max_version")
"""Of a Security; they travel as numbers."""

SILENCE_SECONDS = 60.0
"""Without a sign of life of the driver: as long as a scheduler goes on without hearing of one."""

END_SECONDS = 8.0
"""In which it must have ended by itself; then it is ended."""

REACH_SECONDS = 10.0

REACH_IT = "open its port, where a firewall closes it, or say with scheduler_host at which address it is reached"
"""What to do where the scheduler does not answer. Which port that is, scheduler_port can say."""

SETTINGS: dict[str, Any] = {
    "distributed.comm.timeouts.tcp": "12s",  # after which a host that was cut off is noticed; below 11 s Dask breaks
    "distributed.worker.profile.enabled": False,  # they would serve pages that nobody sees
    "distributed.admin.tick.interval": "500ms",
}


class Lifeline(threading.Thread):
    """Standard input, from its second line on.

    Parameters
    ----------
    descriptor
        Of the input.
    cut
        Called when it has ended, or has been silent for too long; from a thread of its own.
    silence
        Seconds that are too long.
    """

    def __init__(self, descriptor: int, cut: Callable[[], object], silence: float = SILENCE_SECONDS) -> None:
        super().__init__(name="lifeline", daemon=True)
        self._descriptor, self._cut, self._silence = descriptor, cut, silence

    def run(self) -> None:
        while select.select([self._descriptor], [], [], self._silence)[0]:
            if not os.read(self._descriptor, 4096):
                break
        self._cut()
        threading.Event().wait(END_SECONDS)
        end_at_once()


def end_at_once() -> None:
    """End this process and all that it has started, whatever they do; its folders are left to their caretaker."""
    for process in psutil.Process().children(recursive=True):
        if "prs_dask/clusters/abandoned.py" not in " ".join(_command(process)):
            with contextlib.suppress(psutil.Error):
                process.kill()
    os._exit(1)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def serve(spec: dict[str, Any], tell: Callable[[dict[str, Any]], None], lifeline: int) -> None:
    """Start what the spec says, tell its address, and end it when the lifeline is cut."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    Lifeline(lifeline, partial(loop.call_soon_threadsafe, over.set)).start()
    # Its caretaker removes it when this process has ended, in whatever way, with what step runs have left on this host.
    folder = TemporaryFolder()
    with dask.config.set({**SETTINGS, "temporary-directory": folder.path}):
        server = await _made(spec, folder.path)
        await server
        tell(_told(spec, server))
        ends = [asyncio.ensure_future(one) for one in (over.wait(), server.finished())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(server.close(timeout=3), END_SECONDS / 2)


async def _made(spec: dict[str, Any], folder: str) -> Any:
    given = spec["security"]
    versions = {name: ssl.TLSVersion(given[name]) for name in TLS_VERSIONS if given[name] is not None}
    security = Security(**{**given, **versions})
    if spec["role"] == "scheduler":
        return _scheduler(spec, security)
    host = unparse_host_port(await asyncio.to_thread(_own_address, spec["scheduler"]))
    return _worker(spec, {"name": spec["name"], "host": host, "security": security, "local_directory": folder})


def _worker(spec: dict[str, Any], options: dict[str, Any]) -> Any:
    scheduler, threads = spec["scheduler"], spec["threads"]
    module, _, name = (spec["worker_class"] or "distributed.Nanny").rpartition(".")
    worker_class = getattr(importlib.import_module(module), name)
    if module.split(".")[0] == "dask_cuda":
        return _cuda_worker(worker_class, spec, options)
    if worker_class is Nanny:
        own: dict[str, Any] = {"worker_class": SilentWorker, "death_timeout": REACH_SECONDS * 3}
        # The host's whole memory: Dask would take the share of its threads among the cores.
        return Nanny(scheduler, nthreads=threads, memory_limit=MEMORY_LIMIT, **own, **options)
    if issubclass(worker_class, Worker):
        return silent(worker_class)(scheduler, nthreads=threads, **options)
    if issubclass(worker_class, Nanny):  # of what class its worker is it decides itself, not where that serves pages
        options = {"dashboard_address": "127.0.0.1:0", **options}
    return worker_class(scheduler, nthreads=threads, **options)


def _cuda_worker(worker_class: Any, spec: dict[str, Any], options: dict[str, Any]) -> Any:
    from dask_cuda.utils import get_n_gpus

    # It starts a worker for each GPU. They leave their GPUs' memory to the worker processes: no CUDA context.
    quiet = {"worker_class": SilentWorker, "dashboard": False}
    threads = spec["threads"]
    for_each = -(-threads // get_n_gpus()) if threads else spec["processes_per_gpu"]
    server = worker_class(spec["scheduler"], nthreads=for_each, **quiet, **options)
    for nanny in server.nannies:
        nanny.preload_argv = [word for word in nanny.preload_argv if word != "--create-cuda-context"]
    return server


def _scheduler(spec: dict[str, Any], security: Security) -> Scheduler:
    reached = os.environ.get("SSH_CONNECTION", "").split(" ")[2:3]
    host = unparse_host_port(_listened(spec["host"], reached[0] if reached else None))
    options: dict[str, Any] = {"host": host, "port": spec["port"] or 0, "security": security}
    if spec["dashboard"]:
        return Scheduler(dashboard=True, dashboard_address="127.0.0.1:8787", **options)
    return SilentScheduler(dashboard=False, **options)


def _listened(given: str | None, reached: str | None) -> str:
    """The address of this host at which its scheduler listens.

    Parameters
    ----------
    given
        Name or address at which it shall be reached. It may be that of something before this host which translates it.
    reached
        The address of this host by which SSH reached it.
    """
    if given is not None and (own := _own_of(given, reached)):
        return own
    if reached is None:
        found = "scheduler_host is not set" if given is None else f"scheduler_host, {given}, is not one of them"
        raise ValueError(f"SSH tells none of this host's addresses (SSH_CONNECTION), and {found}: set it to one")
    if "%" in reached:
        raise ValueError(
            f"SSH reached this host at {reached}, which other hosts cannot use (a link-local address): set "
            "scheduler_host to another address of it, or reach it by another one"
        )
    return reached


def _own_of(name: str, reached: str | None) -> str | None:
    """Of a name's addresses the first that is this host's; loopback, where hosts file it, only if SSH came that way."""
    try:
        found = [str(one[4][0]) for one in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError:
        return None
    local = reached is None or ipaddress.ip_address(reached).is_loopback
    for address in found:
        if (local or not ipaddress.ip_address(address).is_loopback) and _is_own(address):
            return address
    return None


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
    return True


def _own_address(scheduler: str) -> str:
    """This host's address, as the scheduler sees it."""
    host, port = get_address_host_port(scheduler)
    try:
        with socket.create_connection((host, port), timeout=REACH_SECONDS) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        why = error.strerror or str(error)
        raise ConnectionError(f"the scheduler at {scheduler} cannot be reached from here ({why}): {REACH_IT}") from None


def _told(spec: dict[str, Any], server: Any) -> dict[str, Any]:
    """Where it is reached."""
    first = getattr(server, "nannies", [server])[0]  # of dask-cuda's worker, which is several
    address = str(getattr(first, "worker_address", None) or first.address)
    if spec["role"] != "scheduler":
        return {"address": address}
    if spec["host"] is not None:
        port = get_address_host_port(address)[1]
        address = f"{parse_address(address)[0]}://{unparse_host_port(spec['host'], port)}"
    return {"address": address, "dashboard_port": server.http_server.port if spec["dashboard"] else None}


def _what(error: BaseException) -> str:
    while error.__cause__ is not None:  # Dask says that something has failed, and what, below
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def main() -> None:
    """Read what to start, and run it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input tells, in order
    lifeline, report = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # what is started here inherits neither

    def tell(what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(report, json.dumps({MARK: what}).encode() + b"\n")

    spec = b""
    while not spec.endswith(b"\n"):
        piece = os.read(lifeline, 1)
        if not piece:
            return
        spec += piece
    try:
        asyncio.run(serve(json.loads(spec), tell, lifeline))
    except Exception as error:
        logging.getLogger("distributed").debug("could not start", exc_info=True)
        tell({"error": _what(error)})
        end_at_once()


if __name__ == "__main__":
    main()

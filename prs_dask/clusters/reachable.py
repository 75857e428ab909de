"""Is there a Dask scheduler at an address? Asked before a Client is made.

A Client that cannot connect leaves its event loop's thread behind and takes twenty seconds to be
collected; and what it raises when something else answers there (an HTTP server, a Dask worker) says little.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from distributed import Security
from distributed.comm.core import connect
from distributed.core import send_recv

from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.errors import ClusterError

__all__ = ["CONNECT_SECONDS", "check_scheduler"]

CONNECT_SECONDS = 10


def check_scheduler(address: str, cancellation: Cancellation, security: Security | None = None) -> None:
    """Ask who is at an address; returns if it is a Dask scheduler.

    Raises
    ------
    ClusterError
        Where nobody answers within ten seconds, or somebody else does; it names the address.
    Canceled
        It is not to be waited for any longer.
    """
    if address.startswith("inproc://"):
        return
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(asyncio.run(cancellation.awaited(_identity, address, security or _no_security())))
        except Exception as error:  # whatever speaks there may break any layer of the protocol
            answer.append(error)

    # A thread of its own: in a notebook this one has an event loop that runs.
    thread = threading.Thread(target=ask, name="ask the scheduler", daemon=True)
    thread.start()
    thread.join()
    (who,) = answer
    if isinstance(who, Canceled):
        raise who
    if isinstance(who, (OSError, TimeoutError)):
        raise ClusterError(
            f"no Dask scheduler answers at {address} (waited {CONNECT_SECONDS} s: {_words(who)}); check the address "
            'and that the scheduler runs, or run on this machine with compute_target="local"'
        ) from who
    if isinstance(who, TypeError) and "ssl_context" in str(who):
        raise ClusterError(
            f"the scheduler at {address} wants TLS, for which there are no certificates here; give a Client made with "
            "distributed.Security, or set distributed.comm.tls in Dask's configuration"
        ) from who
    if isinstance(who, Exception):
        raise ClusterError(f"what answers at {address} is no Dask scheduler ({_words(who)})") from who
    if not isinstance(who, dict) or "workers" not in who:  # its class may have any name
        kind = who.get("type") if isinstance(who, dict) else None
        raise ClusterError(f"what answers at {address} is a Dask {kind}, no scheduler")


def _no_security() -> Security:
    return Security()


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _identity(address: str, security: Security) -> Any:
    async with asyncio.timeout(CONNECT_SECONDS + 1):
        arguments = security.get_connection_args("client")
        comm = await connect(address, timeout=CONNECT_SECONDS, **arguments)
        try:
            return await send_recv(comm, op="identity", reply=True)
        finally:
            comm.abort()

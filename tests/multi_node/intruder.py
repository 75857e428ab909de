"""A program that tries to get in where something listens: ``intruder.py HOST:PORT…``, a line for each way it tries.

Dask's handshake and HTTP, each without TLS, and with TLS but no certificate or another one's. With ``--with FOLDER``
it has the certificates of that folder instead.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Security
from distributed.comm import connect
from distributed.core import send_recv

if TYPE_CHECKING:
    from tests.multi_node.hosts import Hosts

__all__ = ["intrude"]

SECONDS = 3.0
ALERT = 0x15
"""First byte of TLS's refusal."""


def certificates(folder: Path) -> Security:
    """Those that a test has written there, for a client."""
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    return Security(**{name: str(folder / f"{name}.pem") for name in names}, require_encryption=True)


async def dask(address: str, security: Security | None) -> object:
    arguments = security.get_connection_args("client") if security else {}
    comm = await connect(f"{'tls' if security else 'tcp'}://{address}", timeout=SECONDS, **arguments)
    try:
        return await send_recv(comm, op="identity", reply=True)
    finally:
        comm.abort()


async def http(address: str, context: ssl.SSLContext | None) -> object:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    try:
        writer.write(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(1000)
    finally:
        writer.close()
    if not answer or answer[0] == ALERT:
        raise ConnectionRefusedError
    return answer


async def told(what: str, trying: Awaitable[Any]) -> str:
    try:
        answer = await asyncio.wait_for(trying, 2 * SECONDS)
    except Exception as error:
        return f"refused {what}: {type(error).__name__}"
    return f"let in {what}: {str(answer)[:80]!r}"


def intrude(hosts: Hosts, *arguments: str) -> list[str]:
    """What it tells when it is run on the driver's host."""
    program = hosts.on_driver(sys.executable, __file__, *arguments, stdout=subprocess.PIPE, text=True)
    told: str = program.communicate(timeout=60)[0]
    return told.splitlines()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--with", dest="folder", type=Path)
    given = parser.parse_args()
    tries = []
    for address in given.addresses:
        if given.folder:
            tries.append(told(f"{address} with its certificate", dask(address, certificates(given.folder))))
            continue
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        tries += [
            told(f"{address} by Dask without TLS", dask(address, None)),
            told(f"{address} by Dask with another's certificate", dask(address, Security.temporary())),
            told(f"{address} by HTTP", http(address, None)),
            told(f"{address} by HTTPS without a certificate", http(address, nobody)),
        ]
    for line in await asyncio.gather(*tries):
        print(line)


if __name__ == "__main__":
    asyncio.run(main())

"""An SSH server of asyncssh on this machine, with a home folder that this user and that of the host have in common."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import asyncssh

from prs_dask import SSHTarget

__all__ = ["SSHServer"]


class SSHServer:
    """One, while it is entered.

    Parameters
    ----------
    home
        ``$HOME``.
    kind
        Of its key.

    Attributes
    ----------
    terminals
        The types of the terminals that were asked for, None for none.
    """

    def __init__(self, home: Path, kind: str = "ssh-ed25519") -> None:
        self.home, self.terminals, self.port = home, [], 0
        self.key, self._user = asyncssh.generate_private_key(kind), asyncssh.generate_private_key("ssh-ed25519")
        (home / ".ssh").mkdir()
        self._user.write_private_key(home / ".ssh/id")
        self._user.write_public_key(home / ".ssh/authorized_keys")

    async def __aenter__(self) -> SSHServer:
        self._server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[self.key], authorized_client_keys=str(self.home / ".ssh/authorized_keys"),
            process_factory=self._run, encoding=None,
        )  # fmt: skip
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _run(self, process: Any) -> None:
        self.terminals.append(process.get_terminal_type())
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-c", process.command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self.home,
            env={**os.environ, "SSH_CONNECTION": f"127.0.0.1 1 127.0.0.1 {self.port}"},
        )

        async def feed() -> None:
            while data := await process.stdin.read(4096):
                shell.stdin.write(data)
            shell.stdin.close()

        async def tell(source: Any, target: Any) -> None:
            while data := await source.read(4096):
                target.write(data)

        feeding = asyncio.ensure_future(feed())
        await asyncio.gather(tell(shell.stdout, process.stdout), tell(shell.stderr, process.stderr))
        feeding.cancel()
        await asyncio.wait([feeding])
        process.exit(await shell.wait())

    def knows(self, key: asyncssh.SSHKey, *names: str, mark: str = "") -> None:
        """What stands in known_hosts."""
        text = key.export_public_key().decode().strip()
        (self.home / ".ssh/known_hosts").write_text("".join(f"{mark}{name} {text}\n" for name in names))

    def calls(self, alias: str, *lines: str) -> None:
        """What stands in ~/.ssh/config."""
        text = "\n  ".join((f"Host {alias}", "HostName 127.0.0.1", f"Port {self.port}", *lines))
        (self.home / ".ssh/config").write_text(f"{text}\n")

    def target(self, host: str, **settings: Any) -> SSHTarget:
        return SSHTarget(host, keys=self.home / ".ssh/id", **settings)

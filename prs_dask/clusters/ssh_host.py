"""One host of an SSHTarget, from here: the connection, what it has installed, the programs that run on it.

What goes wrong with a host is told as a `HostProblem`, in words that say what was found and what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import shlex
import sys
from collections import deque
from typing import Any

import asyncssh

from prs_dask.clusters import host_facts
from prs_dask.clusters.host_key import untrusted
from prs_dask.config import SSHTarget
from prs_dask.config.ssh_target import SSHHost

__all__ = ["ALIVE_SECONDS", "Host", "HostProblem", "Program"]

ALIVE_SECONDS = 5.0
"""Between signs of life, on the connection and to each program; a host that misses three is lost."""

END_SECONDS = 12.0
"""For a program to end when it is told to; longer than it takes to end itself by force."""

UNBORN_SECONDS = 2.0
"""The same for one that was not up yet, and has nothing to finish; then it is ended by force."""

KILL_SECONDS = 3.0
"""For that."""

_NO_SUCH_COMMAND, _NO_PERMISSION = 127, 126

_TELLS_ITS_NUMBER = f'echo "{{\\"{host_facts.MARK}\\": {{\\"pid\\": $$}}}}"; exec "$0" "$@"'
"""A program that hangs is ended by it, with all that it has started: OpenSSH forwards no signals to root's programs."""


class HostProblem(Exception):
    """A host that cannot be used, and why."""


class Host:
    """A host, until ``close``.

    Parameters
    ----------
    host
        Which one.
    target
        How to reach it, and what it runs.
    """

    def __init__(self, host: SSHHost, target: SSHTarget) -> None:
        self._host, self._target = host, target
        self._connection: asyncssh.SSHClientConnection | None = None
        self._resolved: asyncssh.SSHClientConnectionOptions | None = None

    @property
    def name(self) -> str:
        """As the user has written it: no two are the same."""
        return self._host.text

    @property
    def login(self) -> str:
        """What to write behind ``ssh`` to get there."""
        port = f"-p {self._host.port} " if self._host.port not in (None, asyncssh.DEFAULT_PORT) else ""
        return port + (f"{self._host.user}@{self._host.name}" if self._host.user else self._host.name)

    @property
    def is_connected(self) -> bool:
        """Does the connection stand, as far as is known?"""
        return self._connection is not None and not self._connection.is_closed()

    async def connect(self) -> None:
        """Log in; a connection that stood before is closed.

        Raises
        ------
        HostProblem
            Where that is not possible.
        """
        self.close()
        target = self._target
        given = {
            "port": self._host.port,
            "username": self._host.user,
            "client_keys": target.key_files,
            "known_hosts": target.known_hosts,
        }
        options = {name: value for name, value in given.items() if value is not None}
        try:
            async with asyncio.timeout(target.connect_timeout):
                # As connect does it, which tells nobody: with () it reads ~/.ssh/config.
                self._resolved = await asyncio.to_thread(
                    asyncssh.SSHClientConnectionOptions, host=self._host.name, config=(), **options
                )
                if self._resolved.known_hosts is None:  # to asyncssh this means that any key will do
                    raise HostProblem(
                        'its key would not be looked at ("UserKnownHostsFile none" in ~/.ssh/config): set known_hosts'
                    )
                self._connection = await asyncssh.connect(
                    self._host.name,
                    **options,
                    keepalive_interval=ALIVE_SECONDS,
                    keepalive_count_max=3,
                    password_auth=False,
                    kbdint_auth=False,
                    request_pty=False,  # a terminal would echo what is sent, secrets too
                )
        except (OSError, ValueError, asyncssh.Error) as error:
            raise HostProblem(self._why_not(error)) from error

    def _why_not(self, error: Exception) -> str:
        """In words: what was found, and what to do."""
        port = self._port
        if isinstance(error, TimeoutError):
            seconds = self._target.connect_timeout
            return (
                f"no SSH server has answered in {seconds:g} s: check name and network, and port {port} in its firewall"
            )
        if self._resolved is not None and (told := untrusted(error, self._resolved, self._target, self.login)):
            return told
        if isinstance(error, asyncssh.PermissionDenied):
            keys = ", ".join(self._target.key_files or ()) or "those of the SSH agent and of ~/.ssh"
            user = self._host.user or "the user of ~/.ssh/config or of this machine"
            return (
                f"it lets {user} not in with these keys: {keys}; add the public key to ~/.ssh/authorized_keys there "
                f"(ssh-copy-id {self.login}), or set user and keys"
            )
        if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)):
            return f"a private key cannot be used ({error}): give another one, or load it into an SSH agent (ssh-add)"
        if isinstance(error, ConnectionRefusedError):
            return f"no SSH server listens there on port {port}: start sshd, or set port"
        if isinstance(error, OSError) and error.filename:
            return f"{error.filename} cannot be read ({error.strerror})"
        return f"no SSH connection ({getattr(error, 'strerror', None) or str(error) or type(error).__name__})"

    @property
    def _port(self) -> int:
        """Of its SSH server: ~/.ssh/config may say which."""
        return self._host.port or (self._resolved.port if self._resolved is not None else 22)

    async def facts(self) -> dict[str, str | None]:
        """What it has installed.

        Raises
        ------
        HostProblem
            Where its Python does not tell.
        """
        connection = self._standing()
        python = self._python()
        process = None
        try:
            async with asyncio.timeout(self._target.start_timeout):
                process = await connection.create_process(self._command("-"), errors="replace")
                with contextlib.suppress(OSError, asyncssh.Error):  # it has ended: its words follow
                    process.stdin.write(inspect.getsource(host_facts))
                    process.stdin.write_eof()
                done = await process.wait()
        except TimeoutError:
            if process is not None:
                await self._kill(_pid(str(process.collect_output()[0])))
            raise HostProblem(
                f"{python} there has not told its version within {self._target.start_timeout:g} s"
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise HostProblem(f"it runs no command ({error})") from error
        for line in str(done.stdout).splitlines():
            if (found := _ours(line)) is not None and "pid" not in found:
                return found
        if done.returncode in (_NO_SUCH_COMMAND, _NO_PERMISSION):
            raise HostProblem(
                f"it has no Python at {python}: install prs_dask there, or say where its Python is "
                'with python="/path/to/python" (ssh://host/path/to/python)'
            )
        said = (str(done.stderr).strip() or str(done.stdout).strip() or "nothing")[-500:]
        raise HostProblem(f"{python} there did not run (it ended with {done.returncode} and said: {said})")

    async def start(self, spec: dict[str, Any]) -> Program:
        """Start a scheduler or a worker and wait until it is up.

        Raises
        ------
        HostProblem
            Where it does not come up.
        """
        command = self._command("-P -m prs_dask.clusters.remote")
        seconds, role, program = self._target.start_timeout, spec["role"], None
        try:
            async with asyncio.timeout(seconds):
                program = Program(await self._standing().create_process(command, errors="replace"))
                program.address = await program.told(spec)
                return program
        except TimeoutError:
            said = program.said() if program is not None else "nothing"
            why = f"its {role} was not up within {seconds:g} s (start_timeout); it said: {said}"
            raise HostProblem(why) from None
        except (OSError, asyncssh.Error) as error:
            raise HostProblem(f"the connection was lost while its {role} was starting ({error})") from error
        finally:
            if program is not None and not program.address and not await program.end():
                await self._kill(program.pid)

    def _command(self, arguments: str) -> str:
        return f"exec sh -c {shlex.quote(_TELLS_ITS_NUMBER)} {_quoted(self._python())} {arguments}"

    async def _kill(self, pid: int | None) -> None:
        """End a program that hangs, and its children: SSH has made it the first of a group."""
        if pid is not None:
            with contextlib.suppress(OSError, asyncssh.Error, TimeoutError, HostProblem):
                async with asyncio.timeout(KILL_SECONDS):
                    await self._standing().run(f"kill -KILL -{pid}")

    def _python(self) -> str:
        return self._target.python or sys.executable

    def _standing(self) -> asyncssh.SSHClientConnection:
        if self._connection is None or self._connection.is_closed():
            raise HostProblem("the SSH connection is lost")
        return self._connection

    def close(self) -> None:
        """Let go of it. A second call does nothing."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class Program:
    """``prs_dask.clusters.remote``, running on a host, until ``end``."""

    def __init__(self, process: Any) -> None:
        self.address = ""
        self.pid: int | None = None
        self.dashboard_port: int | None = None
        self._process = process
        self._errors: deque[str] = deque(maxlen=8)
        self._tasks = [asyncio.ensure_future(self._read_errors())]

    async def told(self, spec: dict[str, Any]) -> str:
        """Tell it what it is, and hear its address."""
        with contextlib.suppress(OSError, asyncssh.Error):  # it has ended: its words follow
            self._process.stdin.write(json.dumps(spec) + "\n")
        async for line in self._process.stdout:
            answer = _ours(line)
            if answer is not None and "pid" in answer:
                self.pid = answer["pid"]
                continue
            if answer is not None and answer.get("address"):
                self._tasks += [asyncio.ensure_future(self._stay_alive()), asyncio.ensure_future(self._drain())]
                self.dashboard_port = answer.get("dashboard_port")
                return str(answer["address"])
            if answer is not None:
                raise HostProblem(f"its {spec['role']} does not start: {answer.get('error')}")
        raise HostProblem(f"its {spec['role']} ended before it was up; it said: {self.said()}")

    async def wait(self) -> str:
        """Wait until it has ended, or the connection is lost, and tell the last it said."""
        await self._process.wait_closed()
        return self.said()

    def said(self) -> str:
        """The last lines of its standard error."""
        return " | ".join(self._errors) or "nothing"

    async def end(self) -> bool:
        """Let it end in order, for a while; after that it ends by itself. Has it?"""
        try:
            with contextlib.suppress(OSError, asyncssh.Error, TimeoutError):
                self._process.stdin.write_eof()
                async with asyncio.timeout(END_SECONDS if self.address else UNBORN_SECONDS):
                    await self._process.wait_closed()
                    return True
            return False
        finally:
            for task in self._tasks:
                task.cancel()
            self._process.close()

    async def _stay_alive(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while True:
                await asyncio.sleep(ALIVE_SECONDS)
                self._process.stdin.write("\n")

    async def _read_errors(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            async for line in self._process.stderr:
                if line.strip():
                    self._errors.append(line.strip()[:300])

    async def _drain(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            async for _ in self._process.stdout:
                pass


def _quoted(path: str) -> str:
    """For the shell of a host; ``~/`` is left to it."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def _ours(line: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict) and isinstance(found.get(host_facts.MARK), dict):
            return dict(found[host_facts.MARK])
    return None


def _pid(text: str) -> int | None:
    told = (_ours(line) for line in text.splitlines())
    return next((answer["pid"] for answer in told if answer is not None and "pid" in answer), None)

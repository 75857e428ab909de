"""A target that is being opened lets go of everything as soon as it is told to."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import distributed
import pytest

from prs_dask import SSHTarget
from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.clusters import check_versions, open_cluster, outline

SOON = 2.0
"""Seconds; each of these would else be waited for ten and more."""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def seconds_to_let_go(wait: Any, after: float = 0.3) -> float:
    """From when it is told to."""
    cancellation = Cancellation()
    told = threading.Timer(after, cancellation.ask)
    told.start()
    begun = time.monotonic()
    with pytest.raises(Canceled):
        wait(cancellation)
    told.join()
    return time.monotonic() - begun - after


def test_an_address_that_does_not_answer(silent: int) -> None:
    def wait(cancellation: Cancellation) -> None:
        open_cluster(f"tcp://127.0.0.1:{silent}", cancellation=cancellation)

    assert seconds_to_let_go(wait) < SOON


def test_hosts_that_do_not_answer(silent: int) -> None:
    def wait(cancellation: Cancellation) -> None:
        hosts = [f"127.0.0.1:{silent}", f"localhost:{silent}"]
        open_cluster(SSHTarget(hosts), node_count=2, cancellation=cancellation)

    assert seconds_to_let_go(wait) < SOON


class Host:
    """An SSH server on this machine that runs commands, but for the last one of them, which says nothing.

    Parameters
    ----------
    folder
        For keys.
    commands
        How many there will be: what is installed, the scheduler, the worker.
    """

    def __init__(self, folder: Path, commands: int) -> None:
        self.is_silent = threading.Event()
        self._commands, self._seen = commands, 0
        self._key, self._folder = asyncssh.generate_private_key("ssh-ed25519"), folder
        self._key.write_private_key(folder / "key")
        self._over, ready = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        ready.wait()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        public = asyncssh.import_authorized_keys(self._key.export_public_key().decode())
        server = await asyncssh.listen(
            *("127.0.0.1", 0),
            server_host_keys=[self._key],
            authorized_client_keys=public,
            process_factory=self._run,
            encoding=None,
        )
        self.port = server.get_port()
        known = f"[127.0.0.1]:{self.port} {self._key.export_public_key().decode()}"
        (self._folder / "known_hosts").write_text(known)
        ready.set()
        await self._over.wait()
        server.close()
        await server.wait_closed()

    async def _run(self, process: Any) -> None:
        self._seen += 1
        if self._seen == self._commands:
            self.is_silent.set()
            await process.wait_closed()
        else:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
            program = await asyncio.create_subprocess_shell(process.command, **pipes)
            told = asyncio.ensure_future(_carry(process.stdin, program.stdin))
            await asyncio.gather(_carry(program.stdout, process.stdout), _carry(program.stderr, process.stderr))
            process.exit(await program.wait())
            told.cancel()

    def target(self) -> SSHTarget:
        files = {"keys": self._folder / "key", "known_hosts": self._folder / "known_hosts"}
        return SSHTarget([f"127.0.0.1:{self.port}"], user="somebody", scheduler_host="127.0.0.1", **files)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


async def _carry(source: Any, target: Any) -> None:
    while piece := await source.read(1 << 12):
        target.write(piece)
    target.write_eof()


@pytest.mark.parametrize("commands", [1, 2, 3])
def test_a_host_whose_python_scheduler_or_worker_does_not_answer(tmp_path: Path, commands: int) -> None:
    host = Host(tmp_path, commands)
    cancellation, let_go = Cancellation(), []

    def tell() -> None:
        host.is_silent.wait(30)
        let_go.append(time.monotonic())
        cancellation.ask()

    told = threading.Thread(target=tell)
    told.start()
    try:
        with pytest.raises(Canceled):
            open_cluster(host.target(), cancellation=cancellation)
        assert time.monotonic() - let_go[0] < 2 * SOON
    finally:
        host.is_silent.set()
        told.join()
        host.close()


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[distributed.Client]:
    """Of a scheduler that has stopped answering."""
    address = tmp_path / "scheduler.json"
    module = "distributed.cli.dask_scheduler"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address))
    with subprocess.Popen([sys.executable, "-m", module, *options], stderr=subprocess.DEVNULL) as scheduler:
        try:
            while not address.exists():
                assert scheduler.poll() is None
                time.sleep(0.05)
            with distributed.Client(scheduler_file=str(address), set_as_default=False) as client:
                scheduler.send_signal(signal.SIGSTOP)
                yield client
                scheduler.send_signal(signal.SIGCONT)
        finally:
            scheduler.kill()


def test_a_scheduler_that_stops_answering(stopped: distributed.Client) -> None:
    assert seconds_to_let_go(lambda cancellation: outline(stopped, cancellation)) < SOON
    assert seconds_to_let_go(lambda cancellation: check_versions(stopped, cancellation, pickles_script=False)) < SOON

"""A supervisor's line to its node's fetcher, which it starts where no other has.

Lanes tell what they have been granted and go on at once: connecting, starting and sending happen in a thread. It
is a hint, so nothing that goes wrong here is told, and nothing is sent twice.

    <node folder>/fetcher.lock      held by the supervisor whose fetcher it is
                  fetcher.socket    where the fetcher listens
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prs_dask.engine.node_lock import NodeLock
from prs_dask.worker_process.family import FIRST_KEPT, ProcessFamily
from prs_dask.worker_process.frames import FetcherSetup, FrameKind, write_frame
from prs_dask.worker_process.launch import fetcher_command

__all__ = ["FetchAhead"]

MOST_WAITING = 1000
MOST_STARTS = 10
SEND_SECONDS = 5.0
CONNECT_SECONDS = 5.0


class FetchAhead:
    """See the module's docstring.

    Parameters
    ----------
    folder
        The node's folder of the step run.
    setup
        For the fetcher; it is sent to it and stands nowhere else.
    environment
        Of the fetcher.
    """

    def __init__(self, folder: Path, setup: FetcherSetup, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._setup = pickle.dumps(setup, 5)
        self._environment = environment
        self._hints: queue.Queue[list[bytes] | None] = queue.Queue(MOST_WAITING)
        self._connection: socket.socket | None = None
        self._family: ProcessFamily | None = None
        self._lock = NodeLock(folder / "fetcher.lock")
        self._starts = 0
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="prs-fetch-ahead", daemon=True)
        self._thread.start()

    def expect(self, descriptors: Iterable[bytes]) -> None:
        """These mini-batches will be read on this node soon. From any thread; does not wait."""
        with contextlib.suppress(queue.Full):
            self._hints.put_nowait(list(descriptors))

    def close(self) -> None:
        """Nothing is fetched for this supervisor any more; its own fetcher ends."""
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._hints.put_nowait(None)
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):  # ends a sending that waits for a fetcher that hangs
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    # ---------------------------------------------------------------- the thread

    def _main(self) -> None:
        try:
            descriptors: list[bytes] | None = []  # the fetcher is started before there is something to fetch
            while descriptors is not None and not self._closing:
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    if self._connection is not None:
                        write_frame(self._connection, FrameKind.WORK, 0, pickle.dumps(descriptors, 5))
                except OSError:
                    self._disconnect()
                descriptors = self._hints.get()
        finally:
            self._disconnect()
            if self._family is not None:
                self._family.kill()
                self._family.close()
            self._lock.release()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> socket.socket | None:
        """To the node's fetcher, started where there is none; None where there will be none now."""
        until = time.monotonic() + CONNECT_SECONDS
        while not self._closing:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(SEND_SECONDS)
            try:
                with self._address() as address:
                    connection.connect(address)
                write_frame(connection, FrameKind.SETUP, 0, self._setup)
                return connection
            except OSError:
                connection.close()
            if not self._lock.is_ours():  # who holds it has the node's fetcher; another takes over when it is gone
                time.sleep(0.05)  # another supervisor is about to start one, or to end
            elif self._starts < MOST_STARTS:
                self._starts += 1
                self._start()
            else:
                return None
            if time.monotonic() > until:
                return None
        return None

    def _start(self) -> None:
        if self._family is not None:
            self._family.kill()
            self._family.close()
        self._family = ProcessFamily()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, self._address() as address:
            (self._folder / "fetcher.socket").unlink(missing_ok=True)
            listener.bind(address)
            listener.listen(64)
            silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._family.start(
                    fetcher_command(FIRST_KEPT),
                    self._environment,
                    str(self._folder),
                    silence,
                    silence,
                    [listener.fileno()],
                )
            finally:
                os.close(silence)

    @contextlib.contextmanager
    def _address(self) -> Iterator[str]:
        """The socket's path, short enough however deep the folder lies."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}/fetcher.socket"
        finally:
            os.close(folder)

"""The node's fetcher: downloads files of stores into the node's cache before a worker process asks for them.

One process a node and step run. All supervisors of the node tell it what their lanes have been granted; nothing depends
on it. It may be late, be killed or fail: whoever reads a mini-batch downloads what is missing, and meets the
store's errors himself. So it says nothing to anybody, and forgets the oldest hints where there are too many.

It ends with the last connection, and is killed with the supervisor that has started it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from pickle import loads
from typing import TYPE_CHECKING, Any, NoReturn

from prs_dask.mini_batches import FileMiniBatch, decode
from prs_dask.worker_process.frames import FetcherSetup, FrameKind, read_frame

if TYPE_CHECKING:
    from prs_dask.datasets.read_spec import ReadSpec
    from prs_dask.stores.cache import NodeCache
    from prs_dask.stores.file_info import FileInfo

__all__ = ["Downloads", "main"]

THREADS = 16
MOST_FILES = 4096
"""Files that may wait for a thread; the oldest are forgotten where there are more."""

ALONE_SECONDS = 60.0


def main(listening_descriptor: int) -> NoReturn:
    """Serve the supervisors of the node; never returns."""
    code = 1
    try:
        _serve(socket.socket(fileno=listening_descriptor))
        code = 0
    finally:
        os._exit(code)


def _serve(listener: socket.socket) -> None:
    """Until there has been no supervisor for a while."""
    downloads: Downloads | None = None
    connections: dict[int, socket.socket] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while ready := poll.poll(None if connections else ALONE_SECONDS * 1000):
        for descriptor, _ in ready:
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection, select.POLLIN)
                continue
            try:
                kind, _, payload = read_frame(connections[descriptor])
            except (OSError, EOFError):
                poll.unregister(descriptor)
                connections.pop(descriptor).close()
                continue
            if kind == FrameKind.SETUP and downloads is None:
                downloads = Downloads(loads(payload))  # noqa: S301 - only this user can open the socket's folder
            elif kind == FrameKind.WORK and downloads is not None:
                downloads.expect(loads(payload))  # noqa: S301


class Downloads:
    """Files that are wanted soon, and the threads that download them."""

    def __init__(self, setup: FetcherSetup) -> None:
        sys.path.extend(path for path in setup.import_paths if path not in sys.path)
        from prs_dask.stores.cache import NodeCache

        self._readers: tuple[Any, ...] = setup.readers
        self._cache = NodeCache(Path(setup.cache_folder), setup.cache_bound)
        self._files: deque[tuple[FileInfo, ReadSpec]] = deque(maxlen=MOST_FILES)
        self._wanted = threading.Semaphore(0)
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"prs-fetch-{number}", daemon=True).start()

    def expect(self, descriptors: list[bytes]) -> None:
        """Mini-batches that will be read here soon."""
        from prs_dask.worker_process.cached_inputs import files_in_stores

        for descriptor in descriptors:
            mini_batch = decode(descriptor)
            spec = self._readers[mini_batch.input]
            if spec.in_cache and isinstance(mini_batch, FileMiniBatch):
                for _, file in files_in_stores(mini_batch):
                    self._files.append((file, spec))
                    self._wanted.release()

    def _work(self) -> None:
        cache: NodeCache = self._cache
        from prs_dask.worker_process.cached_inputs import download_of

        while True:
            self._wanted.acquire()
            # Whatever it is: who reads the mini-batch meets it too, and tells.
            with suppress(BaseException):
                file, spec = self._files.popleft()
                cache.fetch_ahead(file, download_of(file, spec))

"""A store that counts downloads, and processes that use a cache and are killed there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prs_dask.stores.cache import NodeCache
from prs_dask.stores.file_info import FileInfo

CONTEXT = multiprocessing.get_context("fork")


class FakeStore:
    """Objects are their names, over and over; every download is written down.

    Parameters
    ----------
    seconds
        A download takes so long, in ten pieces.
    hook
        Called with ``"begun"``, ``"half"`` and ``"written"``.
    """

    def __init__(self, folder: Path, size: int = 100, seconds: float = 0.0) -> None:
        self.journal = folder / "downloads"
        self.journal.touch()
        self.size = size
        self.seconds = seconds
        self.hook: Callable[[str], None] = lambda _: None

    def file(self, name: str, version: str = "1") -> FileInfo:
        return FileInfo(f"fake://box/{name}", self.size, version)

    def content(self, name: str) -> bytes:
        return (name.encode() * self.size)[: self.size]

    def download(self, file: FileInfo) -> Callable[[Path], None]:
        def write(target: Path) -> None:
            with self.journal.open("a") as journal:
                journal.write(f"{file.path} {os.getpid()}\n")
            self.hook("begun")
            content = self.content(file.path.rpartition("/")[2])
            with target.open("wb") as out:
                for part in range(10):
                    time.sleep(self.seconds / 10)
                    out.write(content[part * self.size // 10 : (part + 1) * self.size // 10])
                    out.flush()
                    if part == 4:
                        self.hook("half")
            self.hook("written")

        return write

    @property
    def downloads(self) -> list[str]:
        """Names, as they were begun."""
        return [line.split()[0].rpartition("/")[2] for line in self.journal.read_text().splitlines()]

    def hold(self, cache: NodeCache, name: str) -> bytes:
        """What a mini-batch reads of an object."""
        return Path(cache.hold(self.file(name), self.download(self.file(name)))).read_bytes()

    def fetch_ahead(self, cache: NodeCache, name: str) -> bool:
        return cache.fetch_ahead(self.file(name), self.download(self.file(name)))


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    return FakeStore(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def new_cache(folder: Path, no_leaks: None) -> Iterator[Callable[..., NodeCache]]:
    """A further view of the one cache: ``new_cache(bound)``."""
    made = []

    def make(bound: int | None = 1 << 30) -> NodeCache:
        made.append(NodeCache(folder, bound))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """A forked process that calls a function; killed with the test."""
    processes = []

    def begin(function: Callable[..., None], *arguments: Any) -> Any:
        process = CONTEXT.Process(target=function, args=arguments)
        process.start()
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        process.close()

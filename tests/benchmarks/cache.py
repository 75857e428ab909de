"""Figures of the node's cache: how long a download waits where room has to be made among very many files."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from prs_dask.stores.cache import NodeCache
from prs_dask.stores.file_info import FileInfo
from prs_dask.stores.file_names import cache_key
from prs_dask.stores.ledger import Ledger
from prs_dask.stores.range_locks import RangeLocks
from prs_dask.stores.shelves import SHELVES, identity

__all__ = ["full_cache"]

CONTEXT = multiprocessing.get_context("fork")
PROCESSES = 4
SECONDS = 10.0


def full_cache(scale: float) -> dict[str, Any]:
    """100,000 files of one byte fill the cache's bound, and four processes bring further ones for 10 s."""
    files = max(PROCESSES, int(100_000 * scale))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "cache"
        _fill(folder, files)
        waits = sorted(wait for found in _in_processes(_bring, folder, SECONDS) for wait in found)
    return {
        "files": files,
        "brought_a_second": round(len(waits) / SECONDS),
        "median_ms": round(statistics.median(waits) * 1e3, 3),
        "of_a_thousand_the_longest_ms": round(waits[-max(1, len(waits) // 1000)] * 1e3, 1),
        "longest_ms": round(waits[-1] * 1e3, 1),
    }


def _in_processes(function: Callable[..., None], *arguments: Any) -> list[Any]:
    found, pipes = [], []
    for number in range(PROCESSES):
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=function, args=(there, number, *arguments))
        process.start()
        pipes.append((process, here))
    for process, pipe in pipes:
        found.append(pipe.recv())
        process.join()
    return found


def _hold(cache: NodeCache, name: str) -> None:
    cache.hold(FileInfo(f"fake://box/{name}", 1, "1"), lambda target: target.write_bytes(b"x") and None)
    cache.let_go()


def _fill(folder: Path, count: int) -> None:
    """As after so many uses; ten times as fast as using them."""
    cache = NodeCache(folder, count)
    for shelf in SHELVES:
        for where in ("files", "waiting", "used"):
            (folder / shelf / where).mkdir(parents=True)
    for number in range(count):
        key = cache_key(f"fake://box/first-{number}", "1")
        place = f"{folder}/{key[:2]}/files/{key}"
        os.mkdir(place)
        _write(f"{place}/x", b"x")
        _write(f"{folder}/{key[:2]}/used/{key}", b"%d %d %d x" % (identity(f"{place}/x") or ()))
    with RangeLocks(str(folder / "locks")) as own, Ledger(folder, None).open(own) as counts:
        counts.add(count)
    cache.close()


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, data)
    os.close(descriptor)


def _bring(pipe: Connection, number: int, folder: Path, seconds: float) -> None:
    cache, waits, until = NodeCache(folder), [], time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        _hold(cache, f"second-{number}-{len(waits)}")
        waits.append(time.monotonic() - begun)
    pipe.send(waits)

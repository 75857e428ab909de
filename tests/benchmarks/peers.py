"""The same work by others: Dask alone and multiprocessing, both warm, rows written to a file.

None of them has a journal, attempts, limits or logs.
"""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Iterable

from distributed import Client, as_completed

from tests.benchmarks.workloads import no_op_paths

__all__ = ["client_map", "pool_imap", "windowed_client_map"]


def no_op(paths: tuple[str, ...]) -> list[str]:
    """What ``scripts/no_op.py`` does."""
    return [f"{path},ok" for path in paths]


def _write(results: Iterable[list[str]]) -> None:
    with tempfile.TemporaryFile("w") as file:
        for rows in results:
            file.write("\n".join(rows) + "\n")


def pool_imap(count: int) -> float:
    """Mini-batches a second of ``multiprocessing.Pool(2).imap_unordered`` with chunksize 1."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(no_op, [no_op_paths(0)] * 100, chunksize=1)
        begun = time.perf_counter()
        _write(pool.imap_unordered(no_op, map(no_op_paths, range(count)), chunksize=1))
        return count / (time.perf_counter() - begun)


def client_map(client: Client, count: int) -> float:
    """Mini-batches a second of ``client.map`` over all of them, read with ``as_completed``."""
    client.gather(client.map(no_op, [no_op_paths(0)] * 2, pure=False))
    begun = time.perf_counter()
    futures = client.map(no_op, [no_op_paths(number) for number in range(count)], pure=False)
    _write(rows for _, rows in as_completed(futures, with_results=True))
    return count / (time.perf_counter() - begun)


def windowed_client_map(client: Client, count: int, window: int = 64) -> float:
    """The same, with at most ``window`` futures at a time, refilled by the quarter."""
    client.gather(client.map(no_op, [no_op_paths(0)] * 2, pure=False))
    numbers = iter(range(count))
    results = as_completed(with_results=True)

    def more(size: int) -> None:
        paths = [no_op_paths(number) for number in itertools.islice(numbers, size)]
        if paths:
            results.update(client.map(no_op, paths, pure=False))

    def rows() -> Iterable[list[str]]:
        done = 0
        while not results.is_empty():
            batch = results.next_batch()
            yield from (row for _, row in batch)
            done += len(batch)
            if done >= window // 4:
                more(done)
                done = 0

    begun = time.perf_counter()
    more(window)
    _write(rows())
    return count / (time.perf_counter() - begun)

"""Mini-batches of files in stores, as ``run()`` receives them: local paths in the node's cache.

What is missing there is downloaded while the mini-batch is read, several files at a time. Mostly it is not missing:
the node's fetcher has been told of the mini-batch before (`prs_dask.worker_process.fetcher`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.local_files import check_local_files
from prs_dask.datasets.reading import items_of, read
from prs_dask.mini_batches import BisectedMiniBatch, FileMiniBatch, MiniBatch
from prs_dask.stores.cache import Download, NodeCache
from prs_dask.stores.file_info import FileInfo, size_in

if TYPE_CHECKING:
    import pandas as pd

    from prs_dask.datasets.read_spec import ReadSpec

__all__ = ["CachedInputs", "download_of", "files_in_stores"]

THREADS = 8


class CachedInputs:
    """Reads mini-batches; what it has given out stays until `let_go`.

    Parameters
    ----------
    folder, bound
        See `NodeCache`.
    """

    def __init__(self, folder: str, bound: int | None) -> None:
        self._cache = NodeCache(Path(folder), bound)

    def read(self, mini_batch: MiniBatch, spec: ReadSpec) -> list[str] | pd.DataFrame:
        """As `prs_dask.datasets.reading.read`, and also raises what the store does."""
        if isinstance(mini_batch, BisectedMiniBatch):
            return items_of(mini_batch, self.read(mini_batch.source, spec))
        if not (spec.in_cache and isinstance(mini_batch, FileMiniBatch)):
            return read(mini_batch, spec)
        if mini_batch.versions:
            check_local_files(mini_batch.paths, mini_batch.versions)
        wanted = dict(files_in_stores(mini_batch))
        found = {url: self._cache.hold_present(file) for url, file in wanted.items()}
        missing = [file for url, file in wanted.items() if found[url] is None]
        if len(missing) == 1:
            found[missing[0].path] = self._hold(missing[0], spec)
        elif missing:
            found |= zip((file.path for file in missing), self._hold_all(missing, spec), strict=True)
        return [found.get(path) or path for path in mini_batch.paths]

    def let_go(self) -> None:
        """The attempt is over."""
        self._cache.let_go()

    def _hold(self, file: FileInfo, spec: ReadSpec) -> str:
        return self._cache.hold(file, download_of(file, spec))

    def _hold_all(self, files: list[FileInfo], spec: ReadSpec) -> list[str]:
        """Several at a time; no thread is left when run() begins."""
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(min(THREADS, len(files)), "prs-download")
        try:
            return list(pool.map(partial(self._hold, spec=spec), files))
        finally:
            pool.shutdown(cancel_futures=True)


def files_in_stores(mini_batch: FileMiniBatch) -> Iterator[tuple[str, FileInfo]]:
    """The files of a mini-batch that do not lie on this machine, by their URLs."""
    versions: Any = mini_batch.versions or ("",) * len(mini_batch.paths)
    for path, version in zip(mini_batch.paths, versions, strict=True):
        if not path.startswith(os.sep):
            yield path, FileInfo(path, size_in(version), version)


def download_of(file: FileInfo, spec: ReadSpec) -> Download:
    """How a file is brought from its store."""
    from prs_dask.stores.store import store_of

    # The packages of a store take longer to load than a file to come: nobody shall wait for that at the file's lock.
    store = store_of(file.path, spec.storage)
    return lambda target: store.download(file, target)

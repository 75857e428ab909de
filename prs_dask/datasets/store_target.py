"""A folder of a store, into which many tasks write at once: no rename gives it its name in the end.

::

    <url>/.writing-<token>                          there as long as it is being written
          Store=2/part-00000-<token>.parquet        what a task has written, of its partition
          _partition_keys.json                      written last: all is there

Who gives up removes the mark first, then all files with the token. A task looks for the mark when it has written: if
it is gone it removes its own files. So whichever comes last leaves nothing. Retries of a task write the same names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.datasets.path_keys import KEYS_FILE
from prs_dask.errors import Fault, OutputError
from prs_dask.stores.urls import HTTP, protocol_of, shown

if TYPE_CHECKING:
    from prs_dask.stores import StorageOptions, Store

__all__ = ["StoreTarget", "target_faults"]

AT_ONCE = 8
"""Files that one task sends side by side; each is in memory."""

_NEW = "a new or empty folder of a store"


def target_faults(url: str, options: StorageOptions | None) -> list[Fault]:
    """What is wrong with a URL as a target: it is not empty, or cannot be listed."""
    if protocol_of(url) in HTTP:
        allowed = "a store that can be written: s3://, abfs://, gs:// and others; or a local folder"
        return [Fault("target", f"{shown(url)!r}, and HTTP servers take no files", allowed)]
    target = StoreTarget(url, options, "")
    try:
        if next(iter(target.store.list(url)), None) is not None:
            return [Fault("target", f"{shown(url)!r}, which is not empty", _NEW, "another target")]
        with suppress(FileNotFoundError):
            target.store.info(url)
            return [Fault("target", f"{shown(url)!r}, which is no folder", _NEW, "another target")]
    except FileNotFoundError:
        return [Fault("target", f"{shown(url)!r}, whose bucket or container does not exist", "one that exists")]
    except OSError as error:
        return [Fault("target", f"{shown(url)!r}: {error.strerror or error}", "a folder that can be written")]
    return []


class StoreTarget(NamedTuple):
    """Where tasks write; travels to them.

    Parameters
    ----------
    url
        The folder, without credentials and without a slash at its end.
    options
        Of the store; no ``repr`` shows them.
    token
        Tells the files of this writing from others.
    """

    url: str
    options: StorageOptions | None
    token: str

    @property
    def store(self) -> Store:
        """The store, in this process."""
        from prs_dask.stores import store_of

        return store_of(self.url, self.options)

    def begin(self) -> None:
        """Set the mark: raises OutputError where nothing can be written."""
        try:
            self.store.write(self._mark, b"")
        except OSError as error:
            raise self._refused(error) from error

    def write(self, files: Iterable[tuple[Sequence[str], Any]], number: int) -> int:
        """Write the tables of a partition, each below its folders, and tell how many.

        Raises
        ------
        OutputError
            The writing was given up meanwhile; nothing of this partition is left.
        """
        from concurrent.futures import Future, ThreadPoolExecutor

        written: list[str] = []
        under_way: deque[Future[None]] = deque()
        with ThreadPoolExecutor(AT_ONCE, "prs-write") as pool:
            for folders, table in files:
                written.append("/".join([self.url, *folders, f"part-{number:05}-{self.token}.parquet"]))
                if len(under_way) == AT_ONCE:
                    under_way.popleft().result()
                under_way.append(pool.submit(self.store.write, written[-1], _parquet(table)))
            for one in under_way:
                one.result()
        try:
            self.store.info(self._mark)
        except FileNotFoundError:
            self._remove(written)
            found = f"{shown(self.url)!r}, of which the writing was given up"
            raise OutputError([Fault("target", found, _NEW)]) from None
        return len(written)

    def finish(self, files: int, keys: str) -> None:
        """See that all of it is there and nothing else, and say so in ``KEYS_FILE``.

        Raises
        ------
        OutputError
            Something else is there, or something is not.
        """
        try:
            found = [info.path for info in self.store.list(self.url)]
            own = sum(map(self._is_own, found))
            if own != files:
                told = f"{own} files in {shown(self.url)!r}, where the workers have written {files}"
                raise OutputError([Fault("target", told, "a store that driver and workers share")])
            if len(found) != files + 1:
                told = f"{shown(self.url)!r}, into which others have written meanwhile"
                raise OutputError([Fault("target", told, _NEW, "another target")])
        except OSError as error:
            raise self._refused(error) from error
        try:
            self.store.write(f"{self.url}/{KEYS_FILE}", keys.encode())
        except BaseException as error:
            with suppress(OSError):  # it may be there all the same
                self.store.remove(f"{self.url}/{KEYS_FILE}")
            raise self._refused(error) if isinstance(error, OSError) else error from None
        with suppress(OSError):
            self.store.remove(self._mark)

    def give_up(self) -> None:
        """Leave nothing of it, as far as the store allows."""
        with suppress(OSError):
            self.store.remove(self._mark)
        with suppress(OSError):
            self._remove([info.path for info in self.store.list(self.url) if self._is_own(info.path)])

    @property
    def _mark(self) -> str:
        return f"{self.url}/.writing-{self.token}"

    def _is_own(self, url: str) -> bool:
        return url.endswith(f"-{self.token}.parquet")

    def _remove(self, urls: Iterable[str]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(AT_ONCE, "prs-remove") as pool:
            for gone in [pool.submit(self.store.remove, url) for url in urls]:
                with suppress(OSError):
                    gone.result()

    def _refused(self, error: OSError) -> OutputError:
        found = f"{shown(self.url)!r}: {error.strerror or error}"
        return OutputError([Fault("target", found, "a folder of a store that can be written")])


def _parquet(table: Any) -> bytes:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    sink = pa.BufferOutputStream()
    write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data

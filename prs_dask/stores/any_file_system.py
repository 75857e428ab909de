"""Any other file system that fsspec knows: GCS, SFTP, HDFS, memory, ...

A folder at a time is listed and held; names come in the order of whole paths, as in an object store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prs_dask.stores.client import Found, Page

__all__ = ["AnyClient"]

_PAGE = 1000
_TELLING = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "checksum",
    "LastModified",
    "mtime",
    "modified",
    "updated",
    "created",
)


class AnyClient:
    """See `Client`.

    Parameters
    ----------
    make
        A file system for the calling thread: those that are not built on asyncio are no thread's but their maker's.
    protocol
        Of the URLs, whose paths differ from the file system's own by what it strips from them.
    """

    def __init__(self, make: Any, protocol: str) -> None:
        self._make = make
        self._protocol = protocol

    def prepare(self) -> None:
        """Nothing: what a request needs was loaded with the file system."""

    def info(self, path: str) -> Found:
        file_system = self._make()
        file_system.invalidate_cache()
        told = file_system.info(f"{self._protocol}://{path}")
        if told.get("type") == "directory":
            raise FileNotFoundError(path)
        return Found(path, _size(told), _identity(told))

    def read(self, path: str, offset: int, size: int) -> bytes:
        data: bytes = self._make().cat_file(f"{self._protocol}://{path}", start=offset, end=offset + size)
        return data

    def page(self, prefix: str, start: Any) -> Page:
        walk = self._walk(prefix) if start is None else start
        files = []
        for found in walk:
            files.append(found)
            if len(files) == _PAGE:
                return Page(files, walk)
        return Page(files, None)

    def write(self, path: str, data: bytes) -> None:
        file_system = self._make()
        above = path.rpartition("/")[0]
        file_system.makedirs(f"{self._protocol}://{above}", exist_ok=True)
        file_system.pipe_file(f"{self._protocol}://{path}", data)

    def remove(self, path: str) -> None:
        self._make().rm_file(f"{self._protocol}://{path}")

    def _walk(self, prefix: str) -> Iterator[Found]:
        file_system = self._make()
        file_system.invalidate_cache()
        above = prefix.rpartition("/")[0]
        root = file_system._strip_protocol(f"{self._protocol}://{above}").rstrip("/")
        stack = [(f"{above}/", {"name": root, "type": "directory"})]
        while stack:
            path, told = stack.pop()
            if told["type"] != "directory":
                yield Found(path, _size(told), _identity(told))
                continue
            entries = []
            try:
                listed = file_system.ls(told["name"], detail=True)
            except FileNotFoundError:
                if told["name"] == root:
                    return  # as in an object store, where there are no folders
                raise
            for entry in listed:
                name = entry["name"].rstrip("/").rpartition("/")[2]
                if entry["name"].rstrip("/") == told["name"].rstrip("/"):
                    continue  # some list a folder in itself
                below = f"{path}{name}/" if entry["type"] == "directory" else path + name
                if below.startswith(prefix) or prefix.startswith(below):
                    entries.append((below, entry))
            entries.sort(key=lambda one: one[0].encode("utf-8", "surrogatepass"), reverse=True)
            stack += entries


def _size(told: Any) -> int:
    size = told.get("size")
    return int(size) if size is not None else -1


def _identity(told: Any) -> str:
    """Some tell times as numbers here and as datetimes there."""
    value = next((told[name] for name in _TELLING if told.get(name)), "")
    return str(value.timestamp() if hasattr(value, "timestamp") else value).strip('"')

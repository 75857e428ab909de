"""A store of files, as the rest of prs_dask sees it.

One `Store` for each store and set of options in a process, shared by its threads (`store_of`). It joins a
`Client`, which asks once, with patience, with errors that people understand, and with versions.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from prs_dask.cancellation import Canceled
from prs_dask.errors import Fault, InputError, ReadError
from prs_dask.stores.failures import ShortRead, StoreFailed
from prs_dask.stores.file_info import FileInfo, size_in
from prs_dask.stores.options import StorageOptions
from prs_dask.stores.retries import patiently
from prs_dask.stores.urls import AZURE, HTTP, protocol_of, shown

if TYPE_CHECKING:
    from prs_dask.stores.client import Client, Found, Page

__all__ = ["REQUEST_BYTES", "Store", "store_of"]

REQUEST_BYTES = 8 << 20
"""Most bytes of one request: what is lost when one fails."""

_FOLDER_MARKS = ("/", "_$folder$")
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(AZURE, "azure"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(HTTP, "http"),
}


class Store:
    """Files of one store. Made by `store_of`.

    All methods raise FileNotFoundError, `AccessRefused` (a PermissionError) or `StoreFailed` (an OSError, after the
    last try); none of their messages holds a secret.
    """

    def __init__(self, protocol: str, client: Client, options: StorageOptions | None) -> None:
        self._protocol, self._client, self._options = protocol, client, options

    def __repr__(self) -> str:
        return f"Store({self._protocol})"

    def prepare(self) -> None:
        """Load what the first request would load, in the time of whoever calls; the store is asked nothing."""
        self._client.prepare()

    def info(self, url: str) -> FileInfo:
        """What there is under this name; a folder is no file."""
        return self._told(self._ask(url, self._client.info, _path(url)))

    def read_at(
        self, url: str, offset: int, size: int, whole: bool = False, stop: threading.Event | None = None
    ) -> bytes:
        """``size`` bytes from ``offset``, fewer at the file's end only.

        Parameters
        ----------
        whole
            The file is known to have so many there: fewer are a fault, or a ReadError where it has become shorter.
        stop
            Once it is set, nothing is asked again.
        """
        pieces = []
        while size > 0:
            wanted = min(size, REQUEST_BYTES)
            ask = partial(self._read, _path(url), offset, wanted, whole)
            piece: bytes = patiently(ask, url, self._options, stop)
            pieces.append(piece)
            if len(piece) < wanted:
                break
            offset, size = offset + wanted, size - wanted
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, path: str, offset: int, size: int, whole: bool) -> bytes:
        data = self._client.read(path, offset, size)
        if whole and len(data) < size:
            now = self._client.info(path)
            if 0 <= now.size < offset + size:
                raise changed(f"{self._protocol}://{path}", "", "")
            raise ShortRead(f"{len(data)} bytes instead of {size}")
        return data[:size]

    def open(self, url: str, size: int = -1, buffer: int = 1 << 20) -> IO[bytes]:
        """A binary file that can seek.

        Parameters
        ----------
        size
            Its bytes, where that is known: saves a request.
        buffer
            So much is read at least; 0: just what is asked for.
        """
        from prs_dask.stores.store_file import StoreFile

        if size < 0 and (size := self.info(url).size) < 0:
            raise StoreFailed(
                errno.EIO, "its store does not tell how large it is, so only the whole file can be had", shown(url)
            )
        file = StoreFile(partial(self.read_at, url, whole=True), size)
        return cast("IO[bytes]", io.BufferedReader(file, buffer) if buffer else file)

    def list(self, url: str, prefix: bool = False) -> Iterator[FileInfo]:
        """Every file below a folder, in the order of whole paths, a page at a time.

        Parameters
        ----------
        url
            The folder.
        prefix
            ``url`` is not a folder, but what the files' URLs begin with.
        """
        path = _path(url) if prefix else _path(url).rstrip("/") + "/"
        start: Any = None
        while True:
            page: Page = self._ask(url, self._client.page, path, start)
            for found in page.files:
                if not (found.size <= 0 and found.path.endswith(_FOLDER_MARKS)):
                    yield self._told(found)
            start = page.following
            if start is None:
                return

    def write(self, url: str, data: bytes) -> None:
        """Make a file, whole, in place of one that may have this name."""
        self._ask(url, self._client.write, _path(url), data)

    def remove(self, url: str) -> None:
        """Remove a file; it may be gone already."""
        with suppress(FileNotFoundError):
            self._ask(url, self._client.remove, _path(url))

    def check_unchanged(self, url: str, version: str) -> None:
        """See that a file still is what it was when it was listed; asked *after* reading it.

        Raises
        ------
        ReadError
            It is not.
        """
        if not version:
            return
        now = self.info(url)
        if now.version != version:
            raise changed(url, version, now.version)

    def download(self, info: FileInfo, target: Path, stop: threading.Event | None = None) -> None:
        """Bring a file, as it was listed, under a local name, at once or not at all.

        Parameters
        ----------
        stop
            Once it is set, no more is read.

        Raises
        ------
        Canceled
            ``stop`` was set.
        ReadError
            It was changed since it was listed.
        OSError
            The disk is full, and the like.
        """
        target = Path(target)
        beside = target.with_name(f".{target.name[:100]}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            with beside.open("wb") as file:
                have = 0
                while piece := self.read_at(info.path, have, REQUEST_BYTES, stop=stop):
                    if stop is not None and stop.is_set():
                        raise Canceled
                    file.write(piece)
                    have += len(piece)
                    if len(piece) < REQUEST_BYTES or have == info.size:
                        break
            self.check_unchanged(info.path, info.version)
            if info.size >= 0 and have != info.size:
                raise changed(info.path, f"{info.size}-", f"{have}-")
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _told(self, found: Found) -> FileInfo:
        version = f"{found.size}-{found.identity}" if found.size >= 0 or found.identity else ""
        return FileInfo(f"{self._protocol}://{found.path}", found.size, version)

    def _ask(self, url: str, ask: Callable[..., Any], *arguments: Any) -> Any:
        return patiently(partial(ask, *arguments), url, self._options)


def changed(url: str, listed: str, now: str) -> ReadError:
    """The error for a file of another version."""
    before, after = size_in(listed), size_in(now)
    what = "written anew" if before == after else f"{before:,} bytes then, {after:,} now"
    told = f" ({what})" if before >= 0 <= after else ""
    return ReadError(f"{shown(url)}: the file was changed since it was listed{told}")


def _path(url: str) -> str:
    return url.partition("://")[2]


_STORES: dict[tuple[Any, ...], Store] = {}
_LOCK = threading.Lock()


def store_of(url: str, options: StorageOptions | None = None) -> Store:
    """The store that a URL lies in; the same one at every call in a process.

    Raises
    ------
    InputError
        What is needed to talk to it is not installed, or the options are not what it takes.
    """
    protocol = protocol_of(url)
    in_url = _options_in(url, protocol)
    key = (os.getpid(), protocol, tuple(sorted(in_url.items())), options)
    with _LOCK:
        store = _STORES.get(key)
        if store is None:
            store = _STORES[key] = Store(protocol, _client(url, protocol, {**in_url, **(options or {})}), options)
        return store


def _options_in(url: str, protocol: str) -> dict[str, Any]:
    """What a URL tells of where its store is."""
    if protocol in AZURE:
        from prs_dask.stores.azure import options_in

        return options_in(_path(url))
    if protocol in _EXTRAS:
        return {}
    found = _class_of(protocol)._get_kwargs_from_urls(url)
    return {name: value for name, value in found.items() if name in ("host", "port", "username", "user")}


def _class_of(protocol: str) -> Any:
    from fsspec import get_filesystem_class

    name = "abfs" if protocol in AZURE else protocol
    try:
        return get_filesystem_class(name)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = f'pip install "prs-dask[{extra}]"' if extra else f"pip install {error.name or protocol}"
        fault = Fault(
            "path", f"a {protocol}:// URL, but no package for it", "stores whose packages are installed", install
        )
        raise InputError([fault]) from None


def _client(url: str, protocol: str, options: dict[str, Any]) -> Client:
    from prs_dask.stores.failures import describe, ways_in
    from prs_dask.stores.option_names import unknown_options

    kind = _class_of(protocol)
    if faults := unknown_options(kind, protocol, options):
        raise InputError(faults)
    try:
        return _joined(kind, protocol, options)
    except Exception as error:
        failed = describe(error, url, StorageOptions(options))
        found = f"what {kind.__name__} does not take for {shown(url)}: {failed.strerror}"
        raise InputError([Fault("storage_options", found, ways_in(url))]) from None


def _joined(kind: Any, protocol: str, options: dict[str, Any]) -> Client:
    # No instance of fsspec's own cache: it lives as long as the process, and hands out old listings.
    fresh = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        from prs_dask.stores import s3

        return s3.S3Client(kind(**{**fresh, **s3.constructor_options(options)}))
    if protocol in AZURE:
        from prs_dask.stores.azure import AzureClient
        from prs_dask.stores.azure_logs import redact_logs

        file_system = kind(**{**fresh, **options})
        redact_logs(options)
        return AzureClient(file_system)
    if protocol in HTTP:
        from prs_dask.stores import web

        own, queries = web.constructor_options(options)
        return web.WebClient(kind(**{**fresh, **own}), protocol, queries)
    from prs_dask.stores.any_file_system import AnyClient

    if getattr(kind, "async_impl", False):
        one = kind(**{**fresh, **options})
        return AnyClient(lambda: one, protocol)
    kind(**options)  # its faults are told at once; fsspec keeps one instance for each thread
    return AnyClient(lambda: kind(**options), protocol)

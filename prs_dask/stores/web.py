"""Single files over HTTP and HTTPS, through fsspec's session.

Ranges are asked for; a server that does not know them sends the whole file, of which the rest is left unread.
"""

from __future__ import annotations

import errno
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from prs_dask.stores.client import SILENT_SECONDS, Found, Page, awaited
from prs_dask.stores.urls import URL_QUERIES

__all__ = ["WebClient", "constructor_options"]

_PIECE = 1 << 16
_NO_HEAD = (405, 501)


def constructor_options(options: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]]:
    """For HTTPFileSystem, and secret queries by URL."""
    import aiohttp

    options = dict(options)
    queries = options.pop(URL_QUERIES, {})
    client = dict(options.pop("client_kwargs", None) or {})
    client.setdefault("timeout", aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENT_SECONDS))
    if "username" in options:
        who = f"{options.pop('username')}:{options.pop('password', '')}"
        basic = {"Authorization": f"Basic {b64encode(who.encode()).decode()}"}
        options["headers"] = {**basic, **options.get("headers", {})}
    return {**options, "client_kwargs": client}, queries


class WebClient:
    """See `Client`; there are no listings.

    Parameters
    ----------
    protocol
        ``http`` or ``https``.
    queries
        To be added to a URL, which is then secret.
    """

    def __init__(self, file_system: Any, protocol: str, queries: Mapping[str, str]) -> None:
        self._file_system = file_system
        self._protocol = protocol
        self._queries = queries

    def prepare(self) -> None:
        """Nothing: what a request needs was loaded with the file system."""

    def info(self, path: str) -> Found:
        return awaited(self._file_system, self._head, path)

    async def _head(self, path: str) -> Found:
        async with await self._request("HEAD", path) as answer:
            if answer.status not in _NO_HEAD:
                answer.raise_for_status()
                return Found(path, _length(answer.headers), _identity(answer.headers))
        async with await self._request("GET", path) as answer:  # its body is left unread
            answer.raise_for_status()
            return Found(path, _length(answer.headers), _identity(answer.headers))

    def read(self, path: str, offset: int, size: int) -> bytes:
        return awaited(self._file_system, self._get, path, offset, size)

    async def _get(self, path: str, offset: int, size: int) -> bytes:
        async with await self._request("GET", path, Range=f"bytes={offset}-{offset + size - 1}") as answer:
            if answer.status == 416:
                return b""
            answer.raise_for_status()
            if answer.status == 206:
                return bytes(await answer.read())
            data = bytearray()
            passed = 0
            async for piece in answer.content.iter_chunked(_PIECE):
                data += piece[max(0, offset - passed) :]
                passed += len(piece)
                if len(data) >= size:
                    return bytes(data[:size])
            return bytes(data)

    async def _request(self, method: str, path: str, **headers: str) -> Any:
        url = f"{self._protocol}://{path}"
        if query := self._queries.get(url):
            url = f"{url}?{query}"
        options = dict(self._file_system.kwargs)
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        session = await self._file_system.set_session()
        return await session.request(
            method, self._file_system.encode_url(url), headers=headers, **{"allow_redirects": True, **options}
        )

    def page(self, prefix: str, start: Any) -> Page:
        raise NotADirectoryError(errno.ENOTDIR, "HTTP servers have no listings", prefix)

    def write(self, path: str, data: bytes) -> None:
        raise PermissionError(errno.EROFS, "HTTP servers take no files", path)

    def remove(self, path: str) -> None:
        raise PermissionError(errno.EROFS, "HTTP servers let no files be removed", path)


def _length(headers: Mapping[str, str]) -> int:
    if headers.get("Content-Encoding", "identity") != "identity":
        return -1
    length = headers.get("Content-Length", "")
    return int(length) if length.isdigit() else -1


def _identity(headers: Mapping[str, str]) -> str:
    return (headers.get("ETag") or headers.get("Last-Modified") or "").removeprefix("W/").strip('"')

"""Azure Blob Storage and Data Lake Storage Gen2, through adlfs."""

from __future__ import annotations

import re
from typing import Any

from prs_dask.stores.client import SILENT_SECONDS, Found, Page, awaited

__all__ = ["AzureClient", "options_in"]

_ACCOUNT = re.compile(r"(?:[^/@]*@)?([^/@.]+)\.(?:dfs|blob)\.core\.windows\.net(?=/|$)", re.IGNORECASE)
# azure-core would wait for a quarter of a minute before its first retry.
_ONCE: dict[str, Any] = {"retry_total": 0, "connection_timeout": 10, "read_timeout": int(SILENT_SECONDS)}


def options_in(path: str) -> dict[str, Any]:
    """The account, where a URL's authority has it: ``container@account.dfs.core.windows.net``."""
    match = _ACCOUNT.match(path)
    return {"account_name": match[1]} if match else {}


class AzureClient:
    """See `Client`."""

    def __init__(self, file_system: Any) -> None:
        self._file_system = file_system

    def prepare(self) -> None:
        """Nothing: what a request needs was loaded with the file system."""

    def info(self, path: str) -> Found:
        container, blob, _ = _split(path)
        if not blob or blob.endswith("/"):
            raise FileNotFoundError(path)
        told = awaited(self._file_system, self._properties, container, blob)
        if _is_folder(told):
            raise FileNotFoundError(path)
        return Found(path, told.size, _identity(told))

    async def _properties(self, container: str, blob: str) -> Any:
        async with self._file_system.service_client.get_blob_client(container, blob) as client:
            return await client.get_blob_properties(**_ONCE)

    def read(self, path: str, offset: int, size: int) -> bytes:
        container, blob, _ = _split(path)
        data: bytes = awaited(self._file_system, self._download, container, blob, offset, size)
        return data

    async def _download(self, container: str, blob: str, offset: int, size: int) -> bytes:
        async with self._file_system.service_client.get_blob_client(container, blob) as client:
            try:
                stream = await client.download_blob(offset=offset, length=size, max_concurrency=1, **_ONCE)
            except Exception as error:
                if getattr(error, "status_code", None) == 416:  # behind the end
                    return b""
                raise
            data: bytes = await stream.readall()
            return data

    def page(self, prefix: str, start: Any) -> Page:
        container, blob, root = _split(prefix)
        told, following = awaited(self._file_system, self._list, container, blob, start)
        files = [Found(f"{root}/{one.name}", one.size, _identity(one)) for one in told if not _is_folder(one)]
        return Page(files, following)

    async def _list(self, container: str, blob: str, start: Any) -> tuple[list[Any], Any]:
        async with self._file_system.service_client.get_container_client(container) as client:
            pages = client.list_blobs(name_starts_with=blob or None, include=["metadata"], **_ONCE).by_page(start)
            async for page in pages:
                return [one async for one in page], pages.continuation_token or None
        return [], None

    def write(self, path: str, data: bytes) -> None:
        container, blob, _ = _split(path)
        awaited(self._file_system, self._upload, container, blob, data, sent=len(data))

    async def _upload(self, container: str, blob: str, data: bytes) -> None:
        async with self._file_system.service_client.get_blob_client(container, blob) as client:
            await client.upload_blob(data, overwrite=True, **_ONCE)

    def remove(self, path: str) -> None:
        container, blob, _ = _split(path)
        awaited(self._file_system, self._delete, container, blob)

    async def _delete(self, container: str, blob: str) -> None:
        async with self._file_system.service_client.get_blob_client(container, blob) as client:
            await client.delete_blob(**_ONCE)


def _split(path: str) -> tuple[str, str, str]:
    """Container, blob, and what stands before the blob."""
    authority, _, blob = path.partition("/")
    container = authority.partition("@")[0]
    if "@" not in authority and _ACCOUNT.match(authority):  # account.dfs.core.windows.net/container/...
        container, _, blob = blob.partition("/")
        return container, blob, f"{authority}/{container}"
    return container, blob, authority


def _identity(told: Any) -> str:
    return str(told.etag or told.last_modified or "").strip('"')


def _is_folder(told: Any) -> bool:
    """With a hierarchical namespace, folders are listed as empty blobs."""
    return str((told.metadata or {}).get("hdi_isfolder", "")).lower() == "true"

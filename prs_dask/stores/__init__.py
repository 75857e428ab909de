"""Stores of files beyond this machine, through fsspec, and the node's cache of their files.

::

    urls, options, credentials      what a user wrote, and its secrets apart from it
    store              info, read_at, open, list, download, write, remove
      client             one request each:  s3  azure  web  any_file_system
      retries, failures  what passes by itself, and what people are told of the rest
    cache, shelves, ledger, range_locks, file_names     the node's cache

Importing it imports no fsspec: the worker process does, and must be ready soon. Local files never come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prs_dask.lazy_names import loaded_on_first_use

if TYPE_CHECKING:
    from prs_dask.stores.credentials import separated
    from prs_dask.stores.failures import AccessRefused, StoreFailed
    from prs_dask.stores.file_info import FileInfo, size_in
    from prs_dask.stores.options import StorageOptions
    from prs_dask.stores.store import Store, store_of
    from prs_dask.stores.urls import is_url, without_credentials

__all__ = [
    "AccessRefused",
    "FileInfo",
    "StorageOptions",
    "Store",
    "StoreFailed",
    "is_url",
    "separated",
    "size_in",
    "store_of",
    "without_credentials",
]

_HOMES = {
    "AccessRefused": "failures",
    "FileInfo": "file_info",
    "StorageOptions": "options",
    "Store": "store",
    "StoreFailed": "failures",
    "is_url": "urls",
    "separated": "credentials",
    "size_in": "file_info",
    "store_of": "store",
    "without_credentials": "urls",
}
__getattr__ = loaded_on_first_use(__name__, _HOMES)

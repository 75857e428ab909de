"""The paths of a dataset and the credentials that stood in them, apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prs_dask.errors import Fault, InputError, SettingsError
from prs_dask.stores.options import StorageOptions
from prs_dask.stores.urls import URL_QUERIES, is_url, protocol_of, shown, without_credentials

__all__ = ["merged", "separated"]


def separated(paths: Iterable[str], given: Mapping[str, Any] | None) -> tuple[tuple[str, ...], StorageOptions | None]:
    """Paths that may be shown, and all storage options; local paths stay as they are.

    Raises
    ------
    InputError
        A path is a URL that cannot be used, or one URL has a password that would be sent to another's host.
    SettingsError
        An option has two values.
    """
    options = None if given is None else StorageOptions(given)
    clean: list[str] = []
    owners: set[str] = set()
    for path in paths:
        found: dict[str, Any] = {}
        if is_url(path):
            path, found = without_credentials(path)
            if found.keys() - {URL_QUERIES} and not path.startswith(("s3://", "s3a://")):
                owners.add(_host(path))
        clean.append(path)
        options = merged(options, found)
    for path in clean:
        if owners and is_url(path) and _host(path) not in owners:
            found_there = f"{shown(path)!r} beside a URL with credentials for another host"
            raise InputError(
                [Fault("path", found_there, "one host, where credentials stand in a URL", "a dataset for each")]
            )
    return tuple(clean), options


def _host(url: str) -> str:
    """Where credentials for a URL are sent."""
    return f"{protocol_of(url)}://{url.partition('://')[2].partition('/')[0].rpartition('@')[2]}"


def merged(given: StorageOptions | None, found: Mapping[str, Any]) -> StorageOptions | None:
    """Options with those that stood in a URL.

    Raises
    ------
    SettingsError
        An option has two values.
    """
    if not found:
        return given
    values = dict(given or {})
    for name, value in found.items():
        if isinstance(value, Mapping) and isinstance(values.get(name), Mapping):
            value = {**values[name], **value}
        elif name in values and values[name] != value:
            allowed = "one: in storage_options, or in the URLs and the same in all of them"
            raise SettingsError(
                [Fault(f"storage_options: {name}", "two values", allowed, "a dataset for each of them")]
            )
        values[name] = value
    return StorageOptions(values)

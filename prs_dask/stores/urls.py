"""URLs of files in stores: recognised, and freed of credentials. Pure, but for the list of stores that fsspec knows.

``protocol://authority/path``: what the path means is the store's business, and nothing in it is
escaped or taken for a query, but in HTTP.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote

from prs_dask.errors import Fault, InputError
from prs_dask.redaction import redact_text

__all__ = ["AZURE", "HTTP", "URL_QUERIES", "is_url", "protocol_of", "shown", "without_credentials"]

AZURE = frozenset({"abfs", "abfss", "az", "wasb", "wasbs"})
HTTP = frozenset({"http", "https"})
_S3 = frozenset({"s3", "s3a"})
_LOCAL = frozenset({"file", "local"})
_NO_USERS = frozenset({"gs", "gcs", "memory"})

URL_QUERIES = "url_queries"
"""Our own option of HTTP: secret queries, by the URL without its query."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_CHAINED = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*::|::[A-Za-z][A-Za-z0-9+.\-]*://")


def is_url(path: str) -> bool:
    """Whether a path is a URL of a store rather than a local one."""
    match = _URL.match(path)
    return match is not None and match[1].lower() not in _LOCAL


def protocol_of(url: str) -> str:
    """``"s3"`` of ``"s3://bucket/key"``."""
    return url.partition("://")[0].lower()


def shown(url: str) -> str:
    """A URL for messages: without its query, and without anything that looks like a secret."""
    text = redact_text(url)
    return text.partition("?")[0] if protocol_of(url) in HTTP else text


def without_credentials(url: str) -> tuple[str, dict[str, Any]]:
    """The URL that may be shown, and the storage options that stood in it.

    Raises
    ------
    InputError
        It is no URL that can be used, or holds a secret where none can be taken out.

    Examples
    --------
    >>> without_credentials("s3://me:pw@bucket/a.csv")
    ('s3://bucket/a.csv', {'key': 'me', 'secret': 'pw'})
    >>> without_credentials("abfs://c@account.dfs.core.windows.net/a?sv=1&sig=x")
    ('abfs://c@account.dfs.core.windows.net/a', {'sas_token': 'sv=1&sig=x'})
    """
    protocol = protocol_of(url)
    _check(url, protocol)
    written, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if protocol in HTTP and not slash and "?" in authority:
        authority, mark, path = authority.partition("?")
        path, slash = mark + path, "/"
    authority, options = _authority(url, protocol, authority)
    clean = f"{written.lower()}://{authority}{slash}{path}"
    bare, mark, query = clean.partition("?")
    if mark and protocol in AZURE and "sig" in parse_qs(query):
        clean = bare
        options["sas_token"] = query
    elif mark and protocol in HTTP and redact_text(mark + query) != mark + query:
        clean = bare
        options[URL_QUERIES] = {bare: query}
    if redact_text(clean) != clean:
        raise _fault(clean, "a secret in it", "URLs without secrets", "storage_options={...}")
    return clean, options


def _check(url: str, protocol: str) -> None:
    if _CHAINED.search(url):
        raise _fault(url, "another URL chained to it", "one URL", "the file itself, or unpack it first")
    from fsspec.registry import known_implementations, registry

    if protocol not in known_implementations and protocol not in registry and protocol not in AZURE:
        allowed = "file, s3, abfs, az, gs, http, https, memory, or another protocol that fsspec knows"
        raise _fault(url, f"the unknown protocol {protocol!r}", allowed, "'s3://bucket/folder/'")
    if not url.partition("://")[2].partition("/")[0].rpartition("@")[2] and protocol != "memory":
        raise _fault(url, "no bucket, container or host", "protocol://bucket/path", "'s3://bucket/folder/'")


def _authority(url: str, protocol: str, authority: str) -> tuple[str, dict[str, Any]]:
    user, at, host = authority.rpartition("@")
    name, colon, password = user.partition(":")
    if not at or (protocol in AZURE and not colon):  # container@account
        return authority, {}
    if protocol in AZURE or protocol in _NO_USERS:
        raise _fault(url, "a user and password", "a URL without them", "storage_options={...}")
    if protocol in _S3:
        if not (name and password):
            raise _fault(url, "half a key", "a URL without it", "storage_options={'key': ..., 'secret': ...}")
        return host, {"key": unquote(name), "secret": unquote(password)}
    if not colon and protocol not in HTTP:  # sftp://me@host
        return authority, {}
    return host, {"username": unquote(name), "password": unquote(password)}


def _fault(url: str, found: str, allowed: str, try_this: str) -> InputError:
    text, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest
    return InputError(
        [Fault("path", f"{shown(f'{text}://{rest}').partition('?')[0]!r} with {found}", allowed, try_this)]
    )

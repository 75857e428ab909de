"""What goes wrong with a store: which faults pass by themselves, and what people are told of the others. Pure.

fsspec's file systems raise each their own client's errors. They are told apart by HTTP status and by the names
of their classes: importing the clients to compare types would take a second.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum

from prs_dask.redaction import Redactor
from prs_dask.stores.options import StorageOptions
from prs_dask.stores.urls import AZURE, HTTP, protocol_of, shown

__all__ = ["AccessRefused", "Failure", "ShortRead", "StoreFailed", "describe", "kind_of", "ways_in"]


class AccessRefused(PermissionError):
    """The store does not let us in: 401, 403, or no credentials at all. Never tried again."""


class StoreFailed(OSError):
    """The store failed, also when it was asked again."""


class ShortRead(OSError):
    """Fewer bytes came than the file has there."""


class Failure(Enum):
    """Kinds of faults."""

    MISSING = "missing"
    REFUSED = "refused"
    TRANSIENT = "transient"
    OTHER = "other"


_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_CODES = {
    **dict.fromkeys(
        (
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "RequestTimeout",
            "InternalError",
            "ServiceUnavailable",
            "ServerBusy",
            "OperationTimedOut",
        ),
        Failure.TRANSIENT,
    ),
    **dict.fromkeys(
        ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        Failure.REFUSED,
    ),
    **dict.fromkeys(("NoSuchKey", "NoSuchBucket", "BlobNotFound", "ContainerNotFound"), Failure.MISSING),
}
_NAMES = {
    **dict.fromkeys(
        (
            "ShortRead",
            "FSTimeoutError",
            "TimeoutError",
            "ServerTimeoutError",
            "ClientConnectionError",
            "ClientPayloadError",
            "ServerDisconnectedError",
            "ConnectionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "HTTPClientError",
            "IncompleteRead",
            "IncompleteReadError",
            "ResponseParserError",
            "ResponseStreamingError",
            "ServiceRequestError",
            "ServiceResponseError",
            "ChunkedEncodingError",
            "Timeout",
        ),
        Failure.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            "PermissionError",
            "NoCredentialsError",
            "PartialCredentialsError",
            "TokenRetrievalError",
            "ClientAuthenticationError",
            "CredentialUnavailableError",
            "DefaultCredentialsError",
            "RefreshError",
        ),
        Failure.REFUSED,
    ),
    **dict.fromkeys(("FileNotFoundError", "ResourceNotFoundError"), Failure.MISSING),
    # Certificates: these are ClientConnectionErrors as well, and stay wrong.
    **dict.fromkeys(
        ("ClientConnectorCertificateError", "ClientSSLError", "ClientConnectorSSLError", "SSLError"), Failure.OTHER
    ),
}


def kind_of(error: BaseException) -> Failure:
    """What kind of fault an error of a file system is; its causes are looked at too."""
    for one in _chain(error):
        status, code = _status(one), _code(one)
        if code in _CODES:
            return _CODES[code]
        if status in (401, 403, 407):
            return Failure.REFUSED
        if status in (404, 410):
            return Failure.MISSING
        if status is not None and status >= 400:
            return Failure.TRANSIENT if status in _TRANSIENT_STATUS else Failure.OTHER
        for kind in type(one).__mro__:
            if kind.__name__ in _NAMES:
                return _NAMES[kind.__name__]
    return Failure.OTHER


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The causes first: they know the status."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return reversed(seen)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        # azure; aiohttp; gcsfs, for others have codes that are no answers of a server
        names = ("status_code", "status", *(("code",) if type(error).__module__.startswith("gcsfs") else ()))
        found = next((getattr(error, name) for name in names if hasattr(error, name)), None)
    return found if isinstance(found, int) and 100 <= found < 600 else None


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "error_code", "")
    return str(getattr(code, "value", code) or "")


def describe(error: BaseException, url: str, options: StorageOptions | None) -> OSError:
    """The error that is raised instead: file and reason in words, and nothing secret."""
    path = shown(url)
    match kind_of(error):
        case Failure.MISSING:
            return FileNotFoundError(errno.ENOENT, "no such file in the store", path)
        case Failure.REFUSED:
            has = f"{', '.join(sorted(options))}, which may have expired or be wrong" if options else "none"
            text = (
                f"the store refuses access ({_reason(error, options)}); storage_options given: {has}; "
                f"ways in: {ways_in(url)}"
            )
            return AccessRefused(errno.EACCES, text, path)
        case Failure.TRANSIENT:
            return StoreFailed(errno.EIO, f"the store failed, also when asked again: {_reason(error, options)}", path)
        case _:
            return StoreFailed(errno.EIO, f"the store failed: {_reason(error, options)}", path)


def _reason(error: BaseException, options: StorageOptions | None) -> str:
    """Class and first line; of an error with a status that, for its text may be a whole page."""
    name = type(error).__name__
    for one in _chain(error):
        if status := _status(one):
            code = _code(one)
            return f"HTTP {status} {code}".rstrip()
    lines = str(error).strip().splitlines()
    if not lines:
        return name
    text = Redactor({"storage_options": dict(options or {})}).text(lines[0])[:300]
    return f"{name}: {' '.join(shown(word) if '://' in word else word for word in text.split(' '))}"


def ways_in(url: str) -> str:
    """The options by which a store knows who asks."""
    protocol = protocol_of(url)
    if protocol in ("s3", "s3a"):
        return "key and secret (token too where they are temporary), profile, anon=True, endpoint_url"
    if protocol in AZURE or protocol == "adl":
        return (
            "account_key; sas_token; tenant_id, client_id and client_secret; connection_string; anon=True; "
            "each with account_name unless the URL has it"
        )
    if protocol in ("gs", "gcs"):
        return "token (path of a key file, 'google_default', 'anon'), project"
    if protocol in HTTP:
        return "username and password, headers={'Authorization': ...}"
    return f"those of fsspec's class for {protocol}"

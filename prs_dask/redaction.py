"""Secrets stay out of files: what settings and messages look like once theirs are taken out. Pure.

Two ways, because secrets come in two ways:

- *Settings* are known: values of ``storage_options`` and ``environment_variables``, and of anything with
  the name of a secret, are replaced by salted hashes, so that a resume can tell whether a value
  has changed and nobody can read it.
- *Text* (URLs, messages, tracebacks) is searched for what secrets look like in it, and for values
  of those settings.

A hash is slow on purpose (PBKDF2): the salt stands beside it, and short secrets could be guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

__all__ = [
    "HIDDEN",
    "Redactor",
    "is_place",
    "is_salted_hash",
    "is_secret_name",
    "redact_settings",
    "redact_text",
    "salted_hash",
    "without_hashes",
]

HIDDEN = "***"
"""Stands where a secret stood."""

_SECRET_MAPPINGS = ("storage_options", "environment_variables")
# Options of stores that tell where one is: hiding them would make the paths in every message unreadable.
_PLACES = frozenset({"account_name", "account_host", "endpoint_url", "region_name", "profile", "project", "host"})
_ROUNDS = 100_000
_HASH = "pbkdf2:"
_SECRET_NAME = re.compile(
    r"(?:^|[_\-.])(?:pass|passwd|password|passphrase|pwd|secret|token|credential|credentials|sas|signature|sig)"
    r"(?:$|[_\-.])|(?:api|access|account|shared|private|secret|client|storage)[_\-.]?key(?:$|[_\-.])"
    r"|^key$|connection[_\-.]?string|authorization",
    re.IGNORECASE,
)

_PARAMETER = (
    r"sig|signature|se?cret|client_secret|password|passwd|pwd|token|access_token|refresh_token|sas_token|sas"
    r"|api_?key|access_?key|account_?key|shared_?access_?key|shared_?access_?signature|secret_?key|secret_?access_?key"
    r"|aws_?access_?key_?id|aws_?secret_?access_?key|aws_?session_?token|google_?access_?id"
    r"|x-(?:amz|goog)-(?:signature|credential|security-token)"
)
_PARTS_OF_PARAMETERS = ("sig", "cret", "passw", "pwd", "token", "sas", "key", "access", "credential")
"""Each name of `_PARAMETER` has one of these: so paths such as ``year=2026`` cost a tenth of a search for all names."""


def _may_name_a_parameter(text: str) -> bool:
    folded = text.casefold()
    return any(part in folded for part in _PARTS_OF_PARAMETERS)


# What a text must hold for a pattern to match at all, the pattern, its replacement.
_PATTERNS = (
    # scheme://user:password@host; a user alone is a secret only where it may be a token.
    ("://", re.compile(r"([a-z][a-z0-9+.\-]*://[^/\s?#:@'\"]*):[^/\s?#'\"]*@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    ("://", re.compile(r"(https?://)[^/\s?#:@'\"]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # ?sig=…&, ;AccountKey=…;
    (
        "=",
        re.compile(rf"(?<![A-Za-z0-9_\-])((?:{_PARAMETER})=)[^&;\s'\"#,)}}\]]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    # {'secret': 'value'} and password='value', as tracebacks and reprs show them
    *[
        (
            quote,
            re.compile(
                rf"(\b(?:{_PARAMETER})\s*=\s*|['\"](?:{_PARAMETER})['\"]\s*:\s*){quote}[^{quote}]*{quote}",
                re.IGNORECASE,
            ),
            rf"\1{quote}{HIDDEN}{quote}",
        )
        for quote in "'\""
    ],
    *[
        (scheme, re.compile(rf"\b({scheme})\s+[A-Za-z0-9._~+/\-]{{8,}}=*"), rf"\1 {HIDDEN}")
        for scheme in ("Bearer", "Basic")
    ],
)


def redact_text(text: str) -> str:
    """``text`` without passwords in URLs, signatures, keys of connection strings and bearer tokens.

    Examples
    --------
    >>> redact_text("https://me:pw@host/a?sv=1&sig=abc%3D&x=2")
    'https://me:***@host/a?sv=1&sig=***&x=2'
    >>> redact_text("abfs://container@account.dfs.core.windows.net/a.csv")
    'abfs://container@account.dfs.core.windows.net/a.csv'
    """
    for sign, pattern, replacement in _PATTERNS:
        if sign in text and (sign not in "='\"" or _may_name_a_parameter(text)):
            text = pattern.sub(replacement, text)
    return text


def is_secret_name(name: str) -> bool:
    """Does a setting of this name hold a secret?

    >>> is_secret_name("account_key"), is_secret_name("account_name")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name))


def is_place(name: str) -> bool:
    """Does an option of a store of this name tell only where it is?"""
    return name in _PLACES


def is_salted_hash(value: object) -> bool:
    """Does a hash stand here, and the value itself nowhere?"""
    return isinstance(value, str) and value.startswith(_HASH)


def salted_hash(value: Any, salt: bytes) -> str:
    """A text that is the same for the same value and salt, and does not give the value away."""
    data = json.dumps(value, sort_keys=True, default=repr).encode()
    return f"{_HASH}{hashlib.pbkdf2_hmac('sha256', data, salt, _ROUNDS, 16).hex()}"


def without_hashes(value: Any) -> Any:
    """JSON values as people want to read them: ``***`` where a hash stands."""
    if isinstance(value, Mapping):
        return {name: without_hashes(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_hashes(one) for one in value]
    return HIDDEN if is_salted_hash(value) else value


def redact_settings(settings: Any, salt: bytes) -> Any:
    """Settings as JSON values without secrets: names and salted hashes in their places.

    Parameters
    ----------
    settings
        Mappings, sequences and plain values; anything else becomes its text.
    salt
        Random bytes, kept beside the result.
    """
    if isinstance(settings, Mapping):
        return {str(name): _redacted_entry(str(name), value, salt) for name, value in settings.items()}
    if isinstance(settings, str):
        return redact_text(settings)
    if settings is None or isinstance(settings, bool | int | float):
        return settings
    if isinstance(settings, list | tuple | set | frozenset):
        return [redact_settings(value, salt) for value in settings]
    return redact_text(str(settings))


def _redacted_entry(name: str, value: Any, salt: bytes) -> Any:
    if name in _SECRET_MAPPINGS and isinstance(value, Mapping):
        return {str(inner): salted_hash(secret, salt) for inner, secret in value.items()}
    if value is not None and (name in _SECRET_MAPPINGS or _SECRET_NAME.search(name)):
        return salted_hash(value, salt)
    return redact_settings(value, salt)


class Redactor:
    """Takes secrets out of messages: what looks like one, and what is known to be one.

    Parameters
    ----------
    settings
        Where known secrets stand: values of ``storage_options``, and values under the name of a
        secret anywhere. Values under 8 characters are left alone, for they stand everywhere.
    """

    def __init__(self, settings: Any = None) -> None:
        known = {text for text in _secrets(settings, within=False) if len(text) >= 8}
        self._known = re.compile("|".join(re.escape(text) for text in sorted(known, key=len, reverse=True)))
        self._has_known = bool(known)

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        if self._has_known:
            text = self._known.sub(HIDDEN, text)
        return redact_text(text)

    def __repr__(self) -> str:
        return "Redactor()"


def _secrets(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            named = bool(_SECRET_NAME.search(str(name)))
            if named or name not in _PLACES:
                yield from _secrets(inner, within or named or name == "storage_options")
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _secrets(inner, within)
    elif within and isinstance(value, str):
        yield value
        if "=" in value:  # a connection string, a query: what stands in it may come alone
            for part in re.split("[;&?]", value):
                name, mark, text = part.partition("=")
                if mark and _SECRET_NAME.search(name):
                    yield from (text, unquote(text))
    elif within and isinstance(value, bytes):
        yield value.decode("utf-8", "replace")

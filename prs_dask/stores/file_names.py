"""What a file of a store is called on a node: as in its URL, as far as file systems take that."""

from __future__ import annotations

import os
from urllib.parse import unquote

__all__ = ["cache_key", "local_names"]

_LONGEST = (255, 143)  # bytes: of most file systems, and of encrypted ones
_LONGEST_SUFFIX = 32


def cache_key(url: str, version: str) -> str:
    """The same for the same file, another one for any other; 32 characters."""
    from hashlib import blake2b

    return blake2b(f"{url}\0{version}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def local_names(url: str) -> list[str]:
    """File names to try one after the other, the best first; the suffix is the same as long as it can be.

    Parameters
    ----------
    url
        With ``://``. Of HTTP, the query is no part of the name, and escapes are undone.
    """
    scheme, _, rest = url.partition("://")
    rest = rest.partition("::")[0]
    if scheme in ("http", "https"):
        rest = unquote(rest.partition("#")[0].partition("?")[0].rstrip("/").rpartition("/")[2])
        name = rest.replace("/", "_")
    else:
        name = rest.rstrip("/").rpartition("/")[2]
    name = _encodable(name.replace("\0", "_"))
    if name in ("", ".", ".."):
        name = "file"
    suffix = _suffix(name)
    plain = "file" + (suffix if suffix.isascii() and suffix[1:].isalnum() else "")
    return list(dict.fromkeys([*(_cut(name, suffix, longest) for longest in _LONGEST), plain]))


def _encodable(name: str) -> str:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return name.encode("utf-8", "replace").decode()
    return name


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem and len(os.fsencode(suffix)) < _LONGEST_SUFFIX else ""


def _cut(name: str, suffix: str, longest: int) -> str:
    if len(os.fsencode(name)) <= longest:
        return name
    stem = name[: len(name) - len(suffix)][:longest]
    while len(os.fsencode(stem + suffix)) > longest:
        stem = stem[:-1]
    return stem + suffix

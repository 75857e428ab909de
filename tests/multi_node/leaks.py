"""Secrets that can be read on a host: in command lines, environments and files, as they are or encoded.

Dask's own SSHCluster writes its configuration as base64 of JSON into command lines and environments. What a pickle
holds stands in it as it is.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.multi_node.hosts import Host

__all__ = ["leaks_on", "within"]

ALWAYS = ("PRIVATE KEY", "DASK_INTERNAL_INHERIT_CONFIG")
PLACES = ("home", "tmp", "root", "var", "dev/shm")

_BASE64 = re.compile(rb"[A-Za-z0-9+/_\n-]{12,}")
_COMPRESSED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def leaks_on(host: Host, secrets: Iterable[str], for_worker_processes: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Where one of these secrets, a private key or Dask's whole configuration stands, and which of them.

    Parameters
    ----------
    secrets
        What shall stand nowhere.
    for_worker_processes
        Those among them that the environments of worker processes may hold.
    """
    sought, theirs = {*ALWAYS, *secrets}, set(for_worker_processes)
    found = []
    for process in host.processes():
        try:
            line, environment = (Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        name = line.replace(b"\0", b" ").decode(errors="replace")[:80]
        found += [(f"command line of {name}", one) for one in _which(line, sought)]
        allowed = theirs if b"prs_dask.worker_process" in line else set()
        found += [(f"environment of {name}", one) for one in _which(environment, sought - allowed)]
    for place in PLACES:
        for path in _files_below(host.path(f"/{place}")):
            with contextlib.suppress(FileNotFoundError):
                found += [(f"file {path}", one) for one in _which(path.read_bytes(), sought)]
    return found


def within(text: bytes, depth: int = 3) -> Iterator[bytes]:
    """A text, and what it holds in base64, or compressed by zlib or gzip, one in the other so often."""
    yield text
    if not depth:
        return
    for match in _COMPRESSED.finditer(text):
        with contextlib.suppress(zlib.error):
            yield from within(zlib.decompressobj(wbits=47).decompress(text[match.start() :]), depth - 1)
    for match in _BASE64.finditer(text):
        word = match[0].translate(_STANDARD, delete=b"\n")
        for start in range(4):  # what stands before it may look like a part of it
            part = word[start:]
            yield from within(base64.b64decode(part + b"A" * (-len(part) % 4)), depth - 1)


def _which(text: bytes, sought: Iterable[str]) -> list[str]:
    texts = list(within(text))
    return [one for one in sorted(sought) if any(one.encode() in text for text in texts)]


def _files_below(top: Path) -> Iterator[Path]:
    """Without what is installed, which is mounted there."""
    for folder, below, names in os.walk(top):
        below[:] = [name for name in below if Path(folder, name).lstat().st_dev == top.stat().st_dev]
        yield from (path for path in (Path(folder, name) for name in names) if path.is_file())

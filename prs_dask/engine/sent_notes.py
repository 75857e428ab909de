"""Notes of what was sent, for whoever finds the files of a supervisor that was killed.

A note is written over the one before it, with one call and never shortened: whenever its writer is killed there is the
old one or the new one. A full disk can only keep the first one of a place from being written; then what was sent may
be sent twice where its supervisor is killed, rather than be held back.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["read_note", "write_note"]

_NOTE_BYTES = 160


def write_note(path: Path, *words: int | str) -> None:
    """Note these; where that cannot be done there is no note, or the one before."""
    text = " ".join(map(str, words)).encode("ascii").ljust(_NOTE_BYTES)
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, text, 0)
        finally:
            os.close(file)


def read_note(path: Path) -> list[str]:
    """The words of a note; none where there is none that can be read."""
    try:
        return path.read_bytes().decode("ascii").split()
    except (OSError, ValueError):
        return []

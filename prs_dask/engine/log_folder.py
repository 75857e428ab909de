"""The files that a script writes into ``EntryScript().log_dir``: found as they come, subfolders too.

Files alone are sent: links are not followed, pipes and sockets not opened, and what lies behind the first `MOST_FILES`,
or below `MOST_DEPTH` folders, is left out. Each of that is told once, in the log of the process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from prs_dask.clusters.abandoned import remove_tree
from prs_dask.engine.changing_file import ChangingFile
from prs_dask.engine.log_shipping import told_line
from prs_dask.logs.text import one_line

__all__ = ["LogFolder"]

MOST_FILES = 1000
MOST_DEPTH = 100
MOST_TOLD = 20
_SHARE = 20
"""Looking for files takes at most one in so many seconds."""


class LogFolder:
    """The ``log_dir`` of one process.

    Parameters
    ----------
    folder
        The process' own, in that of its supervisor.
    node, process
        Whose it is.
    as_json
        The lines of the process' log are JSON objects.

    Attributes
    ----------
    path
        Where it is; it may not exist.
    """

    def __init__(self, folder: Path, node: int, process: int, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self.node, self.process = node, process
        self.path = folder / "logs" / "files"
        self._notes = folder / "logs" / "sent"
        self._files: dict[bytes, ChangingFile] = {}
        self._look_at = 0.0
        self._ended = False
        self._known_others: set[bytes] = set()
        self._told: list[str] = []

    def files(self) -> list[ChangingFile]:
        """All that there are."""
        self._look()
        return list(self._files.values())

    def with_news(self, *, ended: bool = False) -> list[ChangingFile]:
        """Those that may have changed since they were sent; where nobody writes any more (``ended``) all, once, as it
        may take many rounds to send what else the process has left."""
        if ended and not self._ended:
            found = self.files()
            self._ended = True
            return found
        begun = time.monotonic()
        if not ended and begun >= self._look_at:
            self._look()
            now = time.monotonic()
            self._look_at = now + _SHARE * (now - begun)
        return [file for file in self._files.values() if file.may_have_news()]

    def news(self) -> dict[str, object] | None:
        """What is not sent, as a piece of the process' log; None where there is nothing new of that."""
        told, self._told = self._told, []
        if not told:
            return None
        lines = [told_line(f"log_dir: {line}", self.node, self.process, as_json=self._as_json) for line in told]
        return {"stream": "log", "node": self.node, "process": self.process, "data": b"".join(lines)}

    def remove(self) -> None:
        """All of it was sent."""
        for folder in (self.path, self._notes):
            remove_tree(folder)

    def _look(self) -> None:
        for name, mode in _entries(os.fsencode(self.path)):
            if name in self._files or name in self._known_others:
                continue
            if not stat.S_ISREG(mode):
                self._leave_out(name, f"{_shown(name)} is not sent: it is {_KINDS.get(stat.S_IFMT(mode), 'no file')}")
            elif len(self._files) >= MOST_FILES:
                self._leave_out(b"", f"only the first {MOST_FILES:,} files are sent, without {_shown(name)} and others")
                return
            else:
                with contextlib.suppress(OSError):  # they are sent without notes of it then
                    self._notes.mkdir(parents=True, exist_ok=True)
                note = self._notes / blake2b(name, digest_size=16).hexdigest()
                path = self.path / os.fsdecode(name)
                self._files[name] = ChangingFile(path, "log_dir", self.node, self.process, name, note)

    def _leave_out(self, name: bytes, line: str) -> None:
        if name not in self._known_others and len(self._known_others) < MOST_TOLD:
            self._known_others.add(name)
            self._told.append(line)


_KINDS = {
    stat.S_IFDIR: f"a folder below {MOST_DEPTH} others",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _shown(name: bytes) -> str:
    return one_line(os.fsdecode(name), 200)


def _entries(folder: bytes) -> Iterator[tuple[bytes, int]]:
    """Names below the folder, and what they are; what goes meanwhile, or cannot be read, is left out.

    Folders are there only where they lie too deep to be looked into.
    """
    waiting = [b""]
    while waiting:
        below = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(os.path.join(folder, below) if below else folder) as found:
            for entry in found:
                with contextlib.suppress(OSError):
                    name = os.path.join(below, entry.name)
                    if entry.is_file(follow_symlinks=False):
                        yield name, stat.S_IFREG
                    elif entry.is_dir(follow_symlinks=False) and name.count(b"/") < MOST_DEPTH:
                        waiting.append(name)
                    else:
                        yield name, entry.stat(follow_symlinks=False).st_mode

"""Temporary folders whose owners are dead: who removes them, and when.

A folder of ours has a file ``lock`` in it, which its owners hold shared as long as they live; one that nobody holds is
abandoned. They lie in two places:

    <temporary folder>/prs-dask-<random>/                  a local cluster's, the fork server's
    <temporary folder>/prs-dask-<user>/<run id>-<node>/    a node's share of a step run

A link that was made elsewhere for the time that such a folder is there is noted in it, and is removed with it:

    <folder>/links/<number>/place -> where the link lies,  target -> where it leads

Whoever makes one sweeps away abandoned ones first. So that a driver that is killed leaves none though nobody comes
after it, this module is a program too, the *caretaker*: run by path in a bare interpreter (nothing of prs_dask is
imported), it waits for the end of its standard input, on which it is told where to look. An empty line before the end
says that there is nothing to do.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["PREFIX", "is_ours", "note_link", "remove_if_abandoned", "remove_tree", "sweep"]

PREFIX = "prs-dask-"
_REMOVED = f"{PREFIX}removed-"
_PAUSES = (0.2, 1.0, 3.0, 6.0)
"""Between the caretaker's sweeps: those who hold a lock may take a while to die."""


def sweep(parent: str | os.PathLike[str]) -> None:
    """Remove the abandoned folders below a folder for temporary files."""
    with suppress(OSError):
        for folder in Path(parent).glob(f"{PREFIX}*"):
            remove_if_abandoned(folder)
    shared = Path(parent) / f"{PREFIX}{os.getuid()}"
    with suppress(OSError):
        if is_ours(shared):
            for folder in shared.iterdir():
                remove_if_abandoned(folder)
            shared.rmdir()


def is_ours(folder: Path) -> bool:
    """May nobody but its owner, this user, open it?"""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def remove_if_abandoned(folder: Path) -> None:
    """Remove it where nobody holds its lock."""
    if folder.name.startswith(_REMOVED):  # whoever had begun it was killed, or is at it
        _remove_links(folder)
        remove_tree(folder)
        return
    with suppress(OSError), (folder / "lock").open("r+b") as lock:  # held, another user's, or gone
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
            return  # another sweeper has been here since it was opened, and what stands there is new
        # Away under another name first: who comes now makes a folder of his own, and finds nothing half removed.
        away = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=folder.parent))
        folder.rename(away)
        _remove_links(away)
        remove_tree(away)


def note_link(folder: Path, place: str, target: str) -> None:
    """Before a link is made: what is to be removed with the folder."""
    noted = folder / "links"
    noted.mkdir(mode=0o700, exist_ok=True)
    note = Path(tempfile.mkdtemp(dir=noted))
    (note / "target").symlink_to(target)
    (note / "place").symlink_to(place)


def _remove_links(folder: Path) -> None:
    """Those that lead where they did; what somebody else has put there meanwhile stays."""
    for note in folder.glob("links/*"):
        with suppress(OSError):
            link = os.readlink(note / "place")
            if os.readlink(link) == os.readlink(note / "target"):
                os.unlink(link)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, however deep scripts have nested others; what cannot be removed stays."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        _flatten(folder)
        with suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)


def _flatten(top: Path) -> None:
    """Move all folders that are somewhere below it to the top: none is deep then."""
    waiting: list[Path] = [top]
    moved = 0
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for path in [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]:
                moved += 1
                with suppress(OSError):
                    waiting.append(path.rename(top / f"{_REMOVED}{moved}"))


def _care() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.buffer.read().split(b"\n")
    parents = {os.fsdecode(line) for line in told if line}
    if told[-2:] == [b"", b""]:
        return
    for pause in _PAUSES:
        time.sleep(pause)
        for parent in parents:
            sweep(parent)
        if not any(any(Path(parent).glob(f"{PREFIX}*")) for parent in parents):
            return


if __name__ == "__main__":
    _care()

"""Folders on a node that live as long as a step run does there.

    <temporary folder>/prs-dask-<user>/<run id>-<node>/      nodes may share the folder for temporary files
        lock                  every supervisor of the node holds it shared
        source-<digest>/      the source, unpacked once a node
        cache/                files of stores, see `prs_dask.stores.cache`
        fetcher.*             see `prs_dask.engine.fetch_ahead`
        parcel-<number>/      side inputs, see `prs_dask.engine.node_preparation`
        links/                places elsewhere that lead to side inputs, see `prs_dask.clusters.abandoned`
        worker-<pid>-<x>/     one supervisor: a folder a process, spool files of its output; it holds ``lock`` in it

A folder whose lock nobody holds is abandoned: the next supervisor, or the driver at the end of
a run, removes it, whatever killed its owners.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from prs_dask.clusters.abandoned import PREFIX, is_ours, note_link, remove_if_abandoned, remove_tree, sweep
from prs_dask.engine.source_folder import unpack

__all__ = ["NodeFolder", "sweep_abandoned"]


DYING_SECONDS = 0.3
"""So long the worker processes of a supervisor that was killed have to die, and to write."""


def _root() -> Path:
    """Made where it is missing; FileNotFoundError where somebody removes it meanwhile."""
    root = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not is_ours(root):
        raise PermissionError(f"{root} must be a folder that only its owner, user {os.getuid()}, can open")
    return root


def sweep_abandoned() -> None:
    """Remove the folders of step runs that nobody on this node works on any more."""
    sweep(tempfile.gettempdir())


class NodeFolder:
    """A supervisor's share of the node's folder for one step run.

    Parameters
    ----------
    run_id
        Of the step run.
    key
        Of the node, see `prs_dask.engine.node_key`.
    """

    def __init__(self, run_id: str, key: str) -> None:
        name = f"{run_id}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:8]}"
        while True:
            # A sweeper may remove the folder at any moment until its lock is held: then start over.
            with contextlib.suppress(FileNotFoundError):
                self._folder = _root() / name
                with contextlib.suppress(FileExistsError):
                    self._folder.mkdir(mode=0o700)
                self._lock = (self._folder / "lock").open("ab")
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                if os.fstat(self._lock.fileno()).st_nlink:
                    break
                self._lock.close()
        sweep_abandoned()  # now that this one has an owner: what it holds of supervisors that were killed is needed
        self.own = Path(tempfile.mkdtemp(prefix=f"worker-{os.getpid()}-", dir=self._folder))
        self._own_lock = (self.own / "lock").open("ab")
        fcntl.flock(self._own_lock, fcntl.LOCK_EX)
        self._adopted: dict[Path, IO[bytes]] = {}
        self._suspects: set[Path] = set()

    @property
    def path(self) -> Path:
        """What all supervisors of the node share."""
        return self._folder

    @property
    def cache(self) -> Path:
        """The node's cache; it is made by the first who uses it."""
        return self._folder / "cache"

    def unpack_source(self, digest: str, archive: bytes) -> Path:
        """The folder with the source; the first supervisor of the node unpacks it."""
        target = self._folder / f"source-{digest[:16]}"
        with (self._folder / "source.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                fresh = Path(tempfile.mkdtemp(prefix="unpacking-", dir=self._folder))
                unpack(archive, fresh)
                fresh.rename(target)
        return target

    def source(self, digest: str) -> Path | None:
        """The unpacked source, where another supervisor has been faster."""
        target = self._folder / f"source-{digest[:16]}"
        return target if target.exists() else None

    def link(self, place: str, target: str) -> None:
        """Make a link outside of this folder, which goes with it; nothing, where it leads there already.

        Raises
        ------
        OSError
            Something else lies there, or it cannot be made.
        """
        with (self._folder / "links.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.lexists(place):
                if not (os.path.exists(place) and os.path.samefile(place, target)):
                    raise OSError(f"as_mount({place!r}): something else lies there; allowed: a path that is free")
                return
            os.makedirs(os.path.dirname(place), exist_ok=True)
            note_link(self._folder, place, target)
            os.symlink(target, place)

    def orphans(self, *, at_once: bool = False) -> list[Path]:
        """Folders of supervisors of this node that were killed, for whoever asks first.

        One is told the second time that it is found without an owner: its worker processes have died by then.
        With ``at_once`` that is waited for.
        """
        found: list[Path] = []
        seen = set(self._suspects)
        if at_once:
            self._find_orphans(found)
            if self._suspects != seen:
                time.sleep(DYING_SECONDS)
        self._find_orphans(found)
        return found

    def _find_orphans(self, found: list[Path]) -> None:
        for folder in self._folder.glob("worker-*"):
            with contextlib.suppress(OSError):
                lock = (folder / "lock").open("rb")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    lock.close()
                    continue
                if folder in self._suspects:
                    self._adopted[folder] = lock
                    found.append(folder)
                else:
                    self._suspects.add(folder)
                    lock.close()

    def leave_orphan(self, folder: Path) -> None:
        """It could not be adopted: the next who asks finds it again."""
        self._adopted.pop(folder).close()

    def remove_orphan(self, folder: Path) -> None:
        """It was adopted; one that cannot be removed stays ours, so that nobody adopts it again."""
        remove_tree(folder)
        if not os.path.lexists(folder):
            self._suspects.discard(folder)
            self._adopted.pop(folder).close()

    def close(self) -> None:
        """Remove what is this supervisor's, and all of it where it was the last."""
        remove_tree(self.own)
        for lock in (self._own_lock, *self._adopted.values(), self._lock):
            lock.close()
        remove_if_abandoned(self._folder)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()

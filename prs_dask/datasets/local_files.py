"""What local files are, as they are listed and just before ``run()`` gets their paths.

Light to import, and a few microseconds for each file: there may be millions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from stat import S_ISREG

from prs_dask.datasets.read_spec import ReadError

__all__ = ["check_local_files", "gone", "local_version", "version_told_by"]


def local_version(path: str) -> str:
    """``size-mtime_ns``; empty where it cannot be looked at or is no file."""
    try:
        return version_told_by(os.stat(path))
    except OSError:
        return ""


def version_told_by(found: os.stat_result) -> str:
    """``size-mtime_ns``; empty for what is no file."""
    return f"{found.st_size}-{found.st_mtime_ns}" if S_ISREG(found.st_mode) else ""


def gone(path: str) -> ReadError:
    """The error for a file that was listed and is not there."""
    return ReadError(
        f"{path}: the file is gone: it was removed since it was listed, or this node ({os.uname().nodename}) does not"
        " see the driver's folder: inputs lie in a folder that all nodes share, or in a store"
    )


def check_local_files(paths: Sequence[str], versions: Sequence[str]) -> None:
    """See that local files are what they were when they were listed.

    Parameters
    ----------
    paths
        Those that do not begin with ``/`` lie in stores, and are not looked at.
    versions
        One for each; of a file that had none it is seen only that it can be looked at.

    Raises
    ------
    ReadError
        One is not, or is gone; names the first.
    OSError
        One cannot be looked at.
    """
    for path, version in zip(paths, versions, strict=True):
        if path.startswith(os.sep):
            try:
                now = version_told_by(os.stat(path))
            except FileNotFoundError:
                if version:
                    raise gone(path) from None
                raise
            if version and now != version:
                from prs_dask.stores.store import changed

                raise changed(path, version, now)

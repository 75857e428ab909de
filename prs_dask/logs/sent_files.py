"""Files of worker processes in the logs tree: added to piece by piece, or replaced by what comes whole.

A file that is sent anew in several pieces is gathered beside the tree's files, and takes the old one's place with its
last piece: readers see the old or the new one. What never comes to its last piece is dropped.
"""

from __future__ import annotations

from prs_dask.logs.log_files import LogFiles

__all__ = ["SentFiles"]

_GATHERED = ".coming"
"""The folder, below the tree's."""


class SentFiles:
    """Writes pieces as they come, into these files."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files
        self._coming: dict[str, str] = {}
        self._number = 0

    def add(self, name: str, data: bytes, *, whole: bool = False, more: bool = False) -> None:
        """The next piece of a file.

        Parameters
        ----------
        name
            Below the tree's folder.
        data
            May be empty: then the file is there, and empty where it is new.
        whole
            The file begins anew with this piece.
        more
            Of a file that is sent anew: this is not its last piece.
        """
        if whole:
            if name not in self._coming:
                self._number += 1
                self._coming[name] = f"{_GATHERED}/{self._number}"
            self._files.remove(self._coming[name])
        coming = self._coming.get(name)
        self._files.append(coming or name, data)
        if coming is not None and not more:
            del self._coming[name]
            self._files.replace(name, coming)

    def close(self) -> None:
        """Drop what did not come to its end."""
        for coming in self._coming.values():
            self._files.remove(coming)
        self._coming.clear()
        self._files.remove_folder(_GATHERED)

    def forget_earlier(self) -> None:
        """Drop what a driver that was killed had gathered; before anything is added."""
        self._files.remove_folder(_GATHERED)

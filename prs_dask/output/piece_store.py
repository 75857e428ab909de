"""Rows of huge mini-batches wait here for their last piece.

Rows of one mini-batch above 1 MB arrive in pieces, between those of others, and the attempt may
still fail. Each such attempt gets a side file, which is appended to the output whole or dropped.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from prs_dask.output.append_file import AppendFile

__all__ = ["PieceKey", "PieceStore"]

PieceKey = tuple[int, int | str]
"""Mini-batch id, and a token that tells its attempts apart."""


class PieceStore:
    """Side files in a folder of its own; what an earlier driver left there is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.rows"):
            left_over.unlink()

    def add(self, key: PieceKey, data: bytes | memoryview) -> None:
        """Add the next piece of an attempt's rows. OSError where the disk fails or is full."""
        path = self._path(key)
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            view = memoryview(data)
            try:
                while view:
                    view = view[file.write(view) :]
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise

    def __contains__(self, key: PieceKey) -> bool:
        return self._path(key).exists()

    def append_to(self, append_file: AppendFile, key: PieceKey) -> tuple[int, int]:
        """Append an attempt's pieces to the output: offset and length. They stay here until `drop`.

        Raises
        ------
        FileNotFoundError
            No piece of that attempt was added.
        """
        return append_file.append_file(self._path(key))

    def drop(self, key: PieceKey) -> None:
        """Forget an attempt's pieces; none there is no error."""
        self._path(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what is left, and the folder."""
        for left_over in self.folder.glob("*.rows"):
            left_over.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, key: PieceKey) -> Path:
        mini_batch, token = key
        short = hashlib.blake2b(str(token).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return self.folder / f"{mini_batch}-{short}.rows"

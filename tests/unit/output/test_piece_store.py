"""Rows that arrive in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prs_dask.output.append_file import AppendFile
from prs_dask.output.piece_store import PieceStore


def test_pieces_of_attempts_are_kept_apart(tmp_path: Path) -> None:
    store = PieceStore(tmp_path / "pieces")
    file = AppendFile.create(tmp_path / "output", "rows.txt", "run")
    file.append(b"start\n")
    for key, data in [((1, "a"), b"one "), ((1, "../b\udc80"), b"x"), ((11, "a"), b"y"), ((1, "a"), b"two")]:
        store.add(key, data)
    assert store.append_to(file, (1, "a")) == (6, 7)
    store.drop((1, "a"))
    store.drop((1, "a"))
    assert file.partial.read_bytes() == b"start\none two"
    with pytest.raises(FileNotFoundError):
        store.append_to(file, (1, "a"))
    assert (1, "../b\udc80") in store
    file.close()
    store.close()
    assert not store.folder.exists()


def test_what_an_earlier_driver_left_is_removed(tmp_path: Path) -> None:
    PieceStore(tmp_path).add((1, "a"), b"old")
    assert (1, "a") not in PieceStore(tmp_path)


def test_a_full_disk_leaves_no_torn_piece(tmp_path: Path, file_size_limit: Any) -> None:
    store = PieceStore(tmp_path)
    store.add((1, "a"), b"x" * 4000)
    with file_size_limit(5000), pytest.raises(OSError, match="too large"):
        store.add((1, "a"), b"x" * 4000)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == 4000


def test_a_folder_that_is_gone_is_closed_all_the_same(tmp_path: Path) -> None:
    store = PieceStore(tmp_path / "pieces")
    (tmp_path / "pieces").rmdir()
    store.close()

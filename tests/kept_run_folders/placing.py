"""Where kept run folders lie, the inputs of all of them, and how one is brought back to a place where it can go on."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["KEPT", "KEPT_PLACE", "ROWS", "make_inputs", "moved", "placed"]

KEPT = Path(__file__).parents[1] / "data" / "run_folders"
KEPT_PLACE = "/srv/example"
"""Stands in kept run folders for the folder that they, and their inputs, lie in."""

ITEMS = 12
ROWS = [f"{number:02d}" for number in range(ITEMS)]
"""Of every step run that came to its end: the names of the files, which the table has too."""

LONG_AGO = 1_700_000_000
"""Time of modification of the table, by which a resume knows it."""

_LISTED = re.compile(rb'"at": ?[0-9.]+')


def make_inputs(place: Path) -> None:
    """``items``, twelve files, and ``table.csv`` with a row for each."""
    (place / "items").mkdir()
    for name in ROWS:
        (place / "items" / name).touch()
    (place / "table.csv").write_text("name\n" + "".join(f"{name}\n" for name in ROWS))
    os.utime(place / "table.csv", (LONG_AGO, LONG_AGO))


def placed(kept: Path, place: Path) -> Path:
    """A kept run folder with its inputs, as if it had been left at this place now.

    Files that are read whole are known by the time of their listing, which cannot be older than they are.
    """
    make_inputs(place)
    name = Path(json.loads((kept / "run.json").read_text())["run_folder"]).name
    return moved(kept, place / name, KEPT_PLACE, str(place), listed=time.time() + 1)


def moved(folder: Path, new: Path, old_place: str, new_place: str, listed: float | None = None) -> Path:
    """A copy of a run folder that names the new place where it named the old one, and perhaps another time of listing.

    All else is as it was written, byte for byte, torn ends too.
    """
    shutil.copytree(folder, new)
    for path in (new / "run.json", *new.glob("output/*.owner")):
        path.write_text(path.read_text().replace(old_place, new_place))
    manifest = new / "inputs.jsonl.gz"
    *members, rest = _members(manifest.read_bytes())
    texts = [gzip.decompress(member).replace(old_place.encode(), new_place.encode()) for member in members]
    if listed is not None:
        texts = [_LISTED.sub(b'"at":%.3f' % listed, text, count=1) for text in texts]
    manifest.write_bytes(b"".join(gzip.compress(text, 1, mtime=0) for text in texts) + rest)
    return new


def _members(data: bytes) -> Iterator[bytes]:
    """The whole gzip members, and what stands behind the last of them."""
    while data:
        unpacker = zlib.decompressobj(31)
        unpacker.decompress(data)
        if not unpacker.eof:
            break
        yield data[: len(data) - len(unpacker.unused_data)]
        data = unpacker.unused_data
    yield data

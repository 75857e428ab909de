"""The source archive, unpacked: files with their modes, empty folders, and links that stay within."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import zipfile
from pathlib import Path

__all__ = ["leads_out", "unpack"]


def unpack(data: bytes, folder: Path) -> None:
    """Write all that an archive holds below a folder that is empty.

    Raises
    ------
    zipfile.BadZipFile, zlib.error
        The archive is damaged, or a link in it leads out of the folder.
    OSError
        The folder cannot be written.
    """
    links: list[tuple[str, str]] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if stat.S_ISLNK(mode):
                links.append((entry.filename, os.fsdecode(archive.read(entry))))
                continue
            path = archive.extract(entry, folder)
            if not entry.is_dir():
                os.chmod(path, stat.S_IMODE(mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
    for name, target in links:  # at last: nothing is written through one
        if leads_out(name, target):
            raise zipfile.BadZipFile(f"the link {name!r} leads out of the source, to {target!r}")
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def leads_out(name: str, target: str) -> bool:
    """Does the link of this name, relative to a folder, lead out of the folder?"""
    place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return posixpath.isabs(target) or place.split("/")[0] == ".."

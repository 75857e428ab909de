"""The source directory as one archive: the same folder gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from prs_dask.errors import Fault, SettingsError

__all__ = ["SourceArchive", "changed_files", "pack_source", "unpack_source"]

LEFT_OUT = frozenset({"__pycache__", ".git", ".hg", ".svn", ".venv", ".ipynb_checkpoints", "prs_runs"})
"""Folders of these names never travel."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
SETTINGS_FILE = "parallel_run_step.settings.json"


@dataclass(frozen=True, slots=True)
class SourceArchive:
    """A zip archive, its SHA-256, and the entry script's path within it."""

    data: bytes
    digest: str
    script: str


def pack_source(script: Path, source_directory: Path | None) -> SourceArchive:
    """Pack the whole source directory, or the script alone (with the settings file beside it).

    Raises
    ------
    SettingsError
        The script does not lie in the source directory, or a file cannot be read.
    """
    if source_directory is None:
        root, files = script.parent, [script]
        settings = script.parent / SETTINGS_FILE
        files += [settings] if settings.is_file() else []
    else:
        root, files = source_directory, _files(source_directory)
    inside = _inside(script, root)
    if inside is None:
        fault = Fault("entry_script", str(script), f"a file within source_directory={source_directory}")
        raise SettingsError([fault])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            try:
                entry.external_attr = (stat.S_IFREG | stat.S_IMODE(path.stat().st_mode)) << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
            except OSError as error:
                fault = Fault("source_directory", f"{path}: {error.strerror}", "files that can be read")
                raise SettingsError([fault]) from error
    data = buffer.getvalue()
    return SourceArchive(data, hashlib.sha256(data).hexdigest(), inside)


def changed_files(before: bytes, now: bytes) -> list[tuple[str, str]]:
    """(name, ``changed``, ``added`` or ``removed``) of each file that two archives do not share.

    Raises
    ------
    zipfile.BadZipFile
        One is no archive.
    """
    old, new = _contents(before), _contents(now)
    changes = [(name, "changed" if name in new else "removed") for name in old if old[name] != new.get(name)]
    return sorted(changes + [(name, "added") for name in new.keys() - old.keys()])


def _contents(data: bytes) -> dict[str, tuple[bytes, bool]]:
    """By name: a hash of the file's content, and whether it can be executed. Compressors differ, contents do not."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            entry.filename: (
                hashlib.sha256(archive.read(entry)).digest(),
                bool(entry.external_attr >> 16 & stat.S_IXUSR),
            )
            for entry in archive.infolist()
        }


def unpack_source(data: bytes, folder: Path) -> None:
    """Write an archive's files below a folder, with their modes.

    Raises
    ------
    SettingsError
        It is damaged.
    OSError
        The folder cannot be written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                path = archive.extract(entry, folder)
                os.chmod(path, stat.S_IMODE(entry.external_attr >> 16) | stat.S_IRUSR)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError([Fault("source.zip", str(error), "the source as it was sent")]) from None


def _inside(script: Path, root: Path) -> str | None:
    """The script's path within the folder, as it is written there or where its links lead."""
    for path, folder in ((script.absolute(), root.absolute()), (script.resolve(), root.resolve())):
        if path.is_relative_to(folder) and ".." not in path.parts:
            return path.relative_to(folder).as_posix()
    return None


def _files(root: Path) -> list[Path]:
    """All files below ``root`` in a fixed order; links to places outside of it are followed to
    files only."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        found += [path for path in (Path(folder) / name for name in sorted(names)) if path.is_file()]
    return found

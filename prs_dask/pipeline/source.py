"""The source directory as one archive: the same folder gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prs_dask.engine.source_folder import unpack
from prs_dask.errors import Fault, SettingsError
from prs_dask.pipeline.source_files import SourceFile, source_files

__all__ = ["SourceArchive", "changed_files", "pack_source", "path_within", "unpack_source"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
SETTINGS_FILE = "parallel_run_step.settings.json"


@dataclass(frozen=True, slots=True)
class SourceArchive:
    """A zip archive, its SHA-256, and the entry script's path within it."""

    data: bytes
    digest: str
    script: str


def pack_source(script: Path, source_directory: Path | None, made: Iterable[str] = ()) -> SourceArchive:
    """Pack the whole source directory, or the script alone (with the settings file beside it).

    Parameters
    ----------
    made
        What the step run makes itself, which is no source: see `own_places`.

    Raises
    ------
    SettingsError
        The script does not lie in the source directory, a file cannot be read, or see `source_files`.
    """
    root = script.parent if source_directory is None else source_directory
    inside = path_within(script, root)
    if inside is None:
        fault = Fault("entry_script", str(script), f"a file within source_directory={source_directory}")
        raise SettingsError([fault])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        try:
            for one in _alone(script) if source_directory is None else source_files(root, inside, made):
                _pack(archive, root, one)
        except OSError as error:
            fault = Fault("source_directory", f"{error.filename}: {error.strerror}", "files that can be read")
            raise SettingsError([fault]) from error
    data = buffer.getvalue()
    return SourceArchive(data, hashlib.sha256(data).hexdigest(), inside)


def _alone(script: Path) -> Iterator[SourceFile]:
    for path in (script, script.parent / SETTINGS_FILE):
        if path.is_file():
            yield SourceFile(path.name, path.stat().st_mode)


def _pack(archive: zipfile.ZipFile, root: Path, one: SourceFile) -> None:
    is_folder = stat.S_ISDIR(one.mode)
    entry = zipfile.ZipInfo(one.name + "/" * is_folder, _EPOCH)
    entry.external_attr = (stat.S_IFMT(one.mode) | stat.S_IMODE(one.mode)) << 16
    content = one.link.encode() if one.link or is_folder else (root / one.name).read_bytes()
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


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
            if not entry.is_dir()
        }


def unpack_source(data: bytes, folder: Path) -> None:
    """Write what an archive holds below a folder.

    Raises
    ------
    SettingsError
        It is damaged.
    OSError
        The folder cannot be written.
    """
    try:
        unpack(data, folder)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError([Fault("source.zip", str(error), "the source as it was sent")]) from None


def path_within(script: Path, root: Path) -> str | None:
    """The script's path within the folder, as it is written there or where its links lead; None if it is elsewhere."""
    for path, folder in ((script.absolute(), root.absolute()), (script.resolve(), root.resolve())):
        if path.is_relative_to(folder) and ".." not in path.parts:
            return path.relative_to(folder).as_posix()
    return None

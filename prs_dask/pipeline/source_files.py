"""What of a source directory travels: looked at before a byte of it is read.

``.amlignore`` in the source directory, else its ``.gitignore``, names by git's rules what is left out. So is what the
step run makes itself, and every run folder: what is packed is the same before a step run and after its driver was
killed.

Links to places within the folder stay links; one that leads out of it is refused, but for the entry script itself,
which is sent as the file it leads to. A folder that is too large to be code is refused with its largest entries.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prs_dask.engine.source_folder import leads_out
from prs_dask.errors import Fault, SettingsError
from prs_dask.output.stored_files import FOLDER_PREFIX
from prs_dask.pipeline.ignore_file import IgnorePatterns
from prs_dask.quantities import format_bytes, format_count

__all__ = ["LEFT_OUT", "SourceFile", "source_files"]

LEFT_OUT = frozenset({"__pycache__", ".git", ".hg", ".svn", ".venv", ".ipynb_checkpoints", "prs_runs"})
"""Folders of these names never travel."""

_RUN_FOLDER = frozenset({"run.json", "journal.jsonl"})
"""A folder with both is a run folder, whatever its name."""

IGNORE_FILES = (".amlignore", ".gitignore")
MOST_BYTES = 300 << 20
MOST_FILES = 50_000
MOST_LOOKED_AT = 4 * MOST_FILES
"""Where it is clear that there are too many, the rest is not counted."""

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What travels: a file, a link, or a folder that has nothing in it.

    Parameters
    ----------
    name
        Relative to the source directory, with ``/``.
    mode
        As `os.stat` tells it: also which of the three it is.
    link
        Where a link leads, relative to its own folder.
    size
        Bytes of a file.
    """

    name: str
    mode: int
    link: str = ""
    size: int = 0


def source_files(root: Path, script: str, made: Iterable[str] = ()) -> list[SourceFile]:
    """All that travels, in a fixed order.

    Parameters
    ----------
    script
        The entry script, relative to ``root``.
    made
        Absolute paths that stay at home, wherever they lie: see `own_places`.

    Raises
    ------
    SettingsError
        It is too large, the script is left out, or a link or name cannot travel.
    """
    ignore_file, patterns = _ignored(root)
    at_home = _AtHome(_names_within(root, made), patterns)
    found: list[SourceFile] = []
    outside: list[str] = []
    for name, status in _walk(root, "", at_home):
        if stat.S_ISLNK(status.st_mode) and name != script:
            link = _link_within(root, name)
            if link is not None:
                found.append(SourceFile(name, status.st_mode, link))
            elif (root / name).exists():
                outside.append(name)
        elif name == script or stat.S_ISREG(status.st_mode):
            status = (root / name).stat()
            found.append(SourceFile(name, status.st_mode, size=status.st_size))
        elif stat.S_ISDIR(status.st_mode):
            found.append(SourceFile(name, status.st_mode))
        if len(found) >= MOST_LOOKED_AT:
            break
    faults = [*_size_faults(ignore_file, found), *_link_faults(ignore_file, outside), *_name_faults(found)]
    if not faults and not any(one.name == script for one in found):
        where = ignore_file.name if ignore_file.exists() else "the names of folders that never travel"
        faults.append(Fault("entry_script", f"{script}, which is left out by {where}", "a script that travels"))
    if faults:
        raise SettingsError(faults)
    return found


@dataclass(frozen=True, slots=True)
class _AtHome:
    """What does not travel: names of what the step run makes, and patterns."""

    made: frozenset[str]
    patterns: IgnorePatterns

    def has(self, name: str, entry: os.DirEntry[str], *, is_folder: bool) -> bool:
        if entry.name.startswith(FOLDER_PREFIX) or (entry.name in LEFT_OUT and entry.is_dir()):
            return True
        return name in self.made or self.patterns.leaves_out(name, is_folder=is_folder)


def _ignored(root: Path) -> tuple[Path, IgnorePatterns]:
    """The ignore file that counts, and its patterns; where there is none, the one that might be made."""
    for name in IGNORE_FILES:
        path = root / name
        try:
            return path, IgnorePatterns(path.read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SettingsError([Fault("source_directory", f"{path}: {why}", "git's patterns, in UTF-8")]) from None
    return root / IGNORE_FILES[0], IgnorePatterns(b"")


def _names_within(root: Path, paths: Iterable[str]) -> frozenset[str]:
    """Names of what lies within the source directory, be it a link or what one leads to."""
    base = os.path.realpath(root)
    places = [os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in paths]
    return frozenset(os.path.relpath(one, base) for place in places for one in (place, os.path.realpath(place)))


def _walk(root: Path, folder: str, at_home: _AtHome) -> Iterator[tuple[str, os.stat_result]]:
    """Files and links, and folders that are empty; what is left out is not looked into."""
    try:
        with os.scandir(root / folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        if folder and {entry.name for entry in entries} >= _RUN_FOLDER:
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if at_home.has(name, entry, is_folder=is_folder):
                continue
            if not is_folder:
                yield name, entry.stat(follow_symlinks=False)
                continue
            empty = True
            for below in _walk(root, name, at_home):
                empty = False
                yield below
            if empty and not os.listdir(entry.path):
                yield name, entry.stat()
    except OSError as error:
        fault = Fault("source_directory", f"{error.filename}: {error.strerror}", "files that can be read")
        raise SettingsError([fault]) from error


def _link_within(root: Path, name: str) -> str | None:
    """Where a link leads, relative to its own folder; None where that is not within the source directory."""
    path = root / name
    target = os.readlink(path)
    if os.path.isabs(target):
        inside = os.path.normpath(target)
        for base in (os.path.abspath(root), os.path.realpath(root)):
            if inside == base or inside.startswith(f"{base}{os.sep}"):
                target = os.path.relpath(inside, os.path.join(base, os.path.dirname(name)))
                break
    if leads_out(name, target):
        return None
    led = os.path.realpath(path)  # other links on the way may lead out
    base = os.path.realpath(root)
    return target if led == base or led.startswith(f"{base}{os.sep}") else None


def _size_faults(ignore_file: Path, found: list[SourceFile]) -> Iterator[Fault]:
    size = sum(one.size for one in found)
    if size <= MOST_BYTES and len(found) <= MOST_FILES:
        return
    sizes, counts = Counter[str](), Counter[str]()
    for one in found:
        top, slash, _ = one.name.partition("/")
        sizes[top + slash] += one.size
        counts[top + slash] += 1
    order = sizes if size > MOST_BYTES else counts
    more = " and more" if len(found) >= MOST_LOOKED_AT else ""
    largest = ", ".join(
        f"{name} {format_bytes(sizes[name])}{_of_files(counts[name]) if name.endswith('/') else ''}"
        for name, _ in order.most_common(MOST_NAMED)
    )
    yield Fault(
        "source_directory",
        f"{format_bytes(size)}{_of_files(len(found))}{more} in {ignore_file.parent}; the largest: {largest}",
        f"code: at most {format_bytes(MOST_BYTES)}, {format_count(MOST_FILES)} files; data are inputs or side_inputs",
        _line_to_add(ignore_file, order.most_common(1)[0][0]),
    )


def _of_files(count: int) -> str:
    return f" ({format_count(count)} file{'s' * (count != 1)})"


def _link_faults(ignore_file: Path, outside: list[str]) -> Iterator[Fault]:
    if outside:
        root = ignore_file.parent
        named = ", ".join(f"{name} -> {os.readlink(root / name)}" for name in outside[:MOST_NAMED])
        more = f" and {len(outside) - MOST_NAMED:,} more" if len(outside) > MOST_NAMED else ""
        allowed = "links within it: what lies elsewhere does not travel; a copy, or a side input"
        example = _line_to_add(ignore_file, outside[0])
        yield Fault("source_directory", f"links that lead out of it: {named}{more}", allowed, example)


def _line_to_add(ignore_file: Path, name: str) -> str:
    """For a shell: the pattern that leaves out just this."""
    pattern = re.sub(r"([*?\[\\]| $)", r"\\\1", name)
    return f"echo {shlex.quote(f'/{pattern}')} >> {shlex.quote(str(ignore_file))}"


def _name_faults(found: list[SourceFile]) -> Iterator[Fault]:
    for one in found:
        if any("\udc80" <= letter <= "\udcff" for letter in one.name + one.link):
            allowed = "names in UTF-8, or an ignore file that leaves it out"
            yield Fault("source_directory", f"{os.fsencode(one.name)!r}, a name that is no UTF-8", allowed)

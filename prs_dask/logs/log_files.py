"""Files of the logs tree: appended to piece by piece, or rewritten whole.

A log that cannot be written never fails the job, whatever stands in its way. What fails is counted, the first failure
is told once, and the next piece is tried again. A piece that was written in part is taken back, so that
lines and rows stay whole. Thousands of processes share some hundreds of open files.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections import OrderedDict
from collections.abc import Callable
from itertools import count, takewhile
from pathlib import Path

__all__ = ["LogFiles"]

MOST_OPEN = 512
"""Each worker process has a few; with fewer open than are written in turn, each row opens and closes a file."""


class LogFiles:
    """Files under one folder, named by their paths within it.

    Parameters
    ----------
    folder
        ``logs/``; it and the folders below are made when the first file is.
    on_trouble
        Called once, with what failed first.
    most_open
        So many files are kept open; None: `MOST_OPEN`, or a quarter of what this process may open.
    """

    def __init__(
        self, folder: Path, on_trouble: Callable[[str], None] | None = None, most_open: int | None = None
    ) -> None:
        self.folder = folder
        self.failures = 0
        self.first_failure = ""
        self._on_trouble = on_trouble
        self._most_open = _most_open() if most_open is None else most_open
        self._open: OrderedDict[str, int] = OrderedDict()

    def append(self, name: str, data: bytes, first: bytes = b"") -> None:
        """Add ``data`` to the end of a file; where the file is new, ``first`` comes before it."""
        try:
            descriptor = self._descriptor(name)
            before = os.fstat(descriptor).st_size
            view = memoryview(data if before else first + data)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        except Exception as error:
            self._failed(name, error)

    def rewrite(self, name: str, data: bytes) -> None:
        """Give a file this content; readers see the old or the new one, never half of it."""
        path = self.folder / name
        new = path.with_name(f".{path.name}.new")
        try:
            _make_folder(path.parent)
            new.write_bytes(data)
            self._replace(new, name)
        except Exception as error:
            with contextlib.suppress(Exception):
                new.unlink()
            self._failed(name, error)

    def replace(self, name: str, by: str) -> None:
        """Give a file the content of another one, which is none any more."""
        try:
            _make_folder((self.folder / name).parent)
            self._forget(by)
            self._replace(self.folder / by, name)
        except Exception as error:
            self._failed(name, error)

    def set_aside(self, name: str) -> None:
        """Give a file of an earlier part another name (``error.1.txt``), so that it can be written anew."""
        path = self.folder / name
        others = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
        try:
            self._forget(name)
            path.rename(next(other for other in others if not other.exists()))
        except FileNotFoundError:
            pass
        except Exception as error:
            self._failed(name, error)

    def cut_torn_line(self, name: str) -> None:
        """Cut off what a driver that was killed had written of a last line: what is added next is a line of its own."""
        try:
            with (self.folder / name).open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                while end:
                    start = max(0, end - 65536)
                    file.seek(start)
                    newline = file.read(end - start).rfind(b"\n")
                    if newline >= 0:
                        end = start + newline + 1
                        break
                    end = start
                file.truncate(end)
        except FileNotFoundError:
            pass
        except Exception as error:
            self._failed(name, error)

    def keep_lines(self, name: str, keep: Callable[[bytes], bool]) -> None:
        """Drop the other lines of a file, and the file if none is left; none there is no error."""
        path = self.folder / name
        new = path.with_name(f".{path.name}.new")
        try:
            self._forget(name)
            with path.open("rb") as lines, new.open("wb") as kept:
                kept.writelines(line for line in lines if keep(line))
            if new.stat().st_size:
                self._replace(new, name)
            else:
                path.unlink()
                new.unlink()
        except FileNotFoundError:
            pass
        except Exception as error:
            with contextlib.suppress(Exception):
                new.unlink()
            self._failed(name, error)

    def first_line(self, name: str) -> bytes:
        """The line with which a file begins; nothing where there is none, or nobody can read it."""
        try:
            with (self.folder / name).open("rb") as file:
                return file.readline(65536)
        except OSError:
            return b""

    def remove(self, name: str) -> None:
        """Remove a file that is not true any more; none there is no error."""
        try:
            self._forget(name)
            (self.folder / name).unlink(missing_ok=True)
        except Exception as error:
            self._failed(name, error)

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it, none of it open; what does not go stays."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        """Close what is open; more may be appended after it."""
        while self._open:
            _, descriptor = self._open.popitem()
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _replace(self, new: Path, name: str) -> None:
        new.replace(self.folder / name)
        self._forget(name)  # what is appended goes to the new one

    def _forget(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _descriptor(self, name: str) -> int:
        descriptor = self._open.get(name)
        if descriptor is not None:
            self._open.move_to_end(name)
            return descriptor
        path = self.folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            _make_folder(path.parent)
            descriptor = os.open(path, flags, 0o644)
        self._open[name] = descriptor
        if len(self._open) > self._most_open:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return descriptor

    def _failed(self, name: str, error: Exception) -> None:
        self.failures += 1
        if not self.first_failure:
            why = isinstance(error, OSError) and error.strerror
            self.first_failure = f"{self.folder / name}: {why or f'{type(error).__name__}: {error}'}"
            if self._on_trouble is not None:
                self._on_trouble(self.first_failure)


def _most_open() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if soft == resource.RLIM_INFINITY else max(1, min(MOST_OPEN, soft // 4))


def _make_folder(folder: Path) -> None:
    """With those above it, however many: `Path.mkdir` and `os.makedirs` call themselves for each."""
    missing = takewhile(lambda one: not one.is_dir(), (folder, *folder.parents))
    for one in reversed(list(missing)):
        one.mkdir(exist_ok=True)

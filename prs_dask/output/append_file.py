"""The one output file while it grows.

Until the step run has ended well it is called ``<name>.partial``; ``<name>.partial.owner`` beside
it names the run folder it belongs to. The owner file is created first, whole, and removed last, and only
one process can create it: it is what two step runs with the same output folder meet at.

    create   owner -> .partial (empty)
    finish   .partial or the ordered copy gets its name by a hard link, which never overwrites
             -> .partial goes -> the ordered copy's other name goes -> owner goes

A crash between any two of these is put right by `AppendFile.resume`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from prs_dask.errors import EngineError, Fault, OutputError
from prs_dask.output.order_file import OrderFile, Place
from prs_dask.output.write_at import write_at

__all__ = ["AppendFile"]

_COPY = 1 << 20
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
"""What file systems that know none, or no more of them, answer."""


class AppendFile:
    """``<folder>/<name>``, written as ``<name>.partial`` by appending.

    Not for several threads at once. `append` and `sync` let OSError through: whoever commits
    cuts the file back to its last commit.
    """

    def __init__(self, folder: Path, name: str, owner: str) -> None:
        self.path = folder / name
        self.partial = folder / f"{name}.partial"
        self.owner = owner
        self.length = 0
        self.is_finished = False
        self._ordered = folder / f"{name}.partial.ordered"
        self._owner_file = folder / f"{name}.partial.owner"
        digest = hashlib.blake2b(os.fsencode(owner), digest_size=8).hexdigest()
        self._owner_draft = folder / f"{name}.partial.owner.{digest}"
        self._descriptor = -1

    @property
    def own_names(self) -> list[str]:
        """Whatever name the file, or what tells of it, may have in its folder."""
        return [path.name for path in (self.path, self.partial, self._ordered, self._owner_file, self._owner_draft)]

    @classmethod
    def create(cls, folder: Path, name: str, owner: str) -> AppendFile:
        """Start the file; the folder is made where it is missing.

        Parameters
        ----------
        folder, name
            ``<output>`` and ``append_row_file_name``.
        owner
            The run folder's path.

        Raises
        ------
        OutputError
            A file of that name exists, another step run writes there or has left its
            ``.partial`` behind, or the folder cannot be written. Nothing was changed.
        """
        file = cls(folder, name, owner)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file._refuse_existing()
            file._claim()
            try:
                file._open(os.O_CREAT | os.O_EXCL)
            except BaseException:
                file._owner_file.unlink(missing_ok=True)
                raise
            try:
                _sync_folder(folder)
            except BaseException:
                file.discard()
                raise
        except OSError as error:
            fault = Fault(
                "output", f"{folder}: {error.strerror or error}", "a folder that can be written", "another output"
            )
            raise OutputError([fault]) from error
        return file

    @classmethod
    def resume(cls, folder: Path, name: str, owner: str, length: int, *, complete: bool = False) -> AppendFile:
        """Go on with the file of the same run folder, cut back to the journalled length.

        Parameters
        ----------
        folder, name, owner
            As for `create`.
        length
            Bytes that are committed.
        complete
            The journal says that all there is has been committed: only then may the file have its name already.

        Raises
        ------
        OutputError
            It belongs to another step run, is gone, or is shorter than the journal says.
        """
        file = cls(folder, name, owner)
        if not file._owner_file.exists():
            if length == 0 and not file.partial.exists():
                return cls.create(folder, name, owner)
            named = complete and not os.path.lexists(file.partial) and file.path.is_file()
            if named and file.path.stat().st_size == length:  # killed when all of `finish` was done
                file.length, file.is_finished = length, True
                return file
            fault = Fault(str(file.partial), "no owner beside it", f"the partial output of {owner}", "a new step run")
            raise OutputError([fault])
        found = file._owner()
        if found != owner:
            raise OutputError([file._foreign(found)])
        file._owner_draft.unlink(missing_ok=True)
        file._undo_half_finish()
        if file.is_finished:
            if not complete:
                found = f"{file.path}, which the step run has not given its name: it is not complete"
                advice = f"move it back to {file.partial}"
                raise OutputError([Fault("output", found, f"the partial output {file.partial.name}", advice)])
            file.length = file.path.stat().st_size
            return file
        file._open(os.O_CREAT if length == 0 else 0)
        try:
            size = os.fstat(file._descriptor).st_size
            if size < length:
                allowed = f"at least the {length} that the journal names"
                raise OutputError([Fault(str(file.partial), f"{size} bytes", allowed, "a new step run")])
            file.truncate(length)
        except BaseException:
            file.close()
            raise
        return file

    def append(self, rows: bytes | memoryview) -> int:
        """Write rows at the end; their offset. On disk after `sync` only."""
        start = self.length
        self.length = write_at(self._descriptor, rows, start)
        return start

    def append_file(self, path: Path) -> tuple[int, int]:
        """Write the content of another file at the end; its offset and length."""
        start = self.length
        with path.open("rb", buffering=0) as file:
            while data := file.read(_COPY):
                self.append(data)
        return start, self.length - start

    def sync(self) -> None:
        """Have everything on disk."""
        os.fsync(self._descriptor)

    def truncate(self, length: int) -> None:
        """Cut back to ``length`` bytes, for instance to the last commit."""
        os.ftruncate(self._descriptor, length)
        self.length = length

    def finish(self, order: OrderFile | None = None, header_length: int = 0) -> Path:
        """Give the file its name; it and its folder are on disk when this returns.

        Parameters
        ----------
        order
            With ``append_row_order="input"``: the records by which it is rewritten first. Where
            the rows already lie in order, nothing is copied.
        header_length
            Bytes at the start that stay there.

        Raises
        ------
        OutputError
            A file of that name has appeared meanwhile, or there is no room for the ordered copy.
            The partial file is as it was.
        OSError
            The disk failed; the same.
        """
        if not self.is_finished:
            self.sync()
            ready = self.partial
            if order is not None and not order.is_in_order():
                ready = self._ordered
                self._write_ordered(order, header_length)
            self._name(ready)
            self.partial.unlink(missing_ok=True)
            self.is_finished = True
        self._ordered.unlink(missing_ok=True)
        self.close()
        _sync_folder(self.path.parent)
        self._owner_file.unlink(missing_ok=True)
        return self.path

    def keep_partial(self) -> Path:
        """The step run has not ended well: everything stays for a resume."""
        if self._descriptor >= 0:
            self.sync()
        self.close()
        return self.partial

    def discard(self) -> None:
        """Take the file back; for a step run that ends before it has handed anything out."""
        self.close()
        self.partial.unlink(missing_ok=True)
        self._owner_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the descriptor; nothing is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, flags: int) -> None:
        self._descriptor = os.open(self.partial, os.O_RDWR | os.O_CLOEXEC | flags, 0o644)

    def _refuse_existing(self) -> None:
        if self._owner_file.exists():
            raise OutputError([self._foreign(self._owner())])
        if os.path.lexists(self.path):
            fault = Fault("append_row_file_name", f"{self.path} exists", "a file that does not", "another output")
            raise OutputError([fault])
        if os.path.lexists(self.partial):
            raise OutputError([self._foreign("")])

    def _claim(self) -> None:
        """Create the owner file whole: it gets its name by a hard link when it is on disk.

        The name that it has until then is this step run's only: a resume removes what a kill has left there.
        """
        try:
            self._write_owner(self._owner_draft, os.O_TRUNC)
            try:
                os.link(self._owner_draft, self._owner_file)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                self._write_owner(self._owner_file, os.O_EXCL)  # a kill just now leaves an owner without a name
        except FileExistsError:
            raise OutputError([self._foreign(self._owner())]) from None
        finally:
            self._owner_draft.unlink(missing_ok=True)

    def _write_owner(self, path: Path, flag: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o644)
        try:
            write_at(descriptor, os.fsencode(self.owner), 0)
            os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _owner(self) -> str:
        return os.fsdecode(self._owner_file.read_bytes())

    def _foreign(self, owner: str) -> Fault:
        whose = f"the partial output of the step run in {owner}" if owner else "a partial output of an unknown step run"
        advice = f"resume {owner}, " if owner else ""
        return Fault(
            "output",
            f"{whose}: {self.partial}",
            "an output that no other step run has begun",
            f"{advice}remove {self.partial} and {self._owner_file.name}, or another output",
        )

    def _name(self, ready: Path) -> None:
        try:
            try:
                os.link(ready, self.path)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if os.path.lexists(self.path):  # no hard links here: look first, then rename
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path)) from None
                os.rename(ready, self.path)
        except FileExistsError:
            fault = Fault(
                "append_row_file_name",
                f"{self.path} has appeared while the step run was going",
                "a file that does not exist",
                f"move it away and resume {self.owner}",
            )
            raise OutputError([fault]) from None

    def _write_ordered(self, order: OrderFile, header_length: int) -> None:
        folder = self.path.parent
        free, needed = shutil.disk_usage(folder).free, self.length + order.sorting_bytes
        if free < needed:
            fault = Fault(
                "append_row_order",
                f"{free:,} bytes free in {folder}",
                f"{needed:,} bytes for the copy in input order",
                f'free some and resume {self.owner}, or append_row_order="any"',
            )
            raise OutputError([fault])
        try:
            with self._ordered.open("wb", buffering=_COPY) as target:
                self._copy(0, header_length, target)
                for offset, length in _neighbours_joined(order.sorted_places()):
                    self._copy(offset, length, target)
                if target.tell() != self.length:
                    raise EngineError(f"{order.path} names {target.tell()} bytes of {self.length} in {self.partial}")
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            self._ordered.unlink(missing_ok=True)
            raise

    def _copy(self, offset: int, length: int, target: IO[bytes]) -> None:
        while length:
            data = os.pread(self._descriptor, min(length, _COPY), offset)
            if not data:
                raise EngineError(f"{self.partial} has become shorter while it was read")
            target.write(data)
            offset, length = offset + len(data), length - len(data)

    def _undo_half_finish(self) -> None:
        """A crash within `finish`: go back to before it, or remember that it was through."""
        if not os.path.lexists(self.partial) and self.path.exists():
            self.is_finished = True
            return
        for twin in (self.partial, self._ordered):
            with contextlib.suppress(FileNotFoundError):
                if self.path.samefile(twin):
                    self.path.unlink()
        self._ordered.unlink(missing_ok=True)


def _neighbours_joined(places: Iterable[Place]) -> Iterator[tuple[int, int]]:
    """Offsets and lengths to copy one after the other; places that follow each other are one."""
    start = length = 0
    for place in places:
        if place.offset == start + length:
            length += place.length
            continue
        if length:
            yield start, length
        start, length = place.offset, place.length
    if length:
        yield start, length


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems whose folders cannot be synced
            raise
    finally:
        os.close(descriptor)

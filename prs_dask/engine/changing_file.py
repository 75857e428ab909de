"""A file that is not only appended to: a profile that is written anew, a log file of the script's own.

What was appended is sent as such. A file that has become another one, is shorter, or has other content before the
place to which it was sent, is sent whole again, and replaces what was there:

    appended    {"stream", "node", "process", "name", "data"}
    rewritten   the same with "whole": True on the first piece, and "more": True on all but the last

Content is compared only where size, time or inode say that it may have changed: all of it up to `COMPARED_BYTES`, of
larger files their first and last bytes, and where such a one was written to and is no longer, it counts as rewritten at
the second look. The file is the script's: nothing is written into it, and none of it is freed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prs_dask.engine import log_shipping
from prs_dask.engine.log_shipping import tail_of, without_middle
from prs_dask.engine.sent_notes import read_note, write_note

__all__ = ["ChangingFile"]

COMPARED_BYTES = 1 << 20
_END_BYTES = 4096
REWRITTEN_BYTES_A_SECOND = 1 << 20
"""A file that is rewritten all the time is sent so often that it comes to this."""

_GROWN = 2
"""A file that replaces one that stood whole may be so many times as large before it counts as a flood."""

_APPENDED, _WHOLE, _HALF = range(3)
Seen = tuple[int, int, int]


@dataclass(slots=True)
class ChangingFile:
    """See the module's docstring; used like a `prs_dask.engine.log_shipping.SpoolFile`.

    Parameters
    ----------
    path
        Where it is; it may not exist yet.
    stream
        A kind of `prs_dask.logs.places.STREAMS`.
    node, process
        Whose it is.
    name
        Its name below the folder of its kind; empty where a process has one file of the kind.
    note
        Where it is noted what was sent; None: beside the file.
    at_end
        It is sent when nobody writes to it any more, all of it, however large it is.

    Attributes
    ----------
    offset
        What lies before it was sent, or left out.
    """

    path: Path
    stream: str
    node: int
    process: int
    name: bytes = b""
    note: Path | None = None
    at_end: bool = False
    offset: int = 0
    _end: int = 0
    _seen: Seen | None = None
    _print: bytes | None = None  # of what lies before offset; None: nothing was sent yet
    _whole: bool = field(default=False, repr=False)  # the next piece begins it anew
    _replacing: bool = field(default=False, repr=False)  # pieces of a file that is sent anew are under way
    _is_cut: bool = field(default=False, repr=False)  # the middle of it was left out
    _stood: int = field(default=0, repr=False)  # so large was what stood whole on the driver last
    _doubted: bool = field(default=False, repr=False)  # the last look could not tell; the next one decides
    _last: tuple[int, int] = field(default=(0, 0), repr=False)  # where the last piece began, and its kind
    _not_before: float = field(default=0.0, repr=False)
    _sent: Sent | None = field(default_factory=lambda: Sent(), repr=False)

    def may_have_news(self) -> bool:
        """Is it worth while to ask for the next piece? As cheap as can be."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return _seen(status) != self._seen or self.offset < self._end

    def next_piece(self, until: int | None = None, *, ended: bool = False) -> dict[str, Any] | None:
        """What is new since the last piece, at most 1 MiB; None where nothing is.

        Parameters
        ----------
        until
            Where the piece ended when it was sent before.
        ended
            Nobody writes to it any more: what is there is sent now.
        """
        if self.at_end and not ended and until is None:
            return None
        with self._opened() as file:
            if file is None:
                return None
            if until is None and not self._has_news(file, ended=ended):
                return None
            return self._piece(file, until)

    def _has_news(self, file: int, *, ended: bool) -> bool:
        seen = _seen(os.fstat(file))
        if seen != self._seen or ended:
            size, known = seen[1], self._print is not None
            if known and not ended and self._is_doubtful(file, seen):
                return False
            if known and (size < self.offset or self._is_other(file, seen)):
                if time.monotonic() < self._not_before and not ended:
                    return False
                self._begin_anew()
                self._not_before = time.monotonic() + size / REWRITTEN_BYTES_A_SECOND
            self._seen, self._end = seen, size
        return self._print is None or self._whole or self.offset < self._end

    def _begin_anew(self) -> None:
        self.offset, self._whole, self._replacing, self._sent, self._is_cut = 0, True, True, Sent(), False

    def _is_doubtful(self, file: int, seen: Seen) -> bool:
        """Was it written to, and is no longer? Its writer may be in the middle of that: another look will tell."""
        same = self._seen is not None and seen[:2] == self._seen[:2] and seen != self._seen
        same = same and self.offset > COMPARED_BYTES and seen[1] == self.offset
        self._doubted = same and not self._doubted and _fingerprint(file, self.offset) == self._print
        return self._doubted

    def _is_other(self, file: int, seen: Seen) -> bool:
        """Is what lies before ``offset`` not what was sent?"""
        if self.offset > COMPARED_BYTES and self._seen is not None and seen != self._seen:
            another = seen[0] != self._seen[0]
            if another or seen[1] == self.offset:  # written to, and no longer: there is no telling where
                return True
        return _fingerprint(file, self.offset) != self._print

    def _piece(self, file: int, until: int | None) -> dict[str, Any] | None:
        begin, end = self.offset, self._end if until is None else until
        most = log_shipping.BACKLOG_BYTES if until is None else log_shipping.PIECE_BYTES
        if until is None and self._replacing:  # what stood whole is not replaced by less
            most = max(most, _GROWN * self._stood)
        if end - begin > most and not self.at_end:  # a flood
            end = tail_of(file, end) if until is None else until
            data, self.offset, self._sent = without_middle(file, begin, end), end, None
            self._is_cut = True
        else:
            data = os.pread(file, min(log_shipping.PIECE_BYTES, end - begin), begin)
            self.offset = begin + len(data)
        if not data and end > begin:  # it has become shorter just now
            self._seen = None
            return None
        if self._sent is not None:
            self._print = self._sent.add(data)
        else:
            self._print = _fingerprint(file, self.offset)
        whole, self._whole = self._whole, False
        more = self._replacing = self._replacing and self.offset < self._end
        if not more:
            self._stood = 0 if self._is_cut else self.offset
        kind = _HALF if more else _WHOLE if whole else _APPENDED
        self._last = begin, kind
        piece = {"stream": self.stream, "node": self.node, "process": self.process, "data": data}
        more_of_it = {"name": self.name, "whole": whole, "more": more}
        return piece | {key: value for key, value in more_of_it.items() if value}

    def note_call(self, number: int) -> None:
        """The last piece is about to be sent, by the call of this number."""
        begin, kind = self._last
        write_note(self._noted_at, number, begin, self.offset, kind, self._stood, (self._print or b"").hex())

    def resume(self) -> tuple[int, int]:
        """Take over from a supervisor that was killed: go back to the last piece that it sent, or was about to.

        Returns
        -------
        tuple of int
            The number of the call that sent it, 0 where nothing was sent; and where it ended, 0 where the file is
            to be sent anew.
        """
        try:
            *numbers, digest = read_note(self._noted_at)
            number, begin, end, kind, self._stood = map(int, numbers)
            self._print, self._sent = bytes.fromhex(digest), None
        except ValueError:
            return 0, 0
        with self._opened() as file:
            if file is None or not end or kind == _HALF or _fingerprint(file, end) != self._print:
                self._begin_anew()
                return number, 0
        self.offset, self._whole, self._is_cut = begin, kind == _WHOLE, self._stood != end
        return number, end

    def go_on_at(self, end: int) -> None:
        """What lies before ``end`` has come."""
        self.offset, self._whole = end, False

    def remove(self) -> None:
        """All of it was sent, and nobody writes to it any more."""
        with contextlib.suppress(OSError):  # while the file is there, its note says that it was sent
            for path in (self.path, self._noted_at):
                path.unlink(missing_ok=True)

    def free_shipped(self) -> None:
        """Nothing: its writer may read it."""

    @property
    def _noted_at(self) -> Path:
        return self.note or self.path.with_name(f".{self.path.name}.shipped")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of it; None where it is no file, or not there."""
        try:
            # What has become a link or a pipe meanwhile is neither followed nor waited for.
            file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            yield file if stat.S_ISREG(os.fstat(file).st_mode) else None
        finally:
            os.close(file)


def _seen(status: os.stat_result) -> Seen:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _fingerprint(file: int, end: int) -> bytes:
    """Tells whether what lies before ``end`` is the same."""
    if end <= COMPARED_BYTES:
        return _digest(os.pread(file, end, 0)).digest()
    return _digest(os.pread(file, _END_BYTES, 0) + os.pread(file, _END_BYTES, end - _END_BYTES)).digest()


def _digest(data: bytes = b"") -> blake2b:
    return blake2b(data, digest_size=16)


class Sent:
    """What was sent of a file: the same fingerprint as that of the file, whoever writes to it meanwhile."""

    def __init__(self) -> None:
        self._all, self._size = _digest(), 0
        self._first = self._last = b""

    def add(self, data: bytes) -> bytes:
        """The fingerprint with this, too."""
        self._size += len(data)
        self._first += data[: _END_BYTES - len(self._first)]
        self._last = (self._last + data[-_END_BYTES:])[-_END_BYTES:]
        if self._size > COMPARED_BYTES:
            return _digest(self._first + self._last).digest()
        self._all.update(data)
        return self._all.digest()

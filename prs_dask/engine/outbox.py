"""What a lane has to report: gathered as outcomes come, taken whole by the next call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prs_dask.attempts.records import AttemptError, AttemptRecord, pack

__all__ = ["Outbox", "sendable", "sendable_text"]


def sendable(error: AttemptError) -> AttemptError:
    """The same error as `sendable_text`."""
    return AttemptError(*map(sendable_text, error))


def sendable_text(text: str) -> str:
    """The same text with lone surrogates escaped (names of files that are no UTF-8 have some): messages of Dask
    are UTF-8 and nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(slots=True)
class Outbox:
    """Outcomes of one grant (``token``) in one process that the scheduler has not been told yet."""

    token: int = 0
    process: int = -1
    pid: int = 0
    size: int = 0
    records: list[AttemptRecord] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    errors: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    files: list[tuple[int, bytes]] = field(default_factory=list)
    pieced: list[tuple[int, int]] = field(default_factory=list)
    filed: list[int] = field(default_factory=list)
    headers: list[tuple[int, bytes]] = field(default_factory=list)
    back: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.pieces or self.files or self.back)

    def add(self, record: AttemptRecord, rows: bytes) -> None:
        """A success and the last of its rows."""
        self.records.append(record)
        self.rows.append(rows)
        self.size += len(rows)

    def fail(self, record: AttemptRecord, error: AttemptError) -> None:
        """A failed attempt."""
        self.records.append(record)
        self.errors.append((record.mini_batch, tuple(sendable(error))))
        self.size += len(error.traceback)

    def add_piece(self, mini_batch: int, rows: bytes) -> None:
        """Rows of a mini-batch that has not ended yet."""
        self.pieces.append((mini_batch, rows))
        self.size += len(rows)

    def add_file(self, mini_batch: int, piece: bytes) -> None:
        """A piece of a file that a mini-batch has stored, which has not ended yet."""
        self.files.append((mini_batch, piece))
        self.size += len(piece)

    def give_back_filed(self) -> None:
        """Successes that came with files go back: those that they build on have been refused."""
        filed, rows = set(self.filed), iter(self.rows)
        kept = [(record, b"" if record.category else next(rows)) for record in self.records]
        kept = [(record, row) for record, row in kept if record.category or record.mini_batch not in filed]
        self.back.extend(self.filed)
        self.records = [record for record, _ in kept]
        self.rows = [row for record, row in kept if not record.category]
        self.pieces = [piece for piece in self.pieces if piece[0] not in filed]
        self.pieced = [size for size in self.pieced if size[0] not in filed]
        self.headers = [header for header in self.headers if header[0] not in filed]
        self.files, self.filed = [], []

    def take(self) -> dict[str, Any]:
        """The report, as it travels; the outbox is empty afterwards."""
        report: dict[str, Any] = {
            "process": self.process,
            "pid": self.pid,
            "records": pack(self.records),
            "rows": b"".join(self.rows),
        }
        for name in ("errors", "pieces", "files", "pieced", "filed", "headers", "back"):
            if getattr(self, name):
                report[name] = getattr(self, name)
        self.records, self.rows, self.errors, self.pieces = [], [], [], []
        self.files, self.pieced, self.filed, self.headers, self.back, self.size = [], [], [], [], [], 0
        return report

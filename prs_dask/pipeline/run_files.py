"""What a step run writes for good, open: output, order of rows, journal. One place opens them and one closes them.

A new step run begins them; one that is resumed goes on where the journal ends. They are begun in an order that leaves
something to go on from whenever the driver is killed: the source, ``run.json`` by which a folder is one to resume, the
journal, and the output last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prs_dask.datasets.kept_reader import kept_reader
from prs_dask.errors import Fault, OutputError
from prs_dask.output.append_file import AppendFile
from prs_dask.output.committer import Committer
from prs_dask.output.journal import JournalState, JournalWriter
from prs_dask.output.journal_lock import JournalLock
from prs_dask.output.manifest import ManifestState, ManifestWriter
from prs_dask.output.order_file import OrderFile
from prs_dask.output.piece_store import PieceStore
from prs_dask.output.stored_files import StoredFiles
from prs_dask.pipeline.run_record import fingerprint, utc_now

if TYPE_CHECKING:
    from prs_dask.logs.run_folder import RunFolder
    from prs_dask.pipeline.preparation import Preparation
    from prs_dask.pipeline.source import SourceArchive

__all__ = ["RunFiles"]


class _Closes(Protocol):
    def close(self) -> None: ...


_Part = TypeVar("_Part", bound=_Closes)


class RunFiles:
    """Open files of one step run; `close` them however it ends, and release the ``lock`` when all is said.

    Attributes
    ----------
    output, order, pieces
        None where there are no rows (summary_only), or no order to keep.
    stored
        Files that scripts store on nodes without the output folder.
    """

    def __init__(
        self,
        lock: JournalLock,
        journal: JournalWriter,
        manifest: ManifestWriter,
        state: JournalState,
        output: AppendFile | None,
        order: OrderFile | None,
        pieces: PieceStore | None,
        stored: StoredFiles,
    ) -> None:
        self.lock = lock
        self.journal = journal
        self.manifest = manifest
        self.output = output
        self.order = order
        self.pieces = pieces
        self.stored = stored
        self.committer = Committer(journal, output, order, pieces, state)

    @property
    def is_finished(self) -> bool:
        """Had an earlier driver given the output its name?"""
        return self.output is not None and self.output.is_finished

    @classmethod
    def begin(
        cls,
        folder: RunFolder,
        lock: JournalLock,
        record: Mapping[str, Any],
        preparation: Preparation,
    ) -> RunFiles:
        """Write what a resume needs, begin the journal, and then the output.

        Raises
        ------
        OutputError
            The output exists or belongs to another step run. It was not changed.
        """
        lock.sign()
        source = preparation.source
        _write_record(folder, record, source)
        for path in (folder.journal, folder.manifest):  # which the kill of their driver has left without a header
            path.unlink(missing_ok=True)
        with _Opened() as opened:
            manifest = opened.take(
                ManifestWriter.create(
                    folder.manifest, {"inputs": [kept_reader(reader) for reader in preparation.readers]}
                )
            )
            journal = opened.take(
                JournalWriter.create(
                    folder.journal,
                    run=record["run_id"],
                    created=record["created"],
                    fingerprint=fingerprint(record, source.digest if source is not None else None),
                    plan={"mini_batch_size": record["settings"]["mini_batch_size"], "inputs": len(record["inputs"])},
                )
            )
            files = cls._joined(opened, folder, lock, record, journal, manifest, None)
            opened.pop_all()
        return files

    @classmethod
    def go_on(
        cls,
        folder: RunFolder,
        lock: JournalLock,
        record: Mapping[str, Any],
        preparation: Preparation,
        state: JournalState,
        listed: ManifestState,
        *,
        complete: bool,
    ) -> RunFiles:
        """Go on behind the journal's last line; what lies beyond it is cut off.

        Parameters
        ----------
        complete
            All there is had been committed: the output may have its name already.

        Raises
        ------
        OutputError
            The output is not as the journal says: gone, shorter, or another step run's.
        """
        with _Opened() as opened:
            manifest = opened.take(ManifestWriter.reopen(folder.manifest, listed))
            journal = opened.take(JournalWriter.reopen(folder.journal, state))
            files = cls._joined(opened, folder, lock, record, journal, manifest, state, complete=complete)
            lock.sign()
            _write_record(folder, record, preparation.source)
            opened.pop_all()
        return files

    @classmethod
    def _joined(
        cls,
        opened: _Opened,
        folder: RunFolder,
        lock: JournalLock,
        record: Mapping[str, Any],
        journal: JournalWriter,
        manifest: ManifestWriter,
        state: JournalState | None,
        *,
        complete: bool = False,
    ) -> RunFiles:
        settings, owner, output_folder = record["settings"], record["run_folder"], Path(record["output"])
        output, order, pieces = None, None, None
        if settings["output_action"] == "append_row":
            if settings["append_row_order"] == "input":
                order = opened.take(OrderFile(folder.order, state.order_count if state else 0))
            pieces = opened.take(PieceStore(folder.pieces))
            name = settings["append_row_file_name"]
            if state is None:
                output = AppendFile.create(output_folder, name, owner)
                opened.callback(output.discard)
            else:
                output = opened.take(
                    AppendFile.resume(output_folder, name, owner, state.output_length, complete=complete)
                )
        else:
            _make(output_folder)
        stored = opened.take(
            StoredFiles(output_folder, record["run_id"], output.own_names if output is not None else ())
        )
        stored.begin(state.valid_bytes if state else 0)
        return cls(lock, journal, manifest, state or JournalState(), output, order, pieces, stored)

    def begin_part(self, *, retry_failed: bool) -> None:
        """The journal's line that a further part begins here; on disk when this returns."""
        self.journal.resumed(utc_now(), retry_failed)
        self.journal.sync()

    def abandon(self, *, is_new: bool) -> None:
        """The step run cannot be started after all: a new output is taken back."""
        if self.output is not None and is_new:
            self.output.discard()
        for part in (self.output, self.order, self.pieces, self.stored, self.manifest, self.journal):
            if part is not None:
                part.close()

    def end(self, state: str) -> None:
        """The journal's last word, when all else is said: what a kill comes before is ended once more by a resume."""
        with contextlib.suppress(OSError):  # a disk that is full or gone changes the end of nothing
            self.journal.end(state, utc_now())
            self.journal.sync()

    def close(self) -> None:
        """Nothing more is written; an output without its name stays for a resume."""
        if self.output is not None and not self.output.is_finished:
            with contextlib.suppress(OSError):
                self.output.keep_partial()
        for part in (self.manifest, self.order, self.pieces, self.stored, self.journal):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()


class _Opened(contextlib.ExitStack):
    """Closes what was opened where all of it cannot be; ``pop_all`` when it could."""

    def take(self, part: _Part) -> _Part:
        """One more that is open."""
        self.callback(part.close)
        return part


def _write_record(folder: RunFolder, record: Mapping[str, Any], source: SourceArchive | None) -> None:
    if source is not None:
        folder.write_source(source.data)
    folder.write_record(record)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = Fault("output", f"{folder}: {error.strerror}", "a folder that can be written", "another output")
        raise OutputError([fault]) from error

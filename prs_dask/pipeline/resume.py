"""What an earlier driver has left of a step run: everything that a resume reads, as one value.

::

    lock -> run.json, journal -> compare -> cut the output back -> journal line "resumed" -> as a new step run

Only JSON and the check sums of files are read: nothing in a run folder can run code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from prs_dask.attempts.judge import Counts
from prs_dask.errors import Fault, OutputError, ResumeError, SettingsError
from prs_dask.logs.run_folder import RunFolder
from prs_dask.output.journal import JournalState, read_journal
from prs_dask.output.journal_lock import JournalLock
from prs_dask.pipeline.differences import differences, source_fault
from prs_dask.pipeline.earlier_inputs import EarlierInputs
from prs_dask.pipeline.recorded_run import RecordedRun
from prs_dask.pipeline.run_record import fingerprint
from prs_dask.pipeline.source import SourceArchive, changed_files

if TYPE_CHECKING:
    from prs_dask.config import ParallelRunConfig
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["Earlier"]


@dataclass(frozen=True)
class Earlier(RecordedRun):
    """A step run as it was left, and the lock that keeps other drivers out.

    Parameters
    ----------
    folder, record
        See `RecordedRun`.
    lock
        Held.
    journal
        What is on disk for good. Where the driver was killed before it had begun one, its ``header`` is None.
    retry_failed, accept_changes
        How it is resumed.
    was_complete
        Had every mini-batch ended, before those that had failed were opened again?
    """

    lock: JournalLock
    journal: JournalState
    retry_failed: bool = True
    accept_changes: bool = False
    was_complete: bool = False

    @classmethod
    def read(
        cls, run_folder: str | os.PathLike[str], *, retry_failed: bool = True, accept_changes: bool = False
    ) -> Earlier:
        """Lock a run folder and read it; nothing is changed.

        Raises
        ------
        OutputError
            It is no run folder, another driver works on it, or it is damaged.
        """
        RunFolder.of(run_folder).read_record()  # no lock is left behind in a folder that is none
        lock = JournalLock.take(RunFolder.of(run_folder).path)
        try:
            recorded = RecordedRun.read(run_folder)
            folder, record = recorded.folder, recorded.record
            _check_place(folder, record)
            journal = read_journal(folder.journal) if folder.journal.exists() else JournalState()
            _check_header(folder, record, journal)
        except BaseException:
            lock.release()
            raise
        was_complete = journal.is_complete
        if retry_failed and journal.end_state != "Completed":
            journal.open_failed()
        return cls(folder, record, lock, journal, retry_failed, accept_changes, was_complete)

    def without_retries(self) -> Earlier:
        """The same, where what had failed stays so: the output has its name already."""
        return replace(self, journal=read_journal(self.folder.journal), retry_failed=False)

    @property
    def completed(self) -> bool:
        """Is there nothing to go on with?"""
        return self.journal.end_state == "Completed"

    @property
    def counts(self) -> Counts:
        """What all parts together have come to."""
        return self.journal.counted()

    @property
    def rows(self) -> int:
        """Rows committed."""
        return self.journal.counts.get("rows", 0)

    @property
    def header(self) -> bytes | None:
        """The output's header line; empty where its rows have none, None where it is not decided."""
        return self.journal.header_line or (b"" if self.journal.output_length else None)

    def refuse_changes(self, record: Mapping[str, Any], source: SourceArchive | None) -> None:
        """See that the step is the one that the step run began with.

        Parameters
        ----------
        record
            What ``run.json`` would hold of the step as it is now, hashed with the same salt.
        source
            Its source as it is now; with `accept_changes` it may have changed.

        Raises
        ------
        ResumeError
            With every difference at once.
        """
        faults = differences(self.record, record)
        if source is not None and not self.accept_changes:
            faults += self._source_faults(source)
        if faults:
            raise ResumeError(faults)

    def _source_faults(self, source: SourceArchive) -> Iterator[Fault]:
        try:
            before = self.folder.source_zip.read_bytes()
            changes = [] if hashlib.sha256(before).hexdigest() == source.digest else changed_files(before, source.data)
        except (OSError, BadZipFile) as error:
            found = f"{self.folder.source_zip}: {error}, so that nobody can tell whether the source has changed"
            advice = "accept_changes=True (--accept-changes), if it has not"
            yield Fault("source", found, "the source as it was sent when the step run began", advice)
            return
        if changes:
            yield source_fault(changes)

    def inputs(self, step: ParallelRunStep, config: ParallelRunConfig) -> EarlierInputs:
        """The inputs as they were listed, compared with what they are now.

        Raises
        ------
        ResumeError
            They have changed; names the files.
        OutputError
            The manifest is missing or damaged.
        """
        size = step.mini_batch_size(config)
        inputs = EarlierInputs(self.folder.manifest, step.inputs_of(config), size, self.has_ended)
        journal = self.journal
        ids = (*journal.finished.ranges(), *journal.failed.ranges())
        last = max(*(stop - 1 for _, stop in ids), *journal.bisected, -1, -1)
        if last >= inputs.state.count:
            found = f"{inputs.state.count:,} mini-batches, but mini-batch {last} has ended"
            raise OutputError([Fault(f"{self.folder.manifest}", found, "the file as it was written", "a copy of that")])
        inputs.compare(self.accept_changes)
        return inputs

    def has_ended(self, mini_batch: int) -> bool:
        """Is it finished, or has it failed and is not to be tried again?"""
        return mini_batch in self.journal.finished or mini_batch in self.journal.failed


def _check_place(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """The folder lies where it did."""
    known = Path(record["run_folder"])
    if not known.is_dir() or not known.samefile(folder.path):
        found = f"{folder.path}, which was {known} when the step run began"
        advice = f"move it back to {known}: its output is known by that name"
        raise OutputError([Fault("run_folder", found, "a run folder that was not moved or copied", advice)])


def _check_header(folder: RunFolder, record: Mapping[str, Any], journal: JournalState) -> None:
    """``run.json`` is as it was written: the journal has a check sum of what decides over rows."""
    if journal.header is None:
        return
    try:
        same = fingerprint(record, None)["settings"] == journal.header["fingerprint"]["settings"]
    except (LookupError, TypeError, SettingsError):
        same = False
    if not same or journal.header["run"] != record["run_id"]:
        found = "other settings than the journal's check sum tells: it was changed by hand"
        raise OutputError([Fault(f"{folder.run_json}", found, "the file as it was written", "a copy of that")])

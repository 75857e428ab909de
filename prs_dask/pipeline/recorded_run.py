"""A step run as its run folder tells it: what may be read at any time, also while another process drives it.

No lock is taken and nothing is changed. `prs_dask.pipeline.resume` goes on from here, with the lock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prs_dask.errors import Fault, OutputError, SettingsError
from prs_dask.logs.run_folder import RunFolder
from prs_dask.mini_batches.json_form import KeptMiniBatch, from_line
from prs_dask.output.journal import JournalState, read_journal
from prs_dask.output.manifest import read_manifest, read_members
from prs_dask.pipeline.run_record import FORMAT

__all__ = ["MiniBatchName", "RecordedMiniBatch", "RecordedRun"]

SHOWN = 20
"""Ids that a message names."""

_NAME = re.compile(r"(\d+)(?:\[(\d+):(\d+)\])?")


class MiniBatchName(NamedTuple):
    """``7``, or ``7[3:5]``: all of a mini-batch, or those of its items."""

    number: int
    items: tuple[int, int] | None = None

    @classmethod
    def of(cls, text: str | int) -> MiniBatchName:
        """The name as somebody wrote it.

        Raises
        ------
        SettingsError
            It is none.
        """
        found = _NAME.fullmatch(str(text).strip())
        if found is None:
            allowed = "the id of a mini-batch, or some of its items as the logs name them"
            raise SettingsError([Fault("mini_batch", repr(text), allowed, "7, or 7[3:5]")])
        number, start, stop = found.groups()
        return cls(int(number), None if start is None else (int(start), int(stop)))


class RecordedMiniBatch(NamedTuple):
    """A mini-batch as it was listed, and when it was handed out at the earliest, in seconds since the epoch."""

    mini_batch: KeptMiniBatch
    at: float


@dataclass(frozen=True)
class RecordedRun:
    """What ``run.json`` and the manifest say.

    Parameters
    ----------
    folder
        The run folder.
    record
        What ``run.json`` holds.
    """

    folder: RunFolder
    record: Mapping[str, Any]

    @classmethod
    def read(cls, run_folder: str | os.PathLike[str]) -> RecordedRun:
        """Read ``run.json``.

        Raises
        ------
        OutputError
            It is no run folder, or it is damaged.
        """
        folder = RunFolder.of(run_folder)
        record = folder.read_record()
        _check_record(folder, record)
        return cls(folder, record)

    @property
    def salt(self) -> bytes:
        """With which the record's secrets were hashed."""
        return bytes.fromhex(self.record["salt"])

    def kept_readers(self) -> list[Mapping[str, Any]]:
        """How each input was read, as `datasets.kept_reader` has kept it.

        Raises
        ------
        OutputError
            The manifest is missing or damaged.
        """
        header = read_manifest(self.folder.manifest).header
        return list(header.get("inputs", ()))

    def mini_batch(self, number: int) -> RecordedMiniBatch:
        """One mini-batch.

        Raises
        ------
        SettingsError
            There is none of that id; names those there are, the failed ones first.
        OutputError
            The manifest is missing or damaged.
        """
        count = 0
        for member in read_members(self.folder.manifest):
            count = member.first + len(member.lines)
            if number < count:
                try:
                    return RecordedMiniBatch(from_line(member.lines[number - member.first]), member.at)
                except ValueError as error:
                    found = f"mini-batch {number}: {error}"
                    raise OutputError([Fault(str(self.folder.manifest), found, "what the step run wrote")]) from error
        failed = self.failed()
        allowed = f"0 to {count - 1}" if count else "none: nothing was listed"
        if failed:
            more = ", ..." if len(failed) > SHOWN else ""
            allowed = f"{', '.join(failed[:SHOWN])}{more} (failed), or any of {allowed}"
        raise SettingsError([Fault("mini_batch", str(number), allowed, failed[0] if failed else "")])

    def failed(self) -> list[str]:
        """What failed for good: ids of mini-batches, and of parts of those that were bisected; at most so many
        that a message can name them and say that there are more."""
        if not self.folder.journal.exists():
            return []
        names = _failed(read_journal(self.folder.journal))
        return [name for name, _ in zip(names, range(SHOWN + 1), strict=False)]


def _failed(journal: JournalState) -> Iterator[str]:
    for start, stop in journal.failed.ranges():
        for number in range(start, stop):
            if number not in journal.bisected:
                yield str(number)
    for number, items in journal.bisected.items():
        for start, stop in items.failed.ranges():
            yield f"{number}[{start}:{stop}]"


def _check_record(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """The record is one of ours."""
    kinds = {
        "format": int,
        "salt": str,
        "run_id": str,
        "run_folder": str,
        "output": str,
        "settings": dict,
        "inputs": list,
    }
    bad = [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]
    if bad or record["format"] != FORMAT:
        found = f"no {', '.join(bad)}" if bad else f"format {record['format']}"
        advice = "the version of prs_dask that wrote it"
        raise OutputError([Fault(f"{folder.run_json}", found, f"what a step run of format {FORMAT} wrote", advice)])

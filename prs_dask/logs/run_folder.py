"""The run folder: everything a step run leaves behind, in one place.

::

    prs_runs/<step name>-<UTC time>-<short id>/
        run.json        settings without secrets
        source.zip      the source as it was sent
        journal.jsonl   what is finished
        inputs.jsonl.gz every mini-batch that was listed
        journal.lock    held by the driver that works on it
        logs/           what happened
        report.html     the same to look at
        output/         unless the step's output is elsewhere; made by whoever writes there
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prs_dask.errors import Fault, OutputError

__all__ = ["RUNS_FOLDER", "RunFolder"]

RUNS_FOLDER = "prs_runs"
"""In the current folder, unless a path is given."""


class RunFolder:
    """Paths of one run folder, which exists.

    Parameters
    ----------
    path
        Absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []

    @classmethod
    def create(cls, path: Path | None, step_name: str, now: float, short_id: str) -> RunFolder:
        """Make a new run folder, or nothing at all.

        Parameters
        ----------
        path
            Where; a folder that is empty or does not exist. None: a new one in ``prs_runs/``.
        step_name, short_id
            For its name.
        now
            Seconds since the epoch.

        Raises
        ------
        OutputError
            The path is no empty folder, or cannot be written.
        """
        if path is None:
            time = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
            path = Path(RUNS_FOLDER) / f"{step_name}-{time}-{short_id}"
        folder = cls(Path(os.path.abspath(path)))
        try:
            folder._make()
        except OSError as error:
            folder.discard()
            found = f"{folder.path}: {error.strerror or error}"
            raise OutputError(
                [Fault("run_folder", found, "a path that can be written", "run_folder=<another folder>")]
            ) from error
        except BaseException:
            folder.discard()
            raise
        return folder

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The run folder of an earlier step run.

        Raises
        ------
        OutputError
            There is no such folder.
        """
        folder = cls(Path(os.path.abspath(path)))
        if not folder.path.is_dir():
            found = f"{folder.path}, which is no folder"
            raise OutputError([Fault("run_folder", found, "the run folder of a step run", "prs_runs/<its name>")])
        return folder

    @property
    def logs(self) -> Path:
        """The logs tree."""
        return self.path / "logs"

    @property
    def report(self) -> Path:
        """What happened, as a page."""
        return self.path / "report.html"

    @property
    def output(self) -> Path:
        """Where the output is unless the step names another place; not made here."""
        return self.path / "output"

    @property
    def run_json(self) -> Path:
        """Settings without secrets."""
        return self.path / "run.json"

    @property
    def source_zip(self) -> Path:
        """The source as it was sent."""
        return self.path / "source.zip"

    @property
    def journal(self) -> Path:
        """What is finished."""
        return self.path / "journal.jsonl"

    @property
    def manifest(self) -> Path:
        """Every mini-batch that was listed."""
        return self.path / "inputs.jsonl.gz"

    @property
    def order(self) -> Path:
        """Places of rows, with ``append_row_order="input"``."""
        return self.path / "order.records"

    @property
    def pieces(self) -> Path:
        """Rows of huge mini-batches that are under way."""
        return self.path / "pieces"

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``: what JSON knows, without secrets."""
        self._write(self.run_json, json.dumps(record, indent=2).encode("ascii") + b"\n")

    def read_record(self) -> dict[str, Any]:
        """What `write_record` wrote.

        Raises
        ------
        OutputError
            It is not there or cannot be read.
        """
        try:
            record = json.loads(self.run_json.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            fault = Fault("run_folder", f"{self.run_json}: {why}", "the run folder of a step run", "another folder")
            raise OutputError([fault]) from error
        if not isinstance(record, dict):
            fault = Fault("run_folder", f"{self.run_json}: no object", "the run folder of a step run", "another folder")
            raise OutputError([fault])
        return record

    def write_source(self, archive: bytes) -> None:
        """Keep the source as it was sent."""
        self._write(self.source_zip, archive)

    def discard(self) -> None:
        """Take back what was made: for a step run that ends before it has started.

        A folder that was there before stays, empty again; so does everything that others put in
        folders above it.
        """
        for path in reversed(self._made):
            if path == self.logs or path == self.path:
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.rmdir()
        if self._made and self.path not in self._made:
            lock = self.path / "journal.lock"
            for path in (self.run_json, self.source_zip, self.journal, self.manifest, self.order, lock):
                path.unlink(missing_ok=True)
        self._made.clear()

    def _make(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        if not missing and next(self.path.iterdir(), None) is not None:
            found = f"{self.path} is not empty"
            raise OutputError(
                [Fault("run_folder", found, "a folder that is empty or does not exist", "run_folder=<another folder>")]
            )
        for folder in reversed(missing):
            folder.mkdir(exist_ok=folder != self.path)  # prs_runs itself may be made by two at once
            self._made.append(folder)
        self.logs.mkdir()
        self._made.append(self.logs)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        new = path.with_name(f".{path.name}.new")
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            fault = Fault("run_folder", f"{path}: {error.strerror or error}", "a folder that can be written", "another")
            raise OutputError([fault]) from error

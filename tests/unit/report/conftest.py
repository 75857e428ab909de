"""A run folder as a driver leaves it, written by the writers of the real one, with whatever attempts a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from prs_dask.attempts.records import AttemptError, AttemptRecord, pack
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.logs.tree import LogTree

BEGUN = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


class WrittenRun:
    """A run folder; add to it, then `end` it or leave it as if its driver had been killed."""

    def __init__(self, path: Path, name: str = "score") -> None:
        self.folder = RunFolder(path)
        self.folder.logs.mkdir(parents=True)
        self.folder.write_record(
            {
                "name": name,
                "run_id": f"{name}-1",
                "created": "2026-01-01T00:00:00Z",
                "run_folder": str(path),
                "output": str(path / "output"),
                "settings": {"output_action": "append_row", "append_row_file_name": "rows.txt", "mini_batch_size": 5},
            }
        )
        self.tree = LogTree(self.folder.logs)
        self.records: list[AttemptRecord] = []

    @staticmethod
    def attempt(number: int, after: float = 0.0, **told: float) -> AttemptRecord:
        """One that began ``after`` so many seconds and succeeded in 10 ms, unless told otherwise."""
        values = {
            "attempt": 1, "category": 0, "final": 1, "items": 5, "results": 5, "length": 20, "started": BEGUN + after,
            "elapsed": 0.01, "read": 0.002, "run": 0.007, "cpu": 0.006,
        }  # fmt: skip
        return AttemptRecord(number, **{**values, **told})  # type: ignore[arg-type]

    def add(
        self,
        records: Iterable[AttemptRecord],
        node: int = 0,
        process: int = 0,
        errors: Mapping[int, AttemptError] | None = None,
        detail: str = "items/{number}.png",
    ) -> None:
        """Attempts that ended in one process."""
        new = list(records)
        self.records += new
        details = {record.mini_batch: detail.format(number=record.mini_batch) for record in new}
        self.tree.add_attempts(node, process, pack(new), details, errors)

    def end(self, state: str = "Completed", cause: str = "") -> None:
        """As its driver does."""
        final = [record for record in self.records if record.final]
        good = [record for record in final if record.category == 0]
        items, succeeded = sum(record.items for record in final), sum(record.succeeded_items for record in final)
        summary = StepSummary(
            state, len(final), len(good), len(final) - len(good), items, succeeded, items - succeeded,
            len(self.records), succeeded, 12.5, 14.0,
        )  # fmt: skip
        self.tree.finish(summary, BEGUN + 60, cause=cause)


@pytest.fixture
def written_run(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "run")

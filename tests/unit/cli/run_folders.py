"""Run folders as drivers leave them, made without running anything."""

from __future__ import annotations

from pathlib import Path

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.logs.tree import LogTree
from prs_dask.output.journal import JournalWriter, read_journal

NOW = 1_767_225_600.0
SUMMARY = StepSummary("Failed", 20, 7, 1, 80, 68, 12, 12, 68, 1.5, 2.5)


def begun(path: Path) -> LogTree:
    """Nothing has ended yet."""
    folder = RunFolder(path)
    folder.logs.mkdir()
    folder.write_record({"name": "score", "created": "2026-01-01T00:00:00Z", "run_folder": str(path)})
    JournalWriter.create(folder.journal, run="r", created="now", fingerprint={}, plan={}).close()
    return LogTree(folder.logs)


def committed(path: Path, missing: int = 0, listed: int = 20) -> None:
    """Mini-batches 0 to 6 have succeeded."""
    journal = reopened(path)
    journal.inputs(listed, complete=True)
    journal.commit(output=9, finished="0-6", counts={"items": 70, "rows": 68, "failed_items": missing, "attempts": 7})
    journal.close()


def failing(tree: LogTree, *errors: AttemptError) -> None:
    """As if processes had been shut down with these."""
    for error in errors:
        tree.add_process_error(0, 3, error, NOW, "shutdown()")
    tree.tick(NOW)


def ended(path: Path, tree: LogTree, state: str = "Failed", cause: str = "") -> None:
    """Its driver has said how it ended."""
    journal = reopened(path)
    journal.end(state, "2026-01-01T00:00:02Z")
    journal.close()
    tree.finish(SUMMARY, NOW, cause=cause)


def reopened(path: Path) -> JournalWriter:
    journal = path / "journal.jsonl"
    return JournalWriter.reopen(journal, read_journal(journal))

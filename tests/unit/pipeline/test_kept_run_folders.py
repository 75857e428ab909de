"""Run folders of every version stay readable: those kept in tests/data were written by real step runs.

All are of a step over the files ``00`` to ``11``, one or six to a mini-batch; ``04`` and ``09`` failed at first.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from prs_dask.errors import OutputError
from prs_dask.output.journal import JournalState, iter_failures, read_journal
from prs_dask.output.order_file import RECORD_SIZE
from prs_dask.pipeline.resume import Earlier

KEPT = Path(__file__).parents[2] / "data" / "run_folders"
VERSIONS = sorted(path.name for path in KEPT.iterdir())
KINDS = ("bisected", "canceled", "completed", "completed-with-failures", "failed", "resumed", "running", "torn")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    return KEPT / str(request.param)


def journal(version: Path, kind: str) -> JournalState:
    return read_journal(version / kind / "journal.jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_its_settings_are_those_of_the_journal(tmp_path: Path, version: Path, kind: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(version / kind, folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "run_folder": str(folder)}))
    earlier = Earlier.read(folder, retry_failed=False)
    earlier.lock.release()
    counts = earlier.counts
    assert earlier.completed == kind.startswith(("bisected", "completed", "resumed"))
    assert counts.items == counts.succeeded_items + counts.failed_items
    assert earlier.rows == counts.succeeded_items
    assert earlier.header == (b"name\n" if earlier.rows else None)
    if earlier.journal.order_count:
        assert (folder / "order.records").stat().st_size >= earlier.journal.order_count * RECORD_SIZE
    assert earlier.record["inputs"][0]["format"] == "files"
    (folder / "run.json").write_text(json.dumps({**record, "run_folder": str(folder), "arguments": ["--other"]}))
    with pytest.raises(OutputError, match="changed by hand"):
        Earlier.read(folder)


def test_what_each_says(version: Path) -> None:
    completed = journal(version, "completed")
    assert (list(completed.finished), completed.end_state, completed.order_count) == (list(range(12)), "Completed", 12)
    assert completed.is_complete
    assert completed.counts == {"items": 12, "rows": 12, "attempts": 12}
    failed = journal(version, "failed")
    assert (failed.end_state, failed.failed_items) == ("Failed", 1)
    assert [failure.id for failure in iter_failures(version / "failed" / "journal.jsonl")] == [4]
    resumed = journal(version, "resumed")
    assert (list(resumed.finished), resumed.resumed, resumed.end_state) == (list(range(12)), 1, "Completed")
    assert (resumed.counts["attempts"], resumed.counts["rows"]) == (13, 12)
    assert not list(iter_failures(version / "resumed" / "journal.jsonl"))
    assert list(journal(version, "completed-with-failures").failed) == [4, 9]
    bisected = journal(version, "bisected")
    assert (list(bisected.failed), bisected.failed_items, bisected.counts["rows"]) == ([0, 1], 2, 10)
    parts = [failure.part for failure in iter_failures(version / "bisected" / "journal.jsonl")]
    assert [part[:3] for part in parts if part is not None] == [(0, 4, 5), (1, 3, 4)]


def test_one_that_was_killed_has_no_end_and_a_torn_line_does_not_count(version: Path) -> None:
    running, torn = journal(version, "running"), journal(version, "torn")
    assert (running.end_state, torn.end_state) == (None, None)
    assert 0 < len(torn.finished) < len(running.finished) < 12
    assert torn.output_length < running.output_length
    assert torn.valid_bytes < (version / "torn" / "journal.jsonl").stat().st_size
    canceled = journal(version, "canceled")
    assert (canceled.end_state, list(canceled.finished)) == ("Canceled", list(running.finished))

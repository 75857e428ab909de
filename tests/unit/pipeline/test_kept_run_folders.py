"""Run folders of every version stay readable: those kept in tests/data were written by real step runs.

All are of a step over the files ``00`` to ``11``, one or six to a mini-batch, or over a table of their names; ``04``
and ``09`` failed at first. `tests/end_to_end/test_kept_run_folders.py` resumes them.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from prs_dask.errors import OutputError
from prs_dask.mini_batches.json_form import from_line
from prs_dask.output.journal import JournalState, iter_failures, read_journal
from prs_dask.output.manifest import read_manifest, read_members
from prs_dask.output.order_file import OrderFile
from prs_dask.pipeline.recorded_run import RecordedRun
from prs_dask.pipeline.resume import Earlier
from tests.kept_run_folders.placing import KEPT, KEPT_PLACE, ROWS, placed

VERSIONS = sorted(path.name for path in KEPT.iterdir())
ENDED = ("bisected", "completed", "completed-with-failures", "resumed")
LEFT = ("canceled", "failed", "partly-bisected", "running", "table", "torn")
BISECTED = ("bisected", "partly-bisected")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    return KEPT / str(request.param)


def journal(version: Path, kind: str) -> JournalState:
    return read_journal(version / kind / "journal.jsonl")


def test_these_kinds_are_kept(version: Path) -> None:
    assert {path.name for path in version.iterdir()} == {*ENDED, *LEFT}


@pytest.mark.parametrize("kind", [*ENDED, *LEFT])
def test_every_kind_is_read_and_its_settings_are_those_of_the_journal(tmp_path: Path, version: Path, kind: str) -> None:
    folder = placed(version / kind, tmp_path)
    earlier = Earlier.read(folder, retry_failed=False)
    earlier.lock.release()
    counts = earlier.counts
    assert earlier.completed == (kind in ENDED)
    assert counts.items == counts.succeeded_items + counts.failed_items
    assert earlier.rows == counts.succeeded_items
    assert earlier.header == b"name\n"
    assert earlier.record["inputs"][0]["format"] == ("delimited" if kind == "table" else "files")
    (folder / "run.json").write_text(json.dumps({**earlier.record, "arguments": ["--other"]}))
    with pytest.raises(OutputError, match="changed by hand"):
        Earlier.read(folder)


@pytest.mark.parametrize("kind", [*ENDED, *LEFT])
def test_the_manifest_of_every_kind_tells_its_mini_batches_and_how_they_are_read(version: Path, kind: str) -> None:
    manifest = version / kind / "inputs.jsonl.gz"
    state = read_manifest(manifest)
    assert state.count == journal(version, kind).inputs.listed == (2 if kind in BISECTED else 12)
    assert (state.complete, state.was_complete) == (kind != "torn",) * 2
    assert (state.valid_bytes < manifest.stat().st_size) == (kind == "torn")
    members = list(read_members(manifest))
    assert [member.first for member in members] == ([0] if kind == "torn" else [0, state.count])
    assert members[0].at > 0
    every = [from_line(line) for line in members[0].lines]
    recorded = RecordedRun.read(version / kind)
    assert [recorded.mini_batch(number).mini_batch for number in range(state.count)] == every
    assert [reader["kind"] for reader in recorded.kept_readers()] == ["delimited" if kind == "table" else "files"]
    if kind == "table":
        expected = [f"{KEPT_PLACE}/table.csv bytes {at}..{at + 3}" for at in range(5, 41, 3)]
        assert [one.detail for one in every] == expected
    else:
        assert [Path(path).name for one in every for path in one.paths] == ROWS


@pytest.mark.parametrize("kind", ["completed", "failed", "resumed", "table"])
def test_the_order_of_rows_is_read_back(tmp_path: Path, version: Path, kind: str) -> None:
    state = journal(version, kind)
    (tmp_path / "order").write_bytes((version / kind / "order.records").read_bytes())
    order = OrderFile(tmp_path / "order", state.order_count)
    places = [(place.mini_batch, place.length) for place in order.sorted_places()]
    order.close()
    assert places == [(number, 3) for start, stop in state.finished.ranges() for number in range(start, stop)]


def test_every_kind_has_the_source_as_it_was_sent(version: Path) -> None:
    for kind in (*ENDED, *LEFT):
        with zipfile.ZipFile(version / kind / "source.zip") as archive:
            assert archive.namelist() == ["script.py"]


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


def test_parts_of_bisected_mini_batches_are_told(version: Path) -> None:
    bisected = journal(version, "bisected")
    assert (list(bisected.failed), bisected.failed_items, bisected.counts["rows"]) == ([0, 1], 2, 10)
    parts = [failure.part for failure in iter_failures(version / "bisected" / "journal.jsonl")]
    assert [part[:3] for part in parts if part is not None] == [(0, 4, 5), (1, 3, 4)]
    partly = journal(version, "partly-bisected")
    assert (partly.end_state, list(partly.finished), list(partly.failed)) == ("Failed", [], [])
    assert partly.bisected.keys() == {0, 1}
    assert partly.partly_done


def test_one_that_was_killed_has_no_end_and_a_torn_line_does_not_count(version: Path) -> None:
    running, torn = journal(version, "running"), journal(version, "torn")
    assert (running.end_state, torn.end_state) == (None, None)
    assert 0 < len(torn.finished) < len(running.finished) < 12
    assert torn.output_length < running.output_length
    assert torn.valid_bytes < (version / "torn" / "journal.jsonl").stat().st_size
    canceled = journal(version, "canceled")
    assert (canceled.end_state, list(canceled.finished)) == ("Canceled", list(running.finished))

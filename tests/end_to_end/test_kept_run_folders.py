"""Run folders that earlier versions have left are resumed to their end: every row once, what was finished not again."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from prs_dask.output.journal import iter_failures, read_journal
from tests.kept_run_folders.placing import KEPT, ROWS, placed


@pytest.mark.parametrize("kind", ["canceled", "failed", "partly-bisected", "running", "table", "torn"])
@pytest.mark.parametrize("version", sorted(path.name for path in KEPT.iterdir()))
def test_one_that_has_not_come_to_its_end_does_now(command, version: str, kind: str) -> None:
    folder = placed(KEPT / version / kind, command.folder)
    before = read_journal(folder / "journal.jsonl")
    partial = (folder / "output" / "parallel_run_step.txt.partial").read_bytes()[: before.output_length]
    code, out, err = command("resume", folder.name)
    assert (code, "12 of 12 items succeeded, 12 rows" in out) == (0, True), out + err
    output = folder / "output" / "parallel_run_step.txt"
    header, *rows = output.read_text().splitlines()
    in_order = json.loads((folder / "run.json").read_text())["settings"]["append_row_order"] == "input"
    assert (header, rows if in_order else sorted(rows)) == ("name", ROWS)
    assert in_order or output.read_bytes().startswith(partial)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    after = read_journal(folder / "journal.jsonl")
    assert (after.end_state, after.resumed, after.is_complete) == ("Completed", 1, True)
    assert after.counts["rows"] == 12
    assert not list(iter_failures(folder / "journal.jsonl"))
    with (folder / "logs/sys/job_report/processed_mini-batches.csv").open() as table:
        attempts = list(csv.DictReader(table))
    assert {attempt["Status"] for attempt in attempts} == {"Succeeded"}
    assert len(attempts) == after.counts["attempts"] - before.counts["attempts"]
    assert not {attempt["Mini-batch Id"] for attempt in attempts} & set(map(str, before.finished))


def test_one_whose_journal_has_no_whole_line_is_begun_anew(command) -> None:
    folder = placed(KEPT / "format-1" / "running", command.folder)
    shutil.rmtree(folder / "output")  # begun when the first line was on disk
    line = (folder / "journal.jsonl").read_bytes().splitlines()[0]
    (folder / "journal.jsonl").write_bytes(line)
    code, out, err = command("resume", folder.name)
    assert (code, "12 of 12 items succeeded, 12 rows" in out) == (0, True), out + err
    header, *rows = (folder / "output" / "parallel_run_step.txt").read_text().splitlines()
    assert (header, sorted(rows)) == ("name", ROWS)
    state = read_journal(folder / "journal.jsonl")
    assert (state.header["run"], state.resumed, state.counts["attempts"]) == (
        json.loads(b"{" + line[18:])["run"],
        0,
        12,
    )

"""What a report counts."""

from __future__ import annotations

import numpy as np

from prs_dask.attempts.records import Category
from prs_dask.logs.roll_up import RECORD
from prs_dask.report.contents import MOST_FAILED, gather
from prs_dask.report.run_reading import read_run
from prs_dask.report.writing import write_report


def test_every_attempt_of_a_large_step_run_is_counted(written_run):
    """100,000 of five processes: one in 50 is tried again, one in 200 has failed for good."""
    numbers = np.arange(100_000)
    records = np.zeros(len(numbers), RECORD)
    records["mini_batch"], records["attempt"], records["items"] = numbers, 1, 3
    records["started"], records["elapsed"], records["run"] = 1_767_225_600.0 + numbers * 0.01, 0.01, 0.005
    records["category"] = np.where((numbers % 50 == 1) | (numbers % 200 == 7), Category.EXCEPTION, 0)
    records["final"] = numbers % 50 != 1
    records["results"] = np.where(records["category"], 0, 3)
    for process, some in enumerate(np.split(records, 5)):
        written_run.tree.add_attempts(process % 2, process, some.tobytes())
    contents = gather(read_run(written_run.folder.path))
    roll_up, total = contents.attempts.roll_up, contents.attempts.roll_up.total
    assert (total.succeeded, total.retried, total.failed) == (97_500, 2000, 500)
    assert (total.items, total.failed_items) == (3 * 98_000, 3 * 500)
    assert {sums.attempts for sums in roll_up.processes.values()} == {20_000}
    assert [sums.attempts for sums in roll_up.nodes.values()] == [60_000, 40_000]
    assert [int(times.counts.sum()) for times in roll_up.run_times] == [97_500, 2500]
    kinds = (roll_up.SUCCEEDED, roll_up.RETRIED, roll_up.FAILED, roll_up.ITEMS)
    assert [roll_up.over_time.amounts(kind).sum() for kind in kinds] == [97_500, 2000, 500, 3 * 98_000]
    assert (contents.attempts.failed_count, len(contents.attempts.failed)) == (500, MOST_FAILED)
    assert contents.attempts.unreadable == 0
    page = write_report(written_run.folder.path)
    assert "Of 97,500 attempts that succeeded" in page.read_text()
    assert page.stat().st_size < 5_000_000

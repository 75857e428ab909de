"""Second attempts on a cluster with several nodes: a slow one is started again elsewhere, not beside itself."""

from __future__ import annotations

import csv
import io
from collections import Counter

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HANGS_ON_ITS_FIRST_NODE = """
import os, socket, time
from pathlib import Path

def run(mini_batch):
    name, host = Path(mini_batch[0]).name, socket.gethostname()
    if name == "007":
        try:
            os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
            time.sleep(100)
        except FileExistsError:
            pass
    time.sleep(0.02)
    return [f"{name} {host}"]
"""


def test_a_slow_attempt_is_started_again_on_another_node_where_its_own_has_an_idle_process_too(apart, tmp_path):
    ours = apart(4, nodes=2)
    data = tmp_path / "data"
    data.mkdir()
    names = [f"{number:03d}" for number in range(60)]
    for name in names:
        (data / name).touch()
    script = tmp_path / "score.py"
    script.write_text(f"MARK = {str(tmp_path / 'mark')!r}\n{HANGS_ON_ITS_FIRST_NODE}")
    config = ParallelRunConfig(
        entry_script=script,
        mini_batch_size=1,
        error_threshold=0,
        output_action="append_row",
        node_count=2,
        speculative_attempts=True,
    )
    with ours.client():
        step = ParallelRunStep("second", config, FileDataset.from_files(data), output=tmp_path / "out")
        run = step.submit(run_folder=tmp_path / "run", compute_target=ours.address)
        assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    rows = [row.split() for row in run.output_file.read_text().splitlines()]
    assert Counter(name for name, _ in rows) == Counter(names)
    table = (run.log_dir / "sys/job_report/processed_mini-batches.csv").read_text()
    attempts = [row for row in csv.DictReader(io.StringIO(table)) if row["Mini-batch Id"] == "7"]
    assert [row["Status"] for row in attempts] == ["Overtaken", "Succeeded"]
    assert {row["Process"].partition("/")[0] for row in attempts} == {"0", "1"}

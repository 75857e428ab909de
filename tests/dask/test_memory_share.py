"""What a process may use where nobody has said it: its share of the memory that its Dask worker has."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from distributed import Client, LocalCluster

GROWS = """
def run(mini_batch):
    kept = []
    while Path(mini_batch[0]).name == "00003":
        kept.append(b"x" * (8 << 20))
    time.sleep(0.01)
    return [f"{Path(path).name} - {os.getpid()} 0" for path in mini_batch]
"""


@pytest.mark.timeout(120)
def test_a_process_above_its_share_of_the_workers_limit_is_killed_and_the_worker_lives(job, no_leaks):
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            memory_limit="800MiB",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        workers = client.run(os.getpid)
        submitted = job(client, 40, more=GROWS, error_threshold=1, run_max_try=2)
        assert submitted.run.wait_for_completion(timeout_seconds=60) == "Completed"
        assert client.run(os.getpid) == workers
    [failure] = submitted.run.failed_items()
    assert (failure.id, failure.attempts, failure.category) == (3, 2, "out of memory")
    found = re.search(r"used (\d+) MiB, more than the 400 MiB it may have", failure.message)
    assert found, failure.message
    assert int(found[1]) >= 400
    rows = submitted.run.output_file.read_text().splitlines()
    assert Counter(row.split()[0] for row in rows) == Counter(set(submitted.names) - {"00003"})
    table = (submitted.run.log_dir / "sys" / "job_report" / "processed_mini-batches.csv").read_text()
    assert table.count("out of memory") == 2

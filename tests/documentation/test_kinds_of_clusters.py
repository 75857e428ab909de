"""What the page on running clusters says of dask-jobqueue makes the jobs that it says."""

from __future__ import annotations

import re
from pathlib import Path

import dask_jobqueue
import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/use-a-running-cluster.md"


def test_the_job_of_the_slurm_cluster_is_one_worker_of_eight_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"<!-- test: slurm -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    asked = {}
    made = dask_jobqueue.SLURMCluster

    def on_loopback(**settings: object) -> dask_jobqueue.SLURMCluster:
        options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        return made(**settings, scheduler_options=options)

    monkeypatch.setattr(dask_jobqueue, "SLURMCluster", on_loopback)
    monkeypatch.setattr(made, "adapt", lambda self, **how: asked.update(how))  # there is no queue here
    names: dict[str, dask_jobqueue.SLURMCluster] = {}
    exec(found[1], names)
    with names["cluster"] as cluster:
        job = cluster.job_script()
    assert asked == {"maximum_jobs": 10, "target_duration": "120s"}
    assert "#SBATCH -p batch\n" in job
    assert "#SBATCH --cpus-per-task=8\n" in job
    assert "#SBATCH -t 04:00:00\n" in job
    assert re.search(r"^source ~/envs/scoring/bin/activate\n.* --nthreads 8 .* --nanny ", job, re.MULTILINE)
    assert "--lifetime 230m --lifetime-stagger 5m" in job

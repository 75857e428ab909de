"""What the page on running clusters says of dask-jobqueue makes the jobs that it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/how-to/use-a-running-cluster.md"

PROGRAM = """
import json

import dask_jobqueue

asked = {}


class OnLoopback(dask_jobqueue.SLURMCluster):
    def __init__(self, **settings):
        options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        super().__init__(**settings, scheduler_options=options)

    def adapt(self, **how):  # there is no queue here
        asked.update(how)


dask_jobqueue.SLURMCluster = OnLoopback
LINES
with cluster:
    print(json.dumps([asked, cluster.job_script()]))
"""


def test_the_job_of_the_slurm_cluster_is_one_worker_of_eight_threads() -> None:
    """In a process of its own: the package takes the handlers of signals."""
    found = re.search(r"<!-- test: slurm -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("LINES", found[1])], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    asked, job = json.loads(done.stdout.splitlines()[-1])
    assert asked == {"maximum_jobs": 10, "target_duration": "120s"}
    assert "#SBATCH -p batch\n" in job
    assert "#SBATCH --cpus-per-task=8\n" in job
    assert "#SBATCH -t 04:00:00\n" in job
    assert re.search(r"^source ~/envs/scoring/bin/activate\n.* --nthreads 8 .* --nanny ", job, re.MULTILINE)
    assert "--lifetime 230m --lifetime-stagger 5m" in job

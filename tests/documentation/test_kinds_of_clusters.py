"""What the page on running clusters says of dask-jobqueue and dask-kubernetes makes the jobs and pods that it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import pip_packages
from kubernetes_api import FakeKubernetes

PAGE = Path(__file__).parents[2] / "docs/how-to/use-a-running-cluster.md"

SLURM = """
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

KUBERNETES = """
import json
import sys

sys.path.insert(0, sys.argv[1])
from distributed import Client

from prs_dask import FileDataset, parallel_run

LINES
with cluster, Client(cluster) as client:
    client.wait_for_workers(2, timeout=60)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    step_run = parallel_run(
        entry_script="script.py",
        inputs=[FileDataset.from_files("items")],
        output="answers",
        output_action="append_row",
        compute_target=cluster,
    )
print()  # a frame that it has drawn stands in the line
print(json.dumps([sorted((one["name"], one["nthreads"]) for one in workers), step_run.summary().rows]))
"""

DASK_KUBERNETES = (
    "dask-kubernetes==2026.3.0",
    "anyio==4.16.0",
    "cachetools==8.0.1",
    "exceptiongroup==1.3.1",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "httpx-ws==0.9.0",
    "kr8s==0.20.15",
    "python-box==8.0.0",
    "python-jsonpath==2.2.2",
    "wsproto==1.3.2",
)
"""What its import needs besides what is here. Its other requirements, of the operator, change versions of what is."""


def done(program: str, name: str, folder: Path, *arguments: str, **environment: str) -> Any:
    """What a program prints in which LINES are those of the page; in a process of its own, for dask-jobqueue takes the
    handlers of signals."""
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    ended = subprocess.run(
        [sys.executable, "-c", program.replace("LINES", found[1]), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=folder,
        env=os.environ | environment,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_the_job_of_the_slurm_cluster_is_one_worker_of_eight_threads(tmp_path: Path) -> None:
    asked, job = done(SLURM, "slurm", tmp_path)
    assert asked == {"maximum_jobs": 10, "target_duration": "120s"}
    assert "#SBATCH -p batch\n" in job
    assert "#SBATCH --cpus-per-task=8\n" in job
    assert "#SBATCH -t 04:00:00\n" in job
    assert re.search(r"^source ~/envs/scoring/bin/activate\n.* --nthreads 8 .* --nanny ", job, re.MULTILINE)
    assert "--lifetime 230m --lifetime-stagger 5m" in job


@pytest.fixture
def kubernetes(tmp_path: Path, no_leaks: None) -> Iterator[FakeKubernetes]:
    kubernetes = FakeKubernetes(pip_packages(*DASK_KUBERNETES), tmp_path)
    yield kubernetes
    kubernetes.close()


def test_the_pods_of_the_kubernetes_cluster_run_a_step(kubernetes: FakeKubernetes, tmp_path: Path) -> None:
    """Its objects fit the operator's definitions, and its pods' commands, which are started here, are Dask's."""
    (tmp_path / "script.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "items").mkdir()
    for number in range(8):
        (tmp_path / "items" / str(number)).touch()
    package = str(pip_packages(*DASK_KUBERNETES))
    workers, rows = done(KUBERNETES, "kubernetes", tmp_path, package, **kubernetes.environment)
    assert workers == [["scoring-worker-0", 4], ["scoring-worker-1", 4]]
    assert rows == 8
    bounds = kubernetes.asked["DaskAutoscaler"]["spec"]
    assert (bounds["minimum"], bounds["maximum"]) == (0, 10)
    size = {"cpu": "4", "memory": "8Gi"}
    for pod in (kubernetes.asked["DaskCluster"]["spec"][of] for of in ("worker", "scheduler")):
        [container] = pod["spec"]["containers"]
        assert container["image"] == "registry.example.com/scoring:1"
        assert container["resources"] == {"requests": size, "limits": size}


@pytest.mark.parametrize(
    ("given", "told"), [({"maximum": "10"}, "'10' is not of type 'integer'"), ({"most": 10}, "'most' was unexpected")]
)
def test_what_does_not_fit_the_operators_definitions_is_refused(
    kubernetes: FakeKubernetes, given: dict[str, Any], told: str
) -> None:
    """What the test above relies on."""
    spec = {"cluster": "scoring", "minimum": 0, "maximum": 10}
    folder = "/apis/kubernetes.dask.org/v1/namespaces/ours/daskautoscalers"
    made = {"kind": "DaskAutoscaler", "metadata": {"name": "scoring"}, "spec": spec}
    assert kubernetes.answer("POST", folder, made)[0] == 201
    status, answer = kubernetes.answer("POST", folder, {**made, "spec": spec | given})
    assert status == 422
    assert told in answer["message"]
    assert kubernetes.asked["DaskAutoscaler"]["spec"] == spec

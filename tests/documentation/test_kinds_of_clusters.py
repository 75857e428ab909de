"""What the page on running clusters says of dask-jobqueue and dask-kubernetes makes the jobs and pods that it says."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from distributed import Client
from installing import pip_packages

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
from unittest.mock import create_autospec

sys.path.insert(0, sys.argv[1])
import dask_kubernetes.operator

# There is no Kubernetes here. Arguments that the real one does not take are refused.
made = dask_kubernetes.operator.KubeCluster = create_autospec(dask_kubernetes.operator.KubeCluster)
LINES
print(json.dumps([made.call_args.kwargs, cluster.adapt.call_args.kwargs]))
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

DEFINITION = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"


def done(program: str, name: str, *arguments: str) -> Any:
    """What a program prints in which LINES are those of the page; in a process of its own, for dask-jobqueue takes the
    handlers of signals."""
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    ended = subprocess.run(
        [sys.executable, "-c", program.replace("LINES", found[1]), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_the_job_of_the_slurm_cluster_is_one_worker_of_eight_threads() -> None:
    asked, job = done(SLURM, "slurm")
    assert asked == {"maximum_jobs": 10, "target_duration": "120s"}
    assert "#SBATCH -p batch\n" in job
    assert "#SBATCH --cpus-per-task=8\n" in job
    assert "#SBATCH -t 04:00:00\n" in job
    assert re.search(r"^source ~/envs/scoring/bin/activate\n.* --nthreads 8 .* --nanny ", job, re.MULTILINE)
    assert "--lifetime 230m --lifetime-stagger 5m" in job


@pytest.fixture(scope="module")
def dask_kubernetes() -> Path:
    return pip_packages(*DASK_KUBERNETES)


@pytest.fixture(scope="module")
def kubernetes(dask_kubernetes: Path) -> dict[str, Any]:
    """What the page's cluster is made of."""
    made, asked = done(KUBERNETES, "kubernetes", str(dask_kubernetes))
    assert asked == {"minimum": 0, "maximum": 10}
    assert list(made) == ["custom_cluster_spec"]
    return dict(made["custom_cluster_spec"])


def container(cluster: dict[str, Any], of: str) -> dict[str, Any]:
    [found] = cluster["spec"][of]["spec"]["containers"]
    return dict(found)


def test_pods_have_the_image_and_what_was_asked_for(kubernetes: dict[str, Any]) -> None:
    assert kubernetes["metadata"] == {"name": "scoring"}
    assert kubernetes["spec"]["worker"]["replicas"] == 2
    size = {"cpu": "4", "memory": "8Gi"}
    for of in ("worker", "scheduler"):
        assert container(kubernetes, of)["image"] == "registry.example.com/scoring:1"
        assert container(kubernetes, of)["resources"] == {"requests": size, "limits": size}


def test_the_operator_takes_the_cluster(kubernetes: dict[str, Any], dask_kubernetes: Path) -> None:
    """It fits the definition that the operator gives Kubernetes."""
    [version] = yaml.safe_load((dask_kubernetes / DEFINITION).read_text())["spec"]["versions"]
    assert kubernetes["apiVersion"] == f"kubernetes.dask.org/{version['name']}"
    schema = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    jsonschema.validate(without_nulls(kubernetes["spec"]), schema)
    misspelt = copy.deepcopy(kubernetes["spec"])
    misspelt["worker"]["spec"]["containers"][0]["arg"] = []
    with pytest.raises(jsonschema.ValidationError, match="'arg' was unexpected"):
        jsonschema.validate(without_nulls(misspelt), schema)


def closed(schema: Any) -> Any:
    """The schema, that refuses fields of which it does not know; Kubernetes would drop them."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


def without_nulls(value: Any) -> Any:
    """As Kubernetes takes it: a field that is null is one that is not there."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return value


def test_the_commands_of_the_pods_are_dasks_and_a_worker_has_four_threads(
    kubernetes: dict[str, Any], tmp_path: Path, no_leaks: None
) -> None:
    """They are started here as Kubernetes and the operator do it, on ports of their own."""
    file = tmp_path / "scheduler.json"
    free = ["--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    with started([*container(kubernetes, "scheduler")["args"], *free], tmp_path):
        address = wait_for(lambda: json.loads(file.read_text())["address"])
        command = [text.replace("$(DASK_WORKER_NAME)", "worker-1") for text in container(kubernetes, "worker")["args"]]
        free = ["--dashboard-address", "127.0.0.1:0", "--local-directory", str(tmp_path)]
        with started([*command, *free], tmp_path, DASK_SCHEDULER_ADDRESS=address), Client(address) as client:
            client.wait_for_workers(1, timeout=30)
            [worker] = client.scheduler_info()["workers"].values()
    assert (worker["name"], worker["nthreads"]) == ("worker-1", 4)


@contextlib.contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Iterator[None]:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"PATH": here} | environment
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(value: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while True:
        try:
            return value()
        except (OSError, ValueError):  # not there, not written whole
            if time.monotonic() > end:
                raise
            time.sleep(0.05)

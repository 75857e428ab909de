"""``compute_target="cuda"`` on a machine without GPUs: NVML is a stand-in, and dask-cuda where it is not installed.

Each run is a process of its own, as the stand-ins have to come before what is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parents[1] / "fakes"
ROOT = FAKES.parents[1]
UNSET = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
IS_INSTALLED = importlib.util.find_spec("dask_cuda") is not None

SCRIPT = """
import os, time
from pathlib import Path
from prs_dask import EntryScript

SEEN = os.environ.get("CUDA_VISIBLE_DEVICES", "unset") + ":" + os.environ["AZ_BATCHAI_GPU_COUNT_FOUND"]


def run(mini_batch):
    name = EntryScript().agent_name
    met = Path(os.environ["MET"])
    (met / name).touch()
    while len(os.listdir(met)) < int(os.environ["COUNT"]):
        time.sleep(0.01)
    return [f"{name}={SEEN}"]
"""

STEP = """
import json, os, sys
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

if __name__ == "__main__":
    settings, count = json.loads(sys.argv[1]), sys.argv[2]
    os.mkdir("met")
    os.mkdir("items")
    for number in range(4 * int(count)):
        open(f"items/{number}", "w").close()
    variables = {"MET": os.path.abspath("met"), "COUNT": count, **settings.pop("environment_variables", {})}
    config = ParallelRunConfig(
        entry_script="script.py", output_action="append_row", error_threshold=-1, mini_batch_size=1,
        environment_variables=variables, **settings,
    )
    step = ParallelRunStep("gpus", config, FileDataset.from_files("items"), "out")
    step_run = step.submit(compute_target="cuda", run_folder="run")
    step_run.wait_for_completion(timeout_seconds=60)
    print(json.dumps(step_run.output_file.read_text().split()))
"""

CLUSTER = """
import json, os
import dask, psutil
from prs_dask.clusters import open_cluster


def worker():
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("OMP_NUM_THREADS"), os.getcwd()


def listens():
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    connections = [one for process in processes for one in process.net_connections(kind="inet")]
    return sorted({(one.laddr.ip, one.laddr.port == 8787) for one in connections if one.status == "LISTEN"})


if __name__ == "__main__":
    before = dict(os.environ)
    with open_cluster("cuda", processes_per_gpu=3) as opened:
        info = opened.client.scheduler_info(n_workers=-1)["workers"]
        found = {
            "threads": [one["nthreads"] for one in info.values()],
            "workers": sorted(opened.client.run(worker).values()),
            "listens": listens(),
            "temporary": os.listdir(os.environ["TMPDIR"]),
        }
    changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
    found["changed"] = sorted(changed - {"__DASK_PARENT_PID"})  # Dask's, for the titles of processes
    found["ucx"] = dask.config.get("distributed-ucxx", None)
    found["left"] = os.listdir(os.environ["TMPDIR"])
    children = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    found["children"] = [line for line in children if "resource_tracker" not in line]  # Python's own, until the end
    print(json.dumps(found))
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program where NVML tells of two GPUs."""
    paths = [FAKES / "nvml", ROOT, *([] if IS_INSTALLED else [FAKES])]
    (tmp_path / "tmp").mkdir()
    environment = {
        **{
            name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        },
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "TMPDIR": str(tmp_path / "tmp"),
    }

    def run(text: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "program.py").write_text(text)
        (tmp_path / "script.py").write_text(SCRIPT)
        return subprocess.run(
            [sys.executable, "program.py", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (
            {"processes_per_gpu": 2, "process_count_per_node": 5, "surplus_gpu_processes": "hide"},
            ["0:2", "0:2", "1:2", "1:2", ":2"],
        ),
        ({"process_count_per_node": 1, "environment_variables": {"CUDA_VISIBLE_DEVICES": "1"}}, ["1:1"]),
    ],
    ids=["two processes share a GPU, one has none", "one GPU of its own choice"],
)
def test_processes_keep_to_the_gpu_of_their_worker(program: Any, settings: dict[str, Any], found: list[str]) -> None:
    ended = program(STEP, json.dumps(settings), str(len(found)))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    rows = json.loads(ended.stdout)
    assert len(rows) == 4 * len(found)
    processes = dict(row.split("=") for row in rows)
    assert sorted(processes) == [f"process{number:03d}" for number in range(len(found))]
    assert sorted(processes.values()) == sorted(found)


def test_it_is_as_quiet_as_the_local_target(program: Any, tmp_path: Path) -> None:
    ended = program(CLUSTER)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    found = json.loads(ended.stdout)
    assert found["threads"] == [3, 3]
    assert [one[:2] for one in found["workers"]] == [["0,1", "1"], ["1,0", "1"]]
    assert all(one[2].startswith(str(tmp_path)) for one in found["workers"])
    assert found["listens"] == [["127.0.0.1", False]]
    assert len(found["temporary"]) == 1
    assert (found["changed"], found["ucx"], found["left"], found["children"]) == ([], None, [], [])


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FAKE_GPUS": "0"}, "the NVIDIA driver tells of none; see what  nvidia-smi -L  says"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES=-1 names none; unset it, or name some, such as 0,1"),
    ],
)
def test_without_a_gpu_it_says_so(program: Any, variables: dict[str, str], words: str) -> None:
    ended = program(STEP, "{}", "1", **variables)
    assert ended.returncode == 1
    assert f"'cuda' needs an NVIDIA GPU: {words}; or run without: compute_target=\"local\"\n" in ended.stderr

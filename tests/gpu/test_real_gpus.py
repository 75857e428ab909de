"""What only a machine with an NVIDIA GPU can show: a model on it, whose it is, and that it is free after a kill.

    pip install 'prs-dask[gpu]' torch      # or cupy-cuda12x; dask-cuda where the cuda target is to be tried, too
    pytest tests/gpu

The job's scripts use PyTorch or CuPy, whichever is there. The tests' own process never touches a GPU.
"""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun
from prs_dask.clusters.visible_gpus import seen_gpus

SEEN = seen_gpus()
GPUS = SEEN.gpus
LIBRARY = next((name for name in ("torch", "cupy") if importlib.util.find_spec(name)), "")
WHY_NOT = (
    SEEN.missed
    or ("" if GPUS else "nvidia-ml-py tells of no NVIDIA GPU here")
    or ("" if LIBRARY else "neither PyTorch nor CuPy is installed")
)
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300), pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

HELD = 2 << 30
"""Bytes that a process takes of its GPU."""

USE = {
    "torch": """
import torch

def init():
    global model
    model = torch.nn.Linear(4, 1, bias=False).to("cuda")
    torch.nn.init.ones_(model.weight)

def answer():
    return float(model(torch.arange(4.0, device="cuda"))[0])

def devices():
    return torch.cuda.device_count()

def hold(size):
    global held
    held = torch.ones(size, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
""",
    "cupy": """
import cupy

def init():
    global weights
    weights = cupy.ones(4)

def answer():
    return float(weights @ cupy.arange(4.0))

def devices():
    return cupy.cuda.runtime.getDeviceCount()

def hold(size):
    global held
    held = cupy.ones(size, dtype="uint8")
    cupy.cuda.Device().synchronize()
""",
}

ON_A_GPU = """
import os, time
from prs_dask import EntryScript

SEEN = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")

def run(mini_batch):
    met = os.environ["MET"]
    open(os.path.join(met, EntryScript().agent_name), "w").close()
    while len(os.listdir(met)) < int(os.environ["COUNT"]):
        time.sleep(0.05)
    return [f"{EntryScript().agent_name} {SEEN} {devices()} {answer()}"]
"""

STUCK = """
import os, re, time
import pynvml
from prs_dask import EntryScript

pynvml.nvmlInit()
USED = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used

def run(mini_batch):
    if EntryScript().agent_name == "process000":
        hold(HELD)
        re.match(r"(a+)+b", "a" * 100)  # holds the GIL for ever
    return [f"{EntryScript().agent_name} {USED} {answer()}"]
"""


def job(folder: Path, script: str, items: int, target: str = "local", **settings: Any) -> StepRun:
    (folder / "met").mkdir()
    (folder / "items").mkdir()
    for number in range(items):
        (folder / f"items/{number}").touch()
    (folder / "score.py").write_text(script)
    variables = {
        "MET": str(folder / "met"),
        "COUNT": str(settings.pop("count", 1)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # NVML's
        **settings.pop("environment_variables", {}),
    }
    arguments = settings.pop("arguments", None)
    config = ParallelRunConfig(
        **{
            "entry_script": folder / "score.py",
            "output_action": "append_row",
            "error_threshold": 0,
            "mini_batch_size": 1,
            "run_invocation_timeout": 120,
            "environment_variables": variables,
            **settings,
        }
    )
    step = ParallelRunStep(
        "gpus", config, FileDataset.from_files(folder / "items"), folder / "out", arguments=arguments
    )
    run = step.submit(run_folder=folder / "run", compute_target=target)
    assert run.wait_for_completion(timeout_seconds=240, raise_on_error=False) == "Completed", run.error
    return run


def rows(run: StepRun) -> list[list[str]]:
    assert run.output_file is not None
    return [line.split(" ") for line in run.output_file.read_text().splitlines()]


def used_memory() -> int:
    """Bytes in use on the first GPU, by whomever."""
    import pynvml

    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    finally:
        pynvml.nvmlShutdown()


@pytest.mark.parametrize("target", ["local", "cuda"])
def test_each_gpu_has_one_process_that_sees_no_other(target: str, tmp_path: Path) -> None:
    if target == "cuda" and importlib.util.find_spec("dask_cuda") is None:
        pytest.skip("dask-cuda is not installed; it wants a Dask of its own")
    run = job(tmp_path, USE[LIBRARY] + ON_A_GPU, 4 * len(GPUS), target, count=len(GPUS))
    found = {process: (gpu, devices, answer) for process, gpu, devices, answer in rows(run)}
    assert sorted(found.values()) == sorted((gpu, "1", "6.0") for gpu in GPUS)


def test_two_processes_share_a_gpu_where_they_may(tmp_path: Path) -> None:
    run = job(
        tmp_path,
        USE[LIBRARY] + ON_A_GPU,
        8,
        count=2,
        processes_per_gpu=2,
        environment_variables={"CUDA_VISIBLE_DEVICES": GPUS[0]},
    )
    found = {process: tuple(rest) for process, *rest in rows(run)}
    assert found == {f"process{number:03d}": (GPUS[0], "1", "6.0") for number in (0, 1)}


@pytest.mark.skipif(bool(GPUS) and GPUS[0] != "0", reason="the first GPU that may be used is not NVML's first")
def test_the_memory_of_a_stuck_process_is_free_before_the_next_one_begins(tmp_path: Path) -> None:
    before = used_memory()
    run = job(
        tmp_path,
        USE[LIBRARY] + STUCK.replace("HELD", str(HELD)),
        3,
        run_invocation_timeout=20,
        environment_variables={"CUDA_VISIBLE_DEVICES": "0"},
        arguments=["--resource_monitor_interval", "1"],
    )
    found = rows(run)
    assert {process for process, _, _ in found} == {"process001"}
    assert {answer for _, _, answer in found} == {"6.0"}
    assert max(int(used) for _, used, _ in found) < before + HELD / 2
    with (run.log_dir / "perf/0/node_resource_usage.csv").open(newline="") as file:
        samples = [float(row["GPU 0 Memory Used (MB)"]) for row in csv.DictReader(file)]
    assert max(samples) > (before + HELD) / (1 << 20) - 1, "the monitor has seen what it held"
    until = time.monotonic() + 10
    while used_memory() > before + HELD / 8 and time.monotonic() < until:
        time.sleep(0.1)
    assert used_memory() <= before + HELD / 8

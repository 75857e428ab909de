"""Environment and driver are asked; a driver that cannot tell is told of, where there are devices."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.attempts.gpus import ToldGpus
from prs_dask.clusters import visible_gpus
from prs_dask.clusters.visible_gpus import SeenGpus, seen_gpus


class NoPermission(Exception):
    """What NVML raises for a GPU that a device cgroup keeps from this process."""


class NotFound(Exception):
    """What NVML raises for a MIG instance that there is not."""


def nvml(*devices: Any, error: Exception | None = None, **instances: list[str | Exception]) -> Any:
    """A stand-in for ``pynvml``: names of GPUs, and of their MIG instances; an error in place of one is raised."""
    calls: list[str] = []

    def named(name: Any) -> Any:
        if isinstance(name, Exception):
            raise name
        return name

    def count() -> int:
        calls.append("count")
        return named(error) if error else len(devices)

    return SimpleNamespace(
        NVMLError_NoPermission=NoPermission,
        NVMLError_NotFound=NotFound,
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=count,
        nvmlDeviceGetHandleByIndex=lambda index: named(devices[index]),
        nvmlDeviceGetUUID=lambda handle: named(None if handle == "nameless" else handle) or named(OSError()),
        nvmlDeviceGetMaxMigDeviceCount=lambda handle: len(instances[handle]),
        nvmlDeviceGetMigDeviceHandleByIndex=lambda handle, index: named(instances[handle][index]),
        calls=calls,
    )


@pytest.fixture
def folder_of_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(visible_gpus, "_DEVICES", tmp_path)
    return tmp_path


def test_the_list_of_the_environment_decides_and_the_driver_tells_what_these_are() -> None:
    library = nvml("GPU-a", "GPU-b")
    seen = seen_gpus({"CUDA_VISIBLE_DEVICES": "1"}, library)
    assert seen == SeenGpus(ToldGpus(("1",), ("GPU-a", "GPU-b")))
    assert seen.gpus == ("1",)
    assert seen_gpus({"CUDA_VISIBLE_DEVICES": ""}, library).gpus == ()


def test_without_a_list_there_are_all_that_the_driver_tells_of() -> None:
    library = nvml("GPU-a", "GPU-b")
    seen = seen_gpus({}, library)
    assert seen == SeenGpus(ToldGpus(None, ("GPU-a", "GPU-b")))
    assert seen.gpus == ("0", "1")
    assert library.calls == ["init", "count", "shutdown"]


def test_those_of_other_jobs_have_no_index_and_those_without_a_name_have_one() -> None:
    seen = seen_gpus({}, nvml(NoPermission(), "GPU-b", "nameless", NoPermission(), "GPU-e"))
    assert seen.told.devices == ("GPU-b", "1", "GPU-e")


def test_mig_instances_are_known_by_name() -> None:
    library = nvml("GPU-a", "GPU-b", **{"GPU-b": ["MIG-1", NotFound(), "MIG-2"]})
    assert seen_gpus({}, library).told == ToldGpus(None, ("GPU-a", "GPU-b"), ("MIG-1", "MIG-2"))


@pytest.mark.parametrize("devices", [["nvidia0", "nvidiactl"], ["nvidiactl", "null"]])
@pytest.mark.parametrize("environment", [{}, {"CUDA_VISIBLE_DEVICES": "1"}])
def test_a_driver_that_cannot_tell_has_none_and_that_is_told_where_there_are_devices(
    devices: list[str], environment: dict[str, str], folder_of_devices: Path
) -> None:
    for name in devices:
        (folder_of_devices / name).touch()
    library = nvml(error=RuntimeError("driver/library version mismatch"))
    seen = seen_gpus(environment, library)
    assert seen.gpus == tuple(environment.values()), "a list is believed"
    assert library.calls == ["init", "count", "shutdown"]
    words = f"there is {folder_of_devices}/nvidia0, but the driver does not tell of GPUs: RuntimeError: driver/library"
    assert seen.missed.startswith(words) if "nvidia0" in devices else seen.missed == ""


@pytest.mark.parametrize("devices", [["nvidia0", "nvidiactl"], ["nvidiactl", "null"]])
def test_gpus_that_nobody_counts_are_told(
    devices: list[str], folder_of_devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in devices:
        (folder_of_devices / name).touch()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    seen = seen_gpus({})
    assert seen.gpus == ()
    told = f"there is {folder_of_devices}/nvidia0, but GPUs are not counted, because nvidia-ml-py is not installed"
    assert seen.missed.startswith(told) if "nvidia0" in devices else seen.missed == ""
    assert seen_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == SeenGpus(ToldGpus(("1",))), "nobody needs to count them"

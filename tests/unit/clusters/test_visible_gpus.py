"""The environment comes first, then the driver; who cannot tell has none."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.clusters import visible_gpus
from prs_dask.clusters.visible_gpus import SeenGpus, seen_gpus


def nvml(count: Any) -> Any:
    """A stand-in for ``pynvml``; ``count`` may be an error that it raises."""
    calls: list[str] = []

    def init() -> None:
        calls.append("init")

    def devices() -> int:
        if isinstance(count, Exception):
            raise count
        return int(count)

    def shutdown() -> None:
        calls.append("shutdown")

    return SimpleNamespace(nvmlInit=init, nvmlDeviceGetCount=devices, nvmlShutdown=shutdown, calls=calls)


def test_the_list_of_the_environment_is_believed_and_the_driver_not_asked() -> None:
    library = nvml(8)
    assert seen_gpus({"CUDA_VISIBLE_DEVICES": "3,1"}, library) == SeenGpus(("3", "1"))
    assert seen_gpus({"CUDA_VISIBLE_DEVICES": ""}, library) == SeenGpus(())
    assert library.calls == []


def test_without_a_list_the_driver_counts_them() -> None:
    library = nvml(2)
    assert seen_gpus({}, library) == SeenGpus(("0", "1"))
    assert library.calls == ["init", "shutdown"]


def test_a_driver_that_cannot_tell_has_none() -> None:
    library = nvml(RuntimeError("driver/library version mismatch"))
    assert seen_gpus({}, library) == SeenGpus(())
    assert library.calls == ["init", "shutdown"]


@pytest.mark.parametrize("devices", [["nvidia0", "nvidiactl"], ["nvidiactl", "null"]])
def test_gpus_that_nobody_counts_are_told(devices: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in devices:
        (tmp_path / name).touch()
    monkeypatch.setattr(visible_gpus, "_DEVICES", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus, missed = seen_gpus({})
    assert gpus == ()
    told = f"there is {tmp_path}/nvidia0, but GPUs are not counted, because nvidia-ml-py is not installed"
    assert missed.startswith(told) if "nvidia0" in devices else missed == ""

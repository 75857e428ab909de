"""Stands for nvidia-ml-py on a machine without GPUs: so many as FAKE_GPUS says, 2 by default, each with 80 GiB.

FAKE_FIRST_GPU: the number of the first, which stands in its UUID, where others of the machine are kept from us.

It answers what prs_dask, distributed and dask-cuda ask for. Its folder has to come first on the path.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE = 0, 1


class NVMLError(Exception):
    """What every function may raise."""


class NVMLError_LibraryNotFound(NVMLError): ...


class NVMLError_DriverNotLoaded(NVMLError): ...


class NVMLError_Unknown(NVMLError): ...


class NVMLError_NotSupported(NVMLError): ...


class NVMLError_NotFound(NVMLError): ...


class NVMLError_NoPermission(NVMLError): ...


def nvmlInit() -> None: ...


def nvmlShutdown() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return "580.0"


def nvmlDeviceGetCount() -> int:
    return int(os.environ.get("FAKE_GPUS", "2"))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    if not 0 <= int(index) < nvmlDeviceGetCount():
        raise NVMLError("Invalid Argument")
    return int(index)


def nvmlDeviceGetHandleByUUID(uuid: bytes | str) -> int:
    text = uuid.decode() if isinstance(uuid, bytes) else uuid
    return nvmlDeviceGetHandleByIndex(int(text.rpartition("-")[2]) - _first())


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-fake-{_first() + handle:04}"


def _first() -> int:
    return int(os.environ.get("FAKE_FIRST_GPU", "0"))


def nvmlDeviceGetIndex(handle: int) -> int:
    return handle


def nvmlDeviceGetName(handle: int) -> str:
    return "no GPU"


def nvmlDeviceGetMigMode(handle: int) -> Any:
    raise NVMLError_NotSupported


def nvmlDeviceGetMaxMigDeviceCount(handle: int) -> int:
    return 0


def nvmlDeviceIsMigDeviceHandle(handle: int) -> bool:
    return False


def nvmlDeviceGetCpuAffinity(handle: int, words: int) -> list[int]:
    return [sum(1 << core for core in os.sched_getaffinity(0) if core < 64), *[0] * (words - 1)]


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Any]:
    return []


nvmlDeviceGetComputeRunningProcesses_v2 = nvmlDeviceGetComputeRunningProcesses


def nvmlDeviceGetUtilizationRates(handle: int) -> Any:
    return SimpleNamespace(gpu=40 + handle)


def nvmlDeviceGetMemoryInfo(handle: int) -> Any:
    return SimpleNamespace(total=80 << 30, used=20 << 30)

"""Which NVIDIA GPUs this process may use: by ``CUDA_VISIBLE_DEVICES`` where that is set, else all that NVML tells of.

NVML leaves out what a container does not have, and refuses what a device cgroup keeps from a job of Slurm: CUDA counts
neither, so what is left has CUDA's indexes, where GPUs are alike or ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from prs_dask.attempts.gpus import VISIBLE, ToldGpus, listed_gpus

__all__ = ["SeenGpus", "seen_gpus"]

_DEVICES = Path("/dev")


class SeenGpus(NamedTuple):
    """``told``: by environment and driver; ``missed``: why there may be more, for people."""

    told: ToldGpus
    missed: str = ""

    @property
    def gpus(self) -> tuple[str, ...]:
        """Those that may be used, as ``CUDA_VISIBLE_DEVICES`` names them."""
        return tuple(gpu.visible for gpu in self.told.gpus(self.told.listed))


def seen_gpus(environment: Mapping[str, str] = os.environ, library: Any = None) -> SeenGpus:
    """Ask environment and driver; takes up to seconds where the driver has to wake up.

    Parameters
    ----------
    library
        The module ``pynvml``; imported where it is not given.
    """
    value = environment.get(VISIBLE)
    listed = None if value is None else listed_gpus(value)
    missed = ""
    try:
        if library is None:
            import pynvml

            library = pynvml
        library.nvmlInit()
        try:
            return SeenGpus(ToldGpus(listed, *_told_by(library)))
        finally:
            library.nvmlShutdown()
    except ImportError:
        if listed is None:
            missed = (
                "GPUs are not counted, because nvidia-ml-py is not installed "
                f'(pip install "prs-dask[gpu]", or set {VISIBLE})'
            )
    except Exception as error:  # mostly: no driver
        missed = (
            f"the driver does not tell of GPUs: {type(error).__name__}: {error} "
            "(see what  nvidia-smi -L  says; after an update of the driver the machine has to be started anew)"
        )
    device = next(iter(sorted(_DEVICES.glob("nvidia[0-9]*"))), None)
    return SeenGpus(ToldGpus(listed), f"there is {device}, but {missed}" if device and missed else "")


def _told_by(library: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the GPUs that this process may use, by index, and of their MIG instances."""
    not_ours = getattr(library, "NVMLError_NoPermission", ())
    devices: list[str] = []
    instances: list[str] = []
    for index in range(library.nvmlDeviceGetCount()):
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            devices.append(library.nvmlDeviceGetUUID(handle))
            instances += _instances(library, handle)
        except not_ours:
            continue
        except Exception:  # it is there, and has an index, whatever it is called
            devices.append(str(len(devices)))
    return tuple(devices), tuple(instances)


def _instances(library: Any, handle: Any) -> Iterator[str]:
    """None where the GPU, or the driver, knows nothing of MIG."""
    with suppress(Exception):
        for index in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(library.NVMLError_NotFound):
                yield library.nvmlDeviceGetUUID(library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))

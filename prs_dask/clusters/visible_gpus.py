"""Which NVIDIA GPUs this process may use: by ``CUDA_VISIBLE_DEVICES`` where that is set, else all that NVML counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prs_dask.attempts.gpus import VISIBLE, listed_gpus

__all__ = ["SeenGpus", "seen_gpus"]

_DEVICES = Path("/dev")


class SeenGpus(NamedTuple):
    """``gpus`` as ``CUDA_VISIBLE_DEVICES`` names them; ``missed``: why there may be more, for people."""

    gpus: tuple[str, ...]
    missed: str = ""


def seen_gpus(environment: Mapping[str, str] = os.environ, library: Any = None) -> SeenGpus:
    """Ask environment and driver; takes up to seconds where the driver has to wake up.

    Parameters
    ----------
    library
        The module ``pynvml``; imported where it is not given.
    """
    listed = environment.get(VISIBLE)
    if listed is not None:
        return SeenGpus(listed_gpus(listed))
    try:
        if library is None:
            import pynvml

            library = pynvml
        library.nvmlInit()
        try:
            return SeenGpus(tuple(map(str, range(library.nvmlDeviceGetCount()))))
        finally:
            library.nvmlShutdown()
    except ImportError:
        return SeenGpus((), _why_missed())
    except Exception:  # no driver, or another version of it: no GPUs that could be used
        return SeenGpus(())


def _why_missed() -> str:
    device = next(iter(sorted(_DEVICES.glob("nvidia[0-9]*"))), None)
    if device is None:
        return ""
    return (
        f"there is {device}, but GPUs are not counted, because nvidia-ml-py is not installed "
        f'(pip install "prs-dask[gpu]", or set {VISIBLE})'
    )

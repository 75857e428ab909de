"""Settings that are known but do nothing in this version: refused, so that nobody relies on them."""

from __future__ import annotations

from prs_dask.config import SETTINGS, ParallelRunConfig
from prs_dask.errors import Fault

__all__ = ["setting_faults"]

_NOT_YET = (
    "environment",
    "processes_per_gpu",
    "surplus_gpu_processes",
)


def setting_faults(config: ParallelRunConfig) -> list[Fault]:
    """A fault for each setting whose given value would change what happens, and cannot yet."""
    return [
        Fault(name, repr(getattr(config, name)), f"nothing else than {SETTINGS[name].default!r}: not supported yet")
        for name in _NOT_YET
        if getattr(config, name) != SETTINGS[name].default
    ]

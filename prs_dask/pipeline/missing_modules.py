"""Settings that need what is not installed: told before anything starts."""

from __future__ import annotations

from importlib.util import find_spec

from prs_dask.config import EngineOptions
from prs_dask.errors import Fault

__all__ = ["missing_modules"]


def missing_modules(options: EngineOptions) -> list[Fault]:
    """A fault for each option that needs a package which is not there; workers have what the driver has."""
    if options.profiling_module != "memray" or find_spec("memray") is not None:
        return []
    found = "memray, which is not installed"
    advice = "pip install 'prs-dask[memray]', here and where the workers run"
    return [Fault("arguments: --profiling_module", found, "cProfile, or memray where it is installed", advice)]

"""prs_dask: ParallelRunStep on Dask.

An entry script with ``init()`` and ``run(mini_batch)`` runs over all of the files or tables
that it is given, on every core, GPU or node there is; its rows end up in one file, each
exactly once.

The names of the public API are loaded on first use (PEP 562): a worker process imports this
package too, and is to be ready before Dask, pandas or pyarrow could have been imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prs_dask.config import ParallelRunConfig, PipelineParameter
    from prs_dask.datasets import FileDataset, TabularDataset
    from prs_dask.entry_script import EntryScript
    from prs_dask.errors import (
        ClusterError,
        EngineError,
        EntryScriptError,
        Fault,
        InputError,
        OutputError,
        PrsError,
        SettingsError,
        StepRunFailed,
    )
    from prs_dask.pipeline import OutputFileDatasetConfig, ParallelRunStep, StepRun, parallel_run

__version__ = "0.1.0"

__all__ = [
    "ClusterError",
    "EngineError",
    "EntryScript",
    "EntryScriptError",
    "Fault",
    "FileDataset",
    "InputError",
    "OutputError",
    "OutputFileDatasetConfig",
    "ParallelRunConfig",
    "ParallelRunStep",
    "PipelineParameter",
    "PrsError",
    "SettingsError",
    "StepRun",
    "StepRunFailed",
    "TabularDataset",
    "__version__",
    "parallel_run",
]

_HOMES = {
    "ClusterError": "prs_dask.errors",
    "EngineError": "prs_dask.errors",
    "EntryScript": "prs_dask.entry_script",
    "EntryScriptError": "prs_dask.errors",
    "Fault": "prs_dask.errors",
    "FileDataset": "prs_dask.datasets",
    "InputError": "prs_dask.errors",
    "OutputError": "prs_dask.errors",
    "OutputFileDatasetConfig": "prs_dask.pipeline",
    "ParallelRunConfig": "prs_dask.config",
    "ParallelRunStep": "prs_dask.pipeline",
    "PipelineParameter": "prs_dask.config",
    "PrsError": "prs_dask.errors",
    "SettingsError": "prs_dask.errors",
    "StepRun": "prs_dask.pipeline",
    "StepRunFailed": "prs_dask.errors",
    "TabularDataset": "prs_dask.datasets",
    "parallel_run": "prs_dask.pipeline",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

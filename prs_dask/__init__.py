"""prs_dask: ParallelRunStep on Dask.

An entry script with ``init()`` and ``run(mini_batch)`` runs over all of the files or tables
that it is given, on every core, GPU or node there is; its rows end up in one file, each
exactly once.

The names of the public API are loaded on first use (PEP 562): a worker process imports this
package too, and is to be ready before Dask, pandas or pyarrow could have been imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prs_dask.lazy_names import loaded_on_first_use

if TYPE_CHECKING:
    from prs_dask.config import ParallelRunConfig, PipelineParameter, SSHTarget
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
        ResumeError,
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
    "ResumeError",
    "SSHTarget",
    "SettingsError",
    "StepRun",
    "StepRunFailed",
    "TabularDataset",
    "__version__",
    "parallel_run",
]

_HOMES = {
    "ClusterError": "errors",
    "EngineError": "errors",
    "EntryScript": "entry_script",
    "EntryScriptError": "errors",
    "Fault": "errors",
    "FileDataset": "datasets",
    "InputError": "errors",
    "OutputError": "errors",
    "OutputFileDatasetConfig": "pipeline",
    "ParallelRunConfig": "config",
    "ParallelRunStep": "pipeline",
    "PipelineParameter": "config",
    "PrsError": "errors",
    "ResumeError": "errors",
    "SSHTarget": "config",
    "SettingsError": "errors",
    "StepRun": "pipeline",
    "StepRunFailed": "errors",
    "TabularDataset": "datasets",
    "parallel_run": "pipeline",
}
__getattr__ = loaded_on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

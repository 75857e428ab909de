"""What users write: steps, their runs and their outputs. The one place that joins all parts.

``step``           ParallelRunStep: checks everything, then makes a run
``preparation``    a step's settings as the values that engine and workers want
``step_run``       StepRun: watch, wait for, cancel; finishes output and logs
``local_run``      mini-batches in this very process, for a debugger
``recorded_run``   what a run folder tells, without a lock
``short_call``     parallel_run: one call that does all of it
``source``         the source directory as an archive
``recording``      news of the engine into the logs tree
``outputs``        OutputFileDatasetConfig
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prs_dask.lazy_names import loaded_on_first_use

if TYPE_CHECKING:
    from prs_dask.pipeline.outputs import OutputFileDatasetConfig
    from prs_dask.pipeline.short_call import parallel_run
    from prs_dask.pipeline.step import ParallelRunStep
    from prs_dask.pipeline.step_run import StepRun

__all__ = ["OutputFileDatasetConfig", "ParallelRunStep", "StepRun", "parallel_run"]

_HOMES = {
    "OutputFileDatasetConfig": "outputs",
    "ParallelRunStep": "step",
    "StepRun": "step_run",
    "parallel_run": "short_call",
}
__getattr__ = loaded_on_first_use(__name__, _HOMES)

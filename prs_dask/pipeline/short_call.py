"""One call from settings to result, for notebooks and pipelines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prs_dask.config import SHORT_CALL_DEFAULTS, ParallelRunConfig
from prs_dask.pipeline.outputs import OutputFileDatasetConfig
from prs_dask.pipeline.step import ParallelRunStep

if TYPE_CHECKING:
    from prs_dask.datasets import Dataset
    from prs_dask.pipeline.progress_news import OnProgress
    from prs_dask.pipeline.step_run import StepRun

__all__ = ["parallel_run"]


def parallel_run(
    entry_script: Any,
    inputs: Dataset | Sequence[Dataset],
    output: str | os.PathLike[str] | OutputFileDatasetConfig | None = None,
    *,
    name: str = "parallel-run",
    arguments: Sequence[object] | None = None,
    run_folder: str | os.PathLike[str] | None = None,
    compute_target: Any = None,
    show_output: bool = False,
    on_progress: OnProgress | None = None,
    raise_on_error: bool = True,
    **settings: Any,
) -> StepRun:
    """Build a step, run it, wait for it.

    Parameters
    ----------
    entry_script
        Path of the script, or an object with ``run`` and optional ``init`` and ``shutdown``.
    inputs, output, name, arguments
        See `ParallelRunStep`.
    run_folder, compute_target, on_progress
        See `ParallelRunStep.submit`.
    show_output
        Show progress while it runs, see `StepRun.wait_for_completion`.
    raise_on_error
        Raise where the step run does not complete.
    settings
        Of `ParallelRunConfig`; ``output_action`` is ``"append_row"`` and ``error_threshold`` 0 unless given.

    Returns
    -------
    StepRun
        Ended.

    Raises
    ------
    SettingsError
        Something cannot be used; nothing was started or written.
    StepRunFailed
        The step run failed or was canceled.
    KeyboardInterrupt
        Ctrl-C; the step run was canceled in order first.
    """
    if compute_target is not None:
        settings["compute_target"] = compute_target
    config = ParallelRunConfig(
        entry_script=entry_script, **{"output_action": "append_row", **SHORT_CALL_DEFAULTS, **settings}
    )
    step = ParallelRunStep(name, config, inputs, output, arguments=arguments)
    step_run = step.submit(run_folder=run_folder, on_progress=on_progress)
    try:
        step_run.wait_for_completion(show_output=show_output, raise_on_error=raise_on_error)
    except KeyboardInterrupt:
        step_run.cancel()
        step_run.wait_for_completion(raise_on_error=False)
        raise
    return step_run

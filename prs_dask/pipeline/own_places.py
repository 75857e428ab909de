"""What a step run makes itself. None of it is source, though it may lie in the source directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prs_dask.datasets import Dataset
from prs_dask.output.append_file import AppendFile
from prs_dask.pipeline.outputs import OutputFileDatasetConfig, output_path
from prs_dask.pipeline.source import path_within

if TYPE_CHECKING:
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["own_places"]


def own_places(step: ParallelRunStep, run_folder: Path | None) -> list[str]:
    """Absolute paths of the run folder, of the links of side inputs, and of the outputs.

    An output folder is the step run's own as a whole, unless the entry script lies in it: then only the file of rows
    is, with all that is beside it while it grows.

    Parameters
    ----------
    run_folder
        None: a new one in ``prs_runs``.
    """
    script, file_name = step.config.script_path, step.config.append_row_file_name
    places = [] if run_folder is None else [run_folder]
    places += [Path(one.path_on_compute) for one in step.placed if isinstance(one, Dataset) and one.path_on_compute]
    outputs = [output_path(one) for one in step.script_arguments if isinstance(one, OutputFileDatasetConfig)]
    for folder in (step.output_path, *outputs):
        if folder is None:
            continue
        if script is None or path_within(script, folder) is None:
            places.append(folder)
        else:
            places += [folder / name for name in AppendFile(folder, file_name, str(run_folder)).own_names]
    return [os.path.abspath(place) for place in places]

"""A step's arguments as the entry script gets them on its command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prs_dask.datasets import Dataset
from prs_dask.pipeline.outputs import OutputFileDatasetConfig, output_path

if TYPE_CHECKING:
    from prs_dask.pipeline.side_inputs import Places
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["local_arguments"]


def local_arguments(
    step: ParallelRunStep, output_folder: Path, places: Places, *, other_outputs: bool = True
) -> tuple[str, ...]:
    """The arguments as text; datasets and outputs as their local paths.

    Parameters
    ----------
    output_folder
        Of the step.
    other_outputs
        Outputs with a path of their own have it; otherwise they are the output folder, too.
    """
    texts: list[str] = []
    for argument in step.script_arguments:
        if isinstance(argument, OutputFileDatasetConfig):
            texts.append(str((output_path(argument) if other_outputs else None) or output_folder))
        elif isinstance(argument, Dataset):
            texts.append(places.of(argument))
        else:
            texts.append(os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument))
    return tuple(texts)

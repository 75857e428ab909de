"""Where a step's output goes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from prs_dask.errors import Fault, SettingsError

__all__ = ["OutputFileDatasetConfig", "output_path"]


@dataclass(frozen=True)
class OutputFileDatasetConfig:
    """The output folder of a step.

    Parameters
    ----------
    name
        By which the output can be told apart; optional.
    destination
        The folder; None: ``output`` in the run folder.
    """

    name: str | None = None
    destination: str | os.PathLike[str] | None = None

    def as_mount(self, path: str | None = None) -> Self:
        """Files are written in place; ``path`` is where."""
        return replace(self, destination=path or self.destination)

    def as_upload(self) -> Self:
        """The same: a local output needs no upload."""
        return self


def output_path(output: str | os.PathLike[str] | OutputFileDatasetConfig | None) -> Path | None:
    """The folder that an ``output=`` names; None where it is to lie in the run folder.

    Raises
    ------
    SettingsError
        It is no local folder.
    """
    if isinstance(output, OutputFileDatasetConfig):
        output = output.destination
    if output is None:
        return None
    if not isinstance(output, (str, os.PathLike)) or not os.fspath(output):
        raise SettingsError(
            [Fault("output", repr(output), "a folder, or an OutputFileDatasetConfig", 'output="scores"')]
        )
    text = os.fspath(output)
    if "://" in text and not text.startswith("file://"):
        raise SettingsError([Fault("output", repr(text), "a local folder (stores are not written to yet)", "scores")])
    return Path(os.path.abspath(text.removeprefix("file://")))

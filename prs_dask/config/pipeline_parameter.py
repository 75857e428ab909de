"""PipelineParameter: a value that is given when a pipeline is submitted, not when it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prs_dask.errors import Fault, SettingsError

__all__ = ["PipelineParameter"]


@dataclass(frozen=True)
class PipelineParameter:
    """Stands for a setting whose value may change from one submission to the next.

    Parameters
    ----------
    name
        Its name in ``Pipeline.submit(pipeline_parameters={...})``.
    default_value
        The value where the submission gives none.

    Examples
    --------
    >>> PipelineParameter(name="batch_size", default_value=10).default_value
    10
    """

    name: str
    default_value: Any = None

    def __post_init__(self) -> None:
        if not str(self.name).isidentifier():
            allowed = "letters, digits and _, not beginning with a digit"
            raise SettingsError([Fault("name", repr(self.name), allowed, 'name="batch_size"')])

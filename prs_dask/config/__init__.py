"""The settings of a step: one table, the checks it drives, and their forms in Python, YAML and arguments.

Nothing here imports Dask, pandas or click; YAML is imported when a file is read.
"""

from prs_dask.config.arguments import EngineOptions, longer_interval, split_arguments
from prs_dask.config.parallel_run_config import ParallelRunConfig
from prs_dask.config.pipeline_parameter import PipelineParameter
from prs_dask.config.settings import SETTINGS, SHORT_CALL_DEFAULTS, Setting
from prs_dask.config.ssh_target import SSHTarget

__all__ = [
    "SETTINGS",
    "SHORT_CALL_DEFAULTS",
    "EngineOptions",
    "ParallelRunConfig",
    "PipelineParameter",
    "SSHTarget",
    "Setting",
    "longer_interval",
    "split_arguments",
]

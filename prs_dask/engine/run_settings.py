"""What a step run sends to the scheduler and to its workers, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prs_dask.attempts.bisecting import PartlyDone
from prs_dask.attempts.judge import Counts
from prs_dask.attempts.limits import RunLimits
from prs_dask.engine.parcels import SideInput

__all__ = ["OP", "RunSettings", "WorkerSettings", "plugin_name"]

OP = "prs"
"""The one op that prs_dask adds to scheduler and workers; it stays, inert, after a step run."""

SILENT_SECONDS = 45.0
"""See `RunSettings`: what follows takes a few seconds, and within a minute no process is left."""


def plugin_name(run_id: str) -> str:
    """Name of a step run's plugins on scheduler and workers."""
    return f"prs-{run_id}"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """For the scheduler plugin.

    Parameters
    ----------
    run_id
        Names the step run on the cluster; each part of one that is resumed has a name of its own, so that what an
        earlier driver may have left running there never meets this one.
    limits
        See `RunLimits`.
    processes_per_node, node_count
        See `prs_dask.attempts.places.Places`.
    rows_in_flight
        Bytes of rows that may wait on the scheduler for the driver, all lanes together.
    first_process
        By node: the first free process number, when a step run is resumed.
    client
        Id of the driver's Client: while it is connected the driver may be silent for longer.
    silent_seconds
        Without a word of the driver for so long the step run is over; without one of the scheduler a worker ends
        its processes.
    already
        What earlier parts of the same step run have come to.
    header
        The output's header line, where that is decided already; empty where it has none.
    partly_done
        By id: what is left of bisected mini-batches, when a step run is resumed.
    processes_per_gpu, wished_gpus
        See `prs_dask.attempts.gpus.Gpus`.
    """

    run_id: str
    limits: RunLimits
    processes_per_node: int | None = None
    node_count: int | None = None
    rows_in_flight: int = 64 << 20
    first_process: Mapping[int, int] = field(default_factory=dict)
    client: str = ""
    silent_seconds: float = field(default_factory=lambda: SILENT_SECONDS)
    already: Counts = field(default_factory=Counts)
    header: bytes | None = None
    partly_done: Mapping[int, PartlyDone] = field(default_factory=dict)
    processes_per_gpu: int = 1
    wished_gpus: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """For the workers; pickled by the driver, kept as bytes on the scheduler, never printed.

    Parameters
    ----------
    run_id
        The step run's, the same for all of its parts: ``AZUREML_RUN_ID``.
    script
        Path of the entry script within the source folder; None where an object was given.
    script_object
        cloudpickle of that object.
    source_digest
        Names the source archive, which is the parcel 0; None without one.
    side_inputs
        Those that the driver has, the parcels from 1 on.
    arguments, readers, row_format, logging_level, logging_format, input_names, input_paths
        See `prs_dask.worker_process.frames.ProcessSetup`.
    environment
        Set for every worker process before anything is imported. May hold secrets.
    memory_limit
        Bytes a process may use; None: the worker's limit shared among its lanes; 0: none.
    input_cache_size
        Bytes of files of stores that a node keeps; None: half of its free disk space.
    output_folder, output_mark
        The step's output folder on the driver, and a file in it: workers that see that file write there themselves,
        processes of others get folders of their own, from which files are sent.
    monitor_interval
        Seconds between two samples of what nodes use; 0: none.
    profiling_module
        See `prs_dask.worker_process.frames.ProcessSetup`.
    surplus_gpu_processes
        What processes beyond the GPUs find: ``"unset"`` or ``"hide"``.
    requirements
        What has to be installed, see `prs_dask.engine.installed`.
    """

    run_id: str
    script: str | None
    script_object: bytes | None
    source_digest: str | None
    arguments: tuple[str, ...]
    readers: tuple[Any, ...]
    row_format: Any
    logging_level: str
    limits: RunLimits
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory_limit: int | None = None
    input_cache_size: int | None = None
    output_folder: str | None = None
    output_mark: str = ""
    monitor_interval: float = 0.0
    profiling_module: str | None = None
    input_names: tuple[str, ...] = ()
    input_paths: tuple[tuple[str, str], ...] = ()
    logging_format: str = "text"
    surplus_gpu_processes: str = "unset"
    requirements: tuple[str, ...] = ()
    side_inputs: tuple[SideInput, ...] = ()

"""A checked step as the values that engine and workers want. No cluster, nothing written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prs_dask.attempts.limits import RunLimits
from prs_dask.config import EngineOptions, ParallelRunConfig
from prs_dask.datasets import Dataset
from prs_dask.output.row_format import RowFormat, row_format
from prs_dask.pipeline.source import SETTINGS_FILE, SourceArchive, pack_source

__all__ = ["Preparation", "names_of", "packed_object", "prepare", "rows_of", "run_limits"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a step run needs to know of its step.

    Parameters
    ----------
    limits
        Tries, thresholds, time limits.
    rows
        How results become rows; None with summary_only.
    source
        The archive; None where the entry script is an object, then ``script_object`` is its cloudpickle.
    readers, input_names
        One for each input.
    """

    limits: RunLimits
    rows: RowFormat | None
    source: SourceArchive | None
    script_object: bytes | None
    readers: tuple[Any, ...]
    input_names: tuple[str, ...]


def prepare(
    config: ParallelRunConfig,
    options: EngineOptions,
    inputs: Sequence[Dataset],
    *,
    reads_inputs: bool = True,
    made: Iterable[str] = (),
) -> Preparation:
    """Everything that can go wrong before anything is started goes wrong here.

    Parameters
    ----------
    reads_inputs
        Look at the inputs' files, and find out how they are to be read; otherwise there are no ``readers``.
    made
        What the step run makes itself, which is no source: see `own_places`.

    Raises
    ------
    SettingsError
        A file that a setting names cannot be used, or an input cannot be read.
    """
    script = config.script_path
    rows = rows_of(config, options)
    source, script_object = None, None
    if script is not None:
        folder = config.source_directory
        source = pack_source(script, Path(folder) if folder is not None else None, made)
    else:
        script_object = packed_object(config)
    for dataset in inputs if reads_inputs else ():
        dataset.check()
    return Preparation(
        run_limits(config, options),
        rows,
        source,
        script_object,
        tuple(dataset.reader() for dataset in inputs if reads_inputs),
        names_of(inputs),
    )


def rows_of(config: ParallelRunConfig, options: EngineOptions) -> RowFormat | None:
    """How results become rows; None with summary_only."""
    if config.output_action != "append_row":
        return None
    script = config.script_path
    beside = script.parent / SETTINGS_FILE if script is not None else None
    return row_format(config.append_row_format, beside, options.append_row_dataframe_header)


def packed_object(config: ParallelRunConfig) -> bytes:
    """The entry script that is an object, as a worker process gets it."""
    import cloudpickle

    packed: bytes = cloudpickle.dumps(config.entry_script)
    return packed


def names_of(inputs: Sequence[Dataset]) -> tuple[str, ...]:
    """As ``mini_batch_context.dataset`` tells them."""
    return tuple(dataset.name or str(index) for index, dataset in enumerate(inputs))


def run_limits(config: ParallelRunConfig, options: EngineOptions) -> RunLimits:
    """The limits of behaviour, sections 5.1 to 5.4, with their defaults filled in."""
    run, overhead = config.run_invocation_timeout, options.task_overhead_timeout
    backoff = config.retry_backoff
    return RunLimits(
        run_max_try=config.run_max_try,
        error_threshold=config.error_threshold,
        allowed_failed_count=config.allowed_failed_count,
        allowed_failed_percent=config.allowed_failed_percent,
        run_seconds=run,
        overhead_seconds=overhead,
        init_seconds=options.init_timeout or 3 * run + 30,
        shutdown_seconds=options.shutdown_timeout,
        progress_seconds=options.progress_update_timeout or config.run_max_try * (run + overhead),
        retry_backoff=backoff if isinstance(backoff, tuple) else (backoff, 1.0, backoff),
        retry_on=config.retry_on,
        no_retry_on=config.no_retry_on,
        bisect=config.on_failed_mini_batch == "bisect",
        speculate=config.speculative_attempts,
    )

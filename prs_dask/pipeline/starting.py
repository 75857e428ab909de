"""From a step to its step run: a new one, or one that goes on where an earlier driver has left it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.config import SSHTarget
from prs_dask.config.compute_target import as_ssh_target
from prs_dask.logs.run_folder import RunFolder
from prs_dask.mini_batches import MiniBatch
from prs_dask.output.journal_lock import JournalLock
from prs_dask.pipeline.local_arguments import local_arguments
from prs_dask.pipeline.own_places import own_places
from prs_dask.pipeline.preparation import prepare
from prs_dask.pipeline.resume import Earlier
from prs_dask.pipeline.run_files import RunFiles
from prs_dask.pipeline.run_record import run_record
from prs_dask.pipeline.side_inputs import Places
from prs_dask.pipeline.step_run import StepRun

if TYPE_CHECKING:
    from prs_dask.pipeline.progress_news import OnProgress
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["resumed", "started"]


def started(
    step: ParallelRunStep,
    run_folder: str | os.PathLike[str] | None,
    compute_target: Any,
    on_progress: OnProgress | None = None,
) -> StepRun:
    """Start a new step run; nothing is left of it where it cannot be started. See `ParallelRunStep.submit`."""
    step.check()
    return _step_run(step, Path(run_folder) if run_folder is not None else None, compute_target, None, on_progress)


def resumed(
    step: ParallelRunStep,
    run_folder: str | os.PathLike[str],
    compute_target: Any,
    on_progress: OnProgress | None = None,
    *,
    retry_failed: bool = True,
    accept_changes: bool = False,
) -> StepRun:
    """Go on with a step run; where that is refused its folder is as it was. See `ParallelRunStep.submit`."""
    earlier = Earlier.read(run_folder, retry_failed=retry_failed, accept_changes=accept_changes)
    try:
        if earlier.completed:
            return StepRun.of_completed(step, earlier, on_progress)
        step.check(resumes=True)
        return _step_run(step, None, compute_target, earlier, on_progress)
    except BaseException:
        earlier.lock.release()
        raise


def _step_run(
    step: ParallelRunStep,
    path: Path | None,
    compute_target: Any,
    earlier: Earlier | None,
    on_progress: OnProgress | None,
) -> StepRun:
    config = step.config.resolve()
    target = config.compute_target if compute_target is None else as_ssh_target(compute_target)
    if target not in (None, "local", "cuda") and not isinstance(target, SSHTarget):  # those import Dask
        from prs_dask.clusters import check_target

        check_target(target)
    goes_on = earlier is not None and earlier.journal.header is not None
    made = own_places(step, earlier.folder.path if earlier is not None else path)
    preparation = prepare(config, step.options, step.inputs_of(config), reads_inputs=not goes_on, made=made)
    now, short_id = time.time(), uuid.uuid4().hex[:8]
    folder = earlier.folder if earlier is not None else RunFolder.create(path, step.name, now, short_id)
    places = Places(step.placed, folder.path / "side_inputs")
    lock = earlier.lock if earlier is not None else JournalLock.take(folder.path)
    files: RunFiles | None = None
    mini_batches: Callable[[], Iterator[MiniBatch | None]]
    notes: Sequence[str]
    try:
        output_folder = step.output_path or folder.output
        salt = earlier.salt if earlier is not None else os.urandom(16)
        record = run_record(
            step,
            config,
            preparation,
            run_id=f"{step.name}-{short_id}",
            run_folder=folder.path,
            output_folder=output_folder,
            compute_target=target,
            salt=salt,
        )
        if earlier is not None:
            record |= {name: earlier.record[name] for name in ("run_id", "created", "run_folder")}
            earlier.refuse_changes(record, preparation.source)
        if earlier is None or not goes_on:
            places.link()
            files = RunFiles.begin(folder, lock, record, preparation)
            mini_batches, notes = partial(step.mini_batches, config), ()
        else:
            inputs = earlier.inputs(step, config)
            preparation = replace(preparation, readers=inputs.readers)
            mini_batches, notes = inputs.mini_batches, inputs.notes
            places.link()
            complete = earlier.was_complete
            files = RunFiles.go_on(folder, lock, record, preparation, earlier.journal, inputs.state, complete=complete)
            if files.is_finished:
                earlier = earlier.without_retries()
            files.begin_part(retry_failed=earlier.retry_failed)
        return StepRun(
            step=step,
            config=config,
            preparation=preparation,
            arguments=local_arguments(step, output_folder, places),
            record=record,
            run_folder=folder,
            output_folder=output_folder,
            compute_target=target,
            input_paths=places.named(step.inputs),
            places=places,
            files=files,
            mini_batches=mini_batches,
            notes=notes,
            earlier=earlier,
            on_progress=on_progress,
        )
    except BaseException:
        places.remove()
        if files is not None:
            files.abandon(is_new=earlier is None)
        lock.release()
        folder.discard()
        raise

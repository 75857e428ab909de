"""Mini-batches of a step in this very process, for a debugger: no cluster, no run folder, no output.

::

    chosen mini-batches ─▶ InProcess: init() ─▶ read, run() ─▶ … ─▶ shutdown() ─▶ everything is taken back

`run_locally` takes them from the step, ``prs-dask debug`` from a run folder; both run them by `local_script`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prs_dask.attempts.gpus import Gpus, gpu_variables, wished_gpus
from prs_dask.cancellation import Cancellation
from prs_dask.clusters.visible_gpus import seen_gpus
from prs_dask.entry_script.failures import UserCode
from prs_dask.errors import Fault, InputError, PrsError, SettingsError
from prs_dask.mini_batches import MiniBatch
from prs_dask.output.rows import BadResult
from prs_dask.pipeline.local_arguments import local_arguments
from prs_dask.pipeline.preparation import names_of, packed_object, rows_of
from prs_dask.pipeline.recorded_run import MiniBatchName
from prs_dask.pipeline.side_inputs import Places
from prs_dask.worker_process.frames import ProcessSetup
from prs_dask.worker_process.in_process import InProcess, LocalResult

if TYPE_CHECKING:
    from prs_dask.config import ParallelRunConfig
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["chosen_part", "in_user_code", "local_script", "run_locally"]


def run_locally(
    step: ParallelRunStep, n: int, mini_batch: int | str | None, folder: str | os.PathLike[str] | None
) -> list[LocalResult]:
    """See `ParallelRunStep.run_locally`."""
    name = None if mini_batch is None else MiniBatchName.of(mini_batch)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise SettingsError([Fault("n", repr(n), "how many mini-batches: a whole number of at least 1", "n=1")])
    config = step.config.resolve()
    inputs = step.inputs_of(config)
    faults = [fault for dataset in inputs for fault in _input_faults(dataset)]
    if faults:
        raise SettingsError(faults)
    readers = tuple(dataset.reader() for dataset in inputs)
    first = 0 if name is None else name.number
    chosen = list(islice(step.mini_batches(config), first, first + (n if name is None else 1)))
    if not chosen:
        raise _no_such(step, config, name)
    results = []
    with local_script(step, config, readers, folder) as script:
        number: int | None = None
        one: MiniBatch | None = None
        try:
            script.start()
            for number, one in enumerate(chosen, first):
                if name is not None and name.items is not None:
                    one = chosen_part(script, one, name)
                results.append(script.run(number, one, script.read(one)))
        except SettingsError:
            raise
        except BaseException as error:
            if one is not None:
                error.add_note(f"(in mini-batch {mini_batch if name is not None else number}: {one.detail})")
            error.__traceback__ = in_user_code(error, script.user_code)
            raise
    return results


def _input_faults(dataset: Any) -> Sequence[Fault]:
    try:
        dataset.check()
    except SettingsError as error:
        return error.faults
    return ()


def _no_such(step: ParallelRunStep, config: ParallelRunConfig, name: MiniBatchName | None) -> SettingsError:
    if name is None:
        return InputError([Fault("inputs", "no mini-batch: every file is empty", "inputs that hold something")])
    count = sum(1 for _ in step.mini_batches(config))
    allowed = f"0 to {count - 1}" if count else "none: every file is empty"
    return SettingsError([Fault("mini_batch", str(name.number), allowed)])


def chosen_part(script: InProcess, mini_batch: MiniBatch, name: MiniBatchName) -> MiniBatch:
    """Those items of a mini-batch that a name asks for.

    Raises
    ------
    SettingsError
        It has no such items.
    """
    if name.items is None:
        return mini_batch
    try:
        return script.part_of(mini_batch, name.number, *name.items)
    except ValueError as error:
        start, stop = name.items
        allowed = "items that it has, the first is 0, the last not included"
        fault = Fault("mini_batch", f"{name.number}[{start}:{stop}], but {error}", allowed, f"{name.number}[0:1]")
        raise SettingsError([fault]) from None


@contextmanager
def local_script(
    step: ParallelRunStep,
    config: ParallelRunConfig,
    readers: Sequence[Any],
    folder: str | os.PathLike[str] | None = None,
) -> Iterator[InProcess]:
    """A step's entry script in this process, not started yet.

    Parameters
    ----------
    readers
        How each input is read.
    folder
        For everything that is written; it is kept. None: a temporary one, which is removed.
    """
    with ExitStack() as stack:
        if folder is None:
            # What user code leaves behind without rights does not hide its error.
            temporary = TemporaryDirectory(prefix="prs-local-", ignore_cleanup_errors=True)
            place = Path(stack.enter_context(temporary)).resolve()
        else:
            place = Path(os.path.abspath(folder))
        places = Places(step.placed, place / "side_inputs")
        stack.callback(places.remove)
        places.link()
        try:
            places.bring(Cancellation())
        except OSError as error:
            raise PrsError(f"a side input could not be brought: {error}") from error
        script = config.script_path
        output = str(place / "output")
        setup = ProcessSetup(
            script=None if script is None else os.path.abspath(script),
            script_object=packed_object(config) if script is None else None,
            source_folder=None if config.source_directory is None else os.path.abspath(config.source_directory),
            arguments=local_arguments(step, place / "output", places, other_outputs=False),
            readers=tuple(readers),
            row_format=rows_of(config, step.options),
            working_folder=str(place / "work"),
            log_folder=str(place / "logs"),
            output_folder=output,
            agent_name="process000",
            node_id=0,
            logging_level=config.logging_level,
            input_names=names_of(step.inputs),
            input_paths=places.named(step.inputs),
            cache_folder=str(place / "cache") if any(reader.in_cache for reader in readers) else None,
        )
        own = {"AZUREML_BI_OUTPUT_PATH": output, "AZUREML_RUN_ID": f"{step.name}-local"}
        yield stack.enter_context(InProcess(setup, _with_first_gpu({**own, **config.environment_variables}, config)))


def _with_first_gpu(variables: Mapping[str, str], config: ParallelRunConfig) -> dict[str, str]:
    """As for the first process of this machine. What asks CUDA before the script is imported has asked for all GPUs."""
    gpus = Gpus(config.processes_per_gpu, wished_gpus(config.environment_variables))
    gpus.join("", 0, seen_gpus().told)
    return gpu_variables(gpus.take(("", 0)), {**os.environ, **variables}, config.surplus_gpu_processes)


def in_user_code(error: BaseException, user_code: UserCode) -> TracebackType | None:
    """The traceback of an error from its first frame in the user's code on.

    All of it where there is none, but None for errors that say all by themselves.
    """
    if isinstance(error, PrsError | BadResult):
        return None
    one = error.__traceback__
    while one is not None:
        if user_code.name_of(one.tb_frame.f_code.co_filename) is not None:
            return one
        one = one.tb_next
    return error.__traceback__

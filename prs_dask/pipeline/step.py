"""ParallelRunStep: what is to be run over which inputs, checked before anything starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from prs_dask.config import ParallelRunConfig, split_arguments
from prs_dask.datasets import Dataset
from prs_dask.errors import Fault, SettingsError
from prs_dask.pipeline.missing_modules import missing_modules
from prs_dask.pipeline.outputs import OutputFileDatasetConfig, output_path
from prs_dask.pipeline.side_inputs import dataset_faults, side_input_faults

if TYPE_CHECKING:
    from prs_dask.mini_batches import MiniBatch
    from prs_dask.pipeline.plan import StepPlan
    from prs_dask.pipeline.progress_news import OnProgress
    from prs_dask.pipeline.step_run import StepRun
    from prs_dask.worker_process.in_process import LocalResult

__all__ = ["ParallelRunStep"]

_NAME = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")


class ParallelRunStep:
    """An entry script, its inputs and its output.

    Parameters
    ----------
    name
        3 to 32 characters: lower-case letters, digits and ``-``; starts with a letter, does not end with ``-``.
    parallel_run_config
        The settings.
    inputs
        One or more datasets, all FileDataset or all TabularDataset. Each is cut separately.
    output
        A folder, or an `OutputFileDatasetConfig`; None: ``output`` in the run folder.
    side_inputs
        Files or folders that every worker process may read whole: paths, or datasets of one file or one folder.
        They lie where they are; those of stores are brought below the run folder. ``as_mount(path)`` and
        ``as_download(path)`` make a link of that name for as long as the step run lasts.
    arguments
        The entry script's command line. A dataset, side input or output in it becomes its local path.
    allow_reuse
        Whether a pipeline may take the output of an earlier, equal step run.

    Raises
    ------
    SettingsError
        With every fault of the step at once.

    Examples
    --------
    >>> step = ParallelRunStep(
    ...     name="score",
    ...     parallel_run_config=config,
    ...     inputs=[FileDataset.from_files("scans")],
    ...     output="scores",
    ... )  # doctest: +SKIP
    >>> step.submit().wait_for_completion()  # doctest: +SKIP
    'Completed'
    """

    def __init__(
        self,
        name: str,
        parallel_run_config: ParallelRunConfig,
        inputs: Dataset | Sequence[Dataset],
        output: str | os.PathLike[str] | OutputFileDatasetConfig | None = None,
        side_inputs: Sequence[object] | None = None,
        arguments: Sequence[object] | None = None,
        allow_reuse: bool = True,
    ) -> None:
        faults: list[Fault] = []
        if not isinstance(name, str) or not 3 <= len(name) <= 32 or not _NAME.fullmatch(name):
            allowed = "3 to 32 characters: lower-case letters, digits and '-', a letter first, no '-' at the end"
            faults.append(Fault("name", repr(name), allowed, "score-images"))
        if not isinstance(parallel_run_config, ParallelRunConfig):
            faults.append(Fault("parallel_run_config", repr(parallel_run_config), "a ParallelRunConfig"))
            raise SettingsError(faults)
        self.name = name
        self.config = parallel_run_config
        self.inputs = tuple(inputs if isinstance(inputs, list | tuple) else [inputs])
        self.output = output
        self.side_inputs = tuple(side_inputs or ())
        self.allow_reuse = allow_reuse
        faults += _input_faults(self.inputs)
        faults += self.config.file_faults()
        faults += side_input_faults(self.side_inputs)
        try:
            self.arguments = tuple(arguments or ())
            self.options, self.script_arguments = split_arguments(list(self.arguments))
            faults += missing_modules(self.options)
            for one in self.script_arguments:
                faults += dataset_faults("arguments", one) if isinstance(one, Dataset) else ()
            faults += _place_faults(self.inputs, self.script_arguments)
        except SettingsError as error:
            faults += error.faults
        try:
            self.output_path = output_path(output)
        except SettingsError as error:
            faults += error.faults
        if not faults and self.inputs[0].kind == "file":
            try:
                self.config.resolve().files_per_mini_batch  # noqa: B018 - raises where the size has a unit
            except SettingsError as error:
                faults += error.faults
        if faults:
            raise SettingsError(faults)

    # ---------------------------------------------------------------- before a run

    def check(self, *, resumes: bool = False) -> None:
        """See that the inputs can be read and the output be written; starts and writes nothing.

        Parameters
        ----------
        resumes
            The output may exist already, and the files of the inputs are compared with those of before later on.

        Raises
        ------
        SettingsError
            With every fault at once.
        """
        faults: list[Fault] = []
        for dataset in self.inputs_of(self.config.resolve()):
            try:
                if not (resumes and dataset.paths):
                    dataset.check()
            except SettingsError as error:
                faults += error.faults
        for one in self.placed:
            if isinstance(one, Dataset) and one not in self.inputs:
                try:
                    one.check()
                except SettingsError as error:
                    faults += error.faults
        faults += self._output_faults(may_exist=resumes)
        if faults:
            raise SettingsError(faults)

    def _output_faults(self, *, may_exist: bool) -> list[Fault]:
        folder = self.output_path
        if folder is None:
            return []
        if self.config.output_action == "append_row" and not may_exist:
            file = folder / self.config.append_row_file_name
            if file.exists():
                allowed = "no such file: an output is never overwritten or appended to"
                return [Fault("output", f"{file} exists", allowed, "another output or append_row_file_name")]
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            found = f"{existing} is no folder" if not existing.is_dir() else f"{existing} cannot be written"
            return [Fault("output", found, "a folder that can be written", "another output")]
        return []

    def inputs_of(self, config: ParallelRunConfig) -> tuple[Dataset, ...]:
        """The inputs, grouped by the config's ``partition_keys``."""
        return tuple(dataset.grouped_by(config.partition_keys or ()) for dataset in self.inputs)

    def mini_batch_size(self, config: ParallelRunConfig) -> int:
        """Files, or bytes."""
        return config.files_per_mini_batch if self.inputs[0].kind == "file" else config.bytes_per_mini_batch

    def mini_batches(self, config: ParallelRunConfig) -> Iterator[MiniBatch]:
        """All mini-batches of all inputs, lazily, in the order of their ids."""
        size = self.mini_batch_size(config)
        inputs = enumerate(self.inputs_of(config))
        return chain.from_iterable(dataset.mini_batches(size, index) for index, dataset in inputs)

    def plan(self, n: int | None = None, *, seconds: float = 10.0) -> StepPlan:
        """The first ``n`` mini-batches (None: all), and what the inputs hold; nothing is run.

        Parameters
        ----------
        n
            How many mini-batches are kept.
        seconds
            The listing goes on behind them for at most so long, to count the rest.

        Raises
        ------
        SettingsError
            As from `submit`: an input is missing or cannot be cut as told, the output exists.
        """
        from prs_dask.pipeline.plan import made_plan

        self.check()
        config = self.config.resolve()
        inputs = self.inputs_of(config)
        for dataset in inputs:
            dataset.reader()
        return made_plan(
            inputs,
            self.mini_batches(config),
            n,
            seconds,
            mini_batch_size=None if config.partition_keys else self.mini_batch_size(config),
            partition_keys=config.partition_keys or (),
        )

    # ---------------------------------------------------------------- a run

    def run_locally(
        self,
        n: int = 1,
        *,
        mini_batch: int | str | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> list[LocalResult]:
        """Run the first mini-batches in this very process: for a debugger, or a first look at the rows.

        ``init()`` is called once, ``run()`` for each, ``shutdown()`` at the end; `EntryScript` works, and logs to
        stderr. ``breakpoint()`` and the breakpoints of an editor stop in the script where it lies. There is no
        cluster, no limit of time or memory, and no second attempt. Of the GPUs of this machine the script finds the
        first one, as ``process000`` does; CUDA, once it has been used here, sees no other in this process.

        Parameters
        ----------
        n
            How many.
        mini_batch
            Instead of the first ones: this one, by its id, or some of its items, such as ``"7[3:5]"``.
        folder
            Where ``output_dir``, ``log_dir`` and ``working_dir`` are; it is kept. None: a temporary folder, which is
            removed. Nothing is written elsewhere, but for what the script itself writes there.

        Returns
        -------
        list of LocalResult
            One for each mini-batch, with ``result`` as ``run()`` returned it, and its ``rows`` as they would stand in
            the output.

        Raises
        ------
        SettingsError
            An input cannot be read, or there is no such mini-batch.
        BaseException
            Whatever the script raises, as it is; a note tells the mini-batch.

        Examples
        --------
        >>> print(step.run_locally()[0])  # doctest: +SKIP
        """
        from prs_dask.pipeline.local_run import run_locally

        return run_locally(self, n, mini_batch, folder)

    def submit(
        self,
        *,
        run_folder: str | os.PathLike[str] | None = None,
        compute_target: Any = None,
        resume: str | os.PathLike[str] | StepRun | None = None,
        retry_failed: bool = True,
        accept_changes: bool = False,
        on_progress: OnProgress | None = None,
    ) -> StepRun:
        """Start the step run, or go on with an earlier one, and return at once.

        Parameters
        ----------
        run_folder
            Where logs and journal go; None: a new folder in ``prs_runs/``.
        compute_target
            Instead of the config's.
        resume
            A step run of this step that was killed, canceled or failed, or its run folder: it goes on there, and what
            is finished is not run again. A completed one is given back as it is, and nothing is changed.
        retry_failed
            With ``resume``: whether mini-batches that had failed for good are tried again.
        accept_changes
            With ``resume``: go on though the source has changed, or files were added to the inputs.
        on_progress
            A function that is called with `StepRun.progress` at most twice a second, and once at the end. It has a
            thread of its own; what it raises is told once, and fails nothing.

        Raises
        ------
        SettingsError
            Something cannot be used; nothing was started or written.
        ResumeError
            The step is not the one that the step run began with; names each difference.
        OutputError
            The output exists; or there is no such step run to resume, or another driver works on it.
        """
        from prs_dask.pipeline.starting import resumed, started

        if on_progress is not None and not callable(on_progress):
            allowed = "a function of one argument, the progress"
            raise SettingsError([Fault("on_progress", repr(on_progress), allowed, "on_progress=print")])
        if resume is None:
            return started(self, run_folder, compute_target, on_progress)
        if run_folder is not None:
            allowed = "one of the two: a step run goes on in its own folder"
            raise SettingsError([Fault("run_folder", "both run_folder and resume", allowed, "run_folder=None")])
        folder = resume if isinstance(resume, (str, os.PathLike)) else resume.run_folder
        return resumed(
            self, folder, compute_target, on_progress, retry_failed=retry_failed, accept_changes=accept_changes
        )

    @property
    def placed(self) -> tuple[object, ...]:
        """Everything that may have a place of its own on the node: side inputs, and datasets among the arguments."""
        return (*self.side_inputs, *(one for one in self.script_arguments if isinstance(one, Dataset)))

    def __repr__(self) -> str:
        return f"ParallelRunStep(name={self.name!r}, inputs={list(self.inputs)!r}, output={self.output!r})"


def _input_faults(inputs: Sequence[Dataset]) -> list[Fault]:
    if not inputs:
        return [Fault("inputs", "nothing", "one or more datasets", 'inputs=[FileDataset.from_files("data")]')]
    strange = [item for item in inputs if not isinstance(item, Dataset)]
    if strange:
        allowed = "FileDataset or TabularDataset values"
        paths = [repr(os.fspath(item)) if isinstance(item, str | os.PathLike) else "..." for item in strange]
        return [
            Fault("inputs", repr(item), allowed, f"FileDataset.from_files({path})")
            for item, path in zip(strange, paths, strict=True)
        ]
    in_memory = [path for item in inputs for path in item.paths if path.startswith("memory://")]
    if in_memory:
        allowed = "stores that other processes see; memory:// is this process's own, for take(), to_pandas() and plan()"
        return [Fault("inputs", repr(path), allowed, "a copy in a folder") for path in in_memory]
    if len({item.kind for item in inputs}) > 1:
        return [Fault("inputs", "files and tables together", "all FileDataset or all TabularDataset", "two steps")]
    names = [item.name or str(number) for number, item in enumerate(inputs)]  # as mini_batch_context.dataset tells them
    twice = sorted({name for name in names if names.count(name) > 1})
    return [Fault("inputs", f"the name {name!r} twice", "a name of its own for each") for name in twice]


def _place_faults(inputs: Sequence[Dataset], arguments: Sequence[object]) -> list[Fault]:
    """Inputs that ask for a place of their own on the node, where nothing would lead to it."""
    asking = [one for one in inputs if isinstance(one, Dataset) and one.path_on_compute is not None]
    allowed = "no path: its files are handed out where they lie; side inputs and arguments may have one"
    return [
        Fault("inputs", f"as_mount({one.path_on_compute!r})", allowed, "as_mount()")
        for one in asking
        if one not in arguments
    ]

"""ParallelRunConfig: the settings of a step as one checked, immutable value.

The table in ``settings.py`` says what each setting accepts; here stand the rules that join several
of them, the look at the files they name, and the way to YAML and back.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.config import yaml_files
from prs_dask.config.compute_target import is_path
from prs_dask.config.entry_script_source import entry_script_fault
from prs_dask.config.pipeline_parameter import PipelineParameter
from prs_dask.config.requirements import parse_requirements, requirement_lines
from prs_dask.config.settings import REQUIRED, SETTINGS, check_values
from prs_dask.errors import Fault, SettingsError
from prs_dask.quantities import parse_mini_batch_size

__all__ = ["ParallelRunConfig"]

DEFAULT_FILES = 10
DEFAULT_BYTES = 1024**2


@dataclass(frozen=True, init=False, repr=False)
class ParallelRunConfig:
    """The settings of a ParallelRunStep.

    All arguments are given by keyword; the reference page of settings lists what each accepts.
    Attributes hold the checked values; where a ``PipelineParameter`` was given they hold that
    until :meth:`resolve`.

    Raises
    ------
    SettingsError
        With every fault of the settings at once. Whether the files exist that settings name is
        asked when the step is built (:meth:`file_faults`).

    Examples
    --------
    >>> config = ParallelRunConfig(entry_script="score.py", output_action="append_row", error_threshold=0)
    >>> config.run_max_try, config.files_per_mini_batch
    (3, 10)
    """

    entry_script: Any
    source_directory: str | None
    mini_batch_size: int | str | None
    error_threshold: int
    allowed_failed_count: int | None
    allowed_failed_percent: float | None
    output_action: str
    append_row_file_name: str
    compute_target: Any
    node_count: int
    process_count_per_node: int | None
    environment: tuple[str, ...] | str | None
    environment_variables: dict[str, str]
    logging_level: str
    logging_format: str
    run_invocation_timeout: float
    run_max_try: int
    partition_keys: tuple[str, ...] | None
    description: str | None
    append_row_order: str
    append_row_format: dict[str, Any] | None
    on_failed_mini_batch: str
    retry_backoff: float | tuple[float, float, float]
    retry_on: tuple[str, ...] | None
    no_retry_on: tuple[str, ...] | None
    memory_limit_per_process: int | None
    input_cache_size: int | None
    processes_per_gpu: int
    surplus_gpu_processes: str
    speculative_attempts: bool

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            entry_script: str | os.PathLike[str] | object,
            source_directory: str | os.PathLike[str] | None = None,
            mini_batch_size: int | str | PipelineParameter | None = None,
            error_threshold: int,
            allowed_failed_count: int | None = None,
            allowed_failed_percent: float | None = None,
            output_action: str,
            append_row_file_name: str = "parallel_run_step.txt",
            compute_target: object = None,
            node_count: int | PipelineParameter = 1,
            process_count_per_node: int | PipelineParameter | None = None,
            environment: Mapping[str, str | None] | Sequence[str] | str | os.PathLike[str] | None = None,
            environment_variables: Mapping[str, str] = ...,
            logging_level: str | PipelineParameter = "INFO",
            logging_format: str = "text",
            run_invocation_timeout: float | PipelineParameter = 60,
            run_max_try: int | PipelineParameter = 3,
            partition_keys: Sequence[str] | PipelineParameter | None = None,
            description: str | None = None,
            append_row_order: str = "any",
            append_row_format: Mapping[str, Any] | None = None,
            on_failed_mini_batch: str = "fail",
            retry_backoff: float | tuple[float, float, float] = 0,
            retry_on: Sequence[str] | None = None,
            no_retry_on: Sequence[str] | None = None,
            memory_limit_per_process: int | str | None = None,
            input_cache_size: int | str | None = None,
            processes_per_gpu: int = 1,
            surplus_gpu_processes: str = "unset",
            speculative_attempts: bool = False,
        ) -> None: ...

    else:

        def __init__(self, **settings: object) -> None:
            # An unknown or missing name is one fault among the others, not a TypeError before them.
            values, faults = check_values(settings)
            values, script_faults = _placed_script(values)
            faults += script_faults + _contradictions(values)
            if faults:
                told = {fault.name for fault in faults}
                raise SettingsError([*faults, *(fault for fault in _file_faults(values) if fault.name not in told)])
            self.__dict__.update(values)

    def __repr__(self) -> str:
        shown = []
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if value != setting.default:
                shown.append(f"{name}={dict.fromkeys(value, '***')}" if setting.secret else f"{name}={value!r}")
        return f"ParallelRunConfig({', '.join(shown)})"

    def __hash__(self) -> int:
        return hash((repr(self.entry_script), self.output_action, self.source_directory))

    @property
    def script_path(self) -> Path | None:
        """Absolute path of the entry script; None where it is an object."""
        return _script_path(vars(self))

    @property
    def files_per_mini_batch(self) -> int:
        """How many files of a FileDataset a mini-batch holds.

        Raises
        ------
        SettingsError
            Where ``mini_batch_size`` has a unit, so that it can only mean bytes.
        """
        if self.mini_batch_size is None:
            return DEFAULT_FILES
        size = parse_mini_batch_size(self.mini_batch_size)
        if size.has_unit:
            allowed = "a number of files without a unit, because the inputs are a FileDataset"
            raise SettingsError([Fault("mini_batch_size", repr(self.mini_batch_size), allowed, "mini_batch_size=10")])
        return size.number

    @property
    def bytes_per_mini_batch(self) -> int:
        """How many stored bytes of a TabularDataset a mini-batch holds."""
        return DEFAULT_BYTES if self.mini_batch_size is None else parse_mini_batch_size(self.mini_batch_size).number

    @property
    def requirements(self) -> tuple[str, ...]:
        """What ``environment`` wants of each worker, read from its file where it is one.

        Raises
        ------
        SettingsError
            The file cannot be read, or a line of it is no requirement.
        """
        if isinstance(self.environment, str):
            try:
                return _requirements_in(self.environment)
            except ValueError as error:
                raise SettingsError([SETTINGS["environment"].fault(self.environment, str(error))]) from None
        return self.environment or ()

    @property
    def pipeline_parameters(self) -> dict[str, PipelineParameter]:
        """The PipelineParameters among the settings, by the setting's name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, PipelineParameter)}

    def file_faults(self) -> list[Fault]:
        """What is wrong with the files that the settings name, as of now.

        The entry script exists, is valid Python and has a ``run``; the source directory, scheduler file
        and requirements exist and can be read. The script is read, never imported.
        """
        return _file_faults(vars(self))

    def resolve(self, parameters: Mapping[str, object] | None = None) -> ParallelRunConfig:
        """The same settings with each PipelineParameter replaced by its value.

        Parameters
        ----------
        parameters
            Values by the parameters' names; a parameter that is not among them takes its default.
            Names that no setting of this config uses belong to others and are let pass.

        Raises
        ------
        SettingsError
            Where a value is not allowed for its setting.
        """
        parameters = parameters or {}
        settings = dict(vars(self))
        for name, parameter in self.pipeline_parameters.items():
            settings[name] = parameters.get(parameter.name, parameter.default_value)
        return ParallelRunConfig(**settings)

    def save_to_yaml(self, path: str | os.PathLike[str]) -> None:
        """Write every setting to a YAML file that only its owner can read.

        The file holds the values of ``environment_variables``.

        Raises
        ------
        SettingsError
            Where a setting is a live object (a Client, a cluster, an entry script object).
        """
        faults = [
            setting.fault(getattr(self, name), "which has no form in YAML")
            for name, setting in SETTINGS.items()
            if not yaml_files.is_plain(getattr(self, name))
        ]
        if faults:
            raise SettingsError(faults)
        yaml_files.write_settings(path, {name: getattr(self, name) for name in SETTINGS})

    @classmethod
    def load_yaml(cls, path: str | os.PathLike[str]) -> ParallelRunConfig:
        """Read what ``save_to_yaml`` wrote, or a file written by hand.

        Relative paths in it are relative to the file's folder.

        Raises
        ------
        SettingsError
            Where the file cannot be read or its settings cannot be used.
        """
        return cls(**yaml_files.with_paths_from(os.path.dirname(os.path.abspath(path)), yaml_files.read_settings(path)))


def _placed_script(values: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Fix where a script given by path lies: within source_directory, or at an absolute path."""
    script, source = values.get("entry_script"), values.get("source_directory")
    if not isinstance(script, str):
        return values, []
    if source is None:
        return {**values, "entry_script": os.path.abspath(script)}, []
    inside = os.path.relpath(os.path.join(source, script), source)
    if inside.split(os.sep)[0] == os.pardir:
        why = f"which lies outside of source_directory {source!r}"
        allowed = "a path within source_directory, relative to it"
        return values, [
            Fault("entry_script", f"{script!r}, {why}", allowed, f'entry_script="{os.path.basename(script)}"')
        ]
    return {**values, "entry_script": inside}, []


def _effective(value: Any) -> Any:
    return value.default_value if isinstance(value, PipelineParameter) else value


def _contradictions(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of settings that are right alone and wrong together."""
    faults = []
    if _effective(values.get("partition_keys")) and _effective(values.get("mini_batch_size")) is not None:
        allowed = "one of the two: a combination of keys is one mini-batch, whatever its size"
        faults.append(
            Fault("partition_keys", "both partition_keys and mini_batch_size", allowed, "mini_batch_size=None")
        )
    if both := sorted(set(values.get("retry_on") or ()) & set(values.get("no_retry_on") or ())):
        faults.append(
            Fault("no_retry_on", f"{', '.join(both)}, which retry_on names too", "each name in one of the two")
        )
    if values.get("output_action") == "summary_only":
        for name in ("append_row_format", "append_row_order"):
            if name in values and values[name] != SETTINGS[name].default:
                found = f"{values[name]!r} together with output_action='summary_only', which writes no rows"
                faults.append(Fault(name, found, "only with append_row", 'output_action="append_row"'))
        if values.get("speculative_attempts") is True:
            found = (
                "True together with output_action='summary_only': a script that stores its own results may be killed in"
                " the middle of that, when the second attempt is faster"
            )
            faults.append(Fault("speculative_attempts", found, "only with append_row", "speculative_attempts=False"))
    return faults


def _script_path(values: Mapping[str, Any]) -> Path | None:
    script, source = values.get("entry_script"), values.get("source_directory")
    return Path(source or "", script) if isinstance(script, str) else None


def _requirements_in(path: str) -> tuple[str, ...]:
    if not path.endswith(".txt"):
        return parse_requirements(yaml_files.read_yaml(path))
    try:
        return parse_requirements(requirement_lines(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError([Fault(path, error.strerror or str(error), "a file that can be read")]) from None


def _file_faults(values: Mapping[str, Any]) -> list[Fault]:
    faults = []
    source = values.get("source_directory")
    if source is not None and not os.path.isdir(source):
        why = "which is not a folder" if os.path.exists(source) else "which does not exist"
        faults.append(SETTINGS["source_directory"].fault(source, why))
    elif (script := _script_path(values)) is not None and (why_not := entry_script_fault(script)):
        faults.append(SETTINGS["entry_script"].fault(str(script), why_not))
    target = values.get("compute_target")
    if isinstance(target, str) and is_path(target) and not os.path.isfile(target):
        faults.append(SETTINGS["compute_target"].fault(target, "which is no scheduler's address and no existing file"))
    if isinstance(requirements := values.get("environment"), str):
        try:
            _requirements_in(requirements)
        except SettingsError as error:
            faults += [Fault("environment", f"{requirements!r}: {one.found}", one.allowed) for one in error.faults]
        except ValueError as error:
            faults.append(SETTINGS["environment"].fault(requirements, str(error)))
    return faults


ParallelRunConfig.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if setting.default is REQUIRED else setting.default,
        )
        for name, setting in SETTINGS.items()
    ]
)

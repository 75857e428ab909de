"""What a step is made of, from a YAML file, flags or both; and the step made from it.

A step file holds the settings of ``ParallelRunConfig`` by their names, and::

    name: score
    inputs: [scans]                 # a path, or a list of paths and mappings: see input_description
    output: scores
    side_inputs: {labels: labels.txt}   # or a list; a path or a mapping, as an input
    arguments: [--threshold, 0.5]

Relative paths in it are relative to its folder. Flags win over the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prs_dask.cli.flags import as_flags, settings_from_flags
from prs_dask.cli.input_description import (
    INPUT_FORMATS,
    InputDescription,
    input_from_file,
    made_dataset,
    options_from_flags,
)
from prs_dask.config import SETTINGS, SHORT_CALL_DEFAULTS, ParallelRunConfig, yaml_files
from prs_dask.config.settings import unknown_names
from prs_dask.errors import Fault, SettingsError
from prs_dask.redaction import redact_text
from prs_dask.stores import is_url

if TYPE_CHECKING:
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["StepDescription", "build_step", "describe"]

T = TypeVar("T")

_STEP_KEYS = ("name", "inputs", "input_format", "output", "side_inputs", "arguments")


@dataclass(frozen=True, slots=True)
class StepDescription:
    """A step before its settings are checked."""

    settings: Mapping[str, Any]
    name: str | None = None
    inputs: tuple[InputDescription, ...] = ()
    output: str | None = None
    side_inputs: tuple[InputDescription, ...] = ()
    arguments: tuple[object, ...] = ()
    from_file: bool = False

    @property
    def is_local(self) -> bool:
        """Will it start workers on this machine?"""
        return self.settings.get("compute_target") in (None, "local")


def describe(step_file: str | None, flags: Mapping[str, Any]) -> StepDescription:
    """Read the step file, if there is one, and lay the flags over it.

    Raises
    ------
    SettingsError
        Where the file cannot be read or has keys or inputs that cannot be understood.
    """
    described = _read_file(step_file) if step_file else StepDescription(settings={})
    settings = {**SHORT_CALL_DEFAULTS, **described.settings, **settings_from_flags(flags)}
    inputs = described.inputs
    if flags["inputs"]:
        inputs = tuple(InputDescription((path,)) for path in flags["inputs"])
    if flags["input_format"]:
        inputs = tuple(replace(one, format=flags["input_format"]) for one in inputs)
    options = options_from_flags(flags["input_options"], flags["storage_options"])
    if options:
        inputs = tuple(replace(one, options={**one.options, **options}) for one in inputs)
    side_inputs = tuple(map(_named_path, flags["side_inputs"])) or described.side_inputs
    return replace(
        described,
        settings=settings,
        inputs=inputs,
        name=flags["name"] or described.name,
        output=flags["output"] or described.output,
        side_inputs=tuple(_with_storage(one, options) for one in side_inputs),
        arguments=(*described.arguments, *flags["script_arguments"]),
    )


def _read_file(path: str) -> StepDescription:
    content = yaml_files.read_settings(path)
    folder = os.path.dirname(os.path.abspath(path))
    faults = unknown_names(content, [*_STEP_KEYS, *SETTINGS])
    default_format = _checked(content, "input_format", INPUT_FORMATS.__contains__, " or ".join(INPUT_FORMATS), faults)
    arguments = _checked(content, "arguments", _is_list, "a list of texts and numbers", faults) or []
    name = _checked(content, "name", _is_text, "a text", faults)
    output = _checked(content, "output", _is_text, "a folder's path", faults)
    side_inputs = _side_inputs(content.get("side_inputs"), folder, faults)
    inputs = [input_from_file(one, default_format or "files", folder, faults) for one in _listed(content.get("inputs"))]
    if faults:
        raise SettingsError(faults)
    settings = {key: value for key, value in content.items() if key in SETTINGS}
    return StepDescription(
        settings=yaml_files.with_paths_from(folder, settings),
        name=name,
        inputs=tuple(one for one in inputs if one is not None),
        output=None if output is None else _placed(output, folder),
        side_inputs=tuple(side_inputs),
        arguments=tuple(arguments),
        from_file=True,
    )


def _side_inputs(given: Any, folder: str, faults: list[Fault]) -> list[InputDescription]:
    pairs = list(given.items()) if isinstance(given, Mapping) else [("", one) for one in _listed(given)]
    if not all(isinstance(name, str) and (_is_text(one) or isinstance(one, Mapping)) for name, one in pairs):
        allowed = "a list of paths and mappings as of inputs, or a mapping from names to them"
        faults.append(Fault("side_inputs", redact_text(repr(given)), allowed))
        return []
    own: list[Fault] = []
    described = [
        input_from_file({"name": name, **_as_mapping(one)} if name else one, "files", folder, own)
        for name, one in pairs
    ]
    faults += map(_of_side_input, own)
    return [one for one in described if one is not None]


def _as_mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {"path": entry}


def _named_path(given: str) -> InputDescription:
    name, equals, path = given.partition("=")
    if equals and name.isidentifier() and not os.path.exists(given):
        return InputDescription((path,), options={"name": name})
    return InputDescription((given,))


def _with_storage(side_input: InputDescription, options: Mapping[str, Any]) -> InputDescription:
    """With the storage options of the flags, where it lies in a store and has none of its own."""
    if "storage_options" not in options or not any(map(is_url, side_input.paths)):
        return side_input
    options = {"storage_options": options["storage_options"], **side_input.options}
    return replace(side_input, options=options)


def _side_input(described: InputDescription) -> Any:
    """A local path as it is, unless more is told of it; else a dataset."""
    if described == InputDescription(described.paths[:1]) and not is_url(described.paths[0]):
        return described.paths[0]
    return made_dataset(described)


def _of_side_input(fault: Fault) -> Fault:
    return fault._replace(name=f"side_{fault.name}" if fault.name.startswith("inputs") else fault.name)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, (str, int, float)) for one in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _checked(
    content: Mapping[str, Any], key: str, is_right: Callable[[Any], bool], allowed: str, faults: list[Fault]
) -> Any:
    value = content.get(key)
    if value is not None and not is_right(value):
        faults.append(Fault(key, repr(value), allowed))
        return None
    return value


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _placed(path: str, folder: str) -> str:
    return path if "://" in path else os.path.join(folder, path)


def build_step(description: StepDescription) -> ParallelRunStep:
    """Make the step.

    Raises
    ------
    SettingsError
        With the faults of the settings, of the files they name and of the inputs at once.
    """
    from prs_dask.pipeline.step import ParallelRunStep

    faults: list[Fault] = []
    config = _or_faults(lambda: ParallelRunConfig(**description.settings), faults)
    inputs = _datasets(description.inputs, faults)
    own: list[Fault] = []
    side_inputs = [_or_faults(lambda one=one: _side_input(one), own) for one in description.side_inputs]  # type: ignore[misc]
    faults += map(_of_side_input, own)
    if not inputs:
        example = "inputs: [data]" if description.from_file else "--input data"
        faults.append(Fault("inputs", "nothing", "at least one file, folder or pattern", example))
    if config is not None:
        # What the constructor leaves to the step is told together with the rest.
        faults += config.file_faults()
    if config is None or faults:
        for dataset in inputs:
            if dataset is not None:
                _or_faults(dataset.check, faults)
        error = SettingsError(faults)
        raise error if description.from_file else as_flags(error)
    return ParallelRunStep(
        name=description.name or _name_from(config.script_path),
        parallel_run_config=config,
        inputs=[one for one in inputs if one is not None],
        output=description.output,
        side_inputs=side_inputs or None,
        arguments=list(description.arguments),
    )


def _datasets(described: Sequence[InputDescription], faults: list[Fault]) -> list[Any]:
    """A dataset of each; None where it cannot be made. Where there are several, faults tell of which they are."""
    made = []
    for number, one in enumerate(described):
        own: list[Fault] = []
        made.append(_or_faults(lambda one=one: made_dataset(one), own))  # type: ignore[misc]
        if len(described) > 1:
            own = [fault._replace(name=_name_within(f"inputs[{number}]", fault.name)) for fault in own]
        faults += own
    return made


def _name_within(one: str, name: str) -> str:
    return one if name == "inputs" else f"{one}: {name.removeprefix('inputs: ')}"


def _or_faults(make: Callable[[], T], faults: list[Fault]) -> T | None:
    try:
        return make()
    except SettingsError as error:
        faults += error.faults
        return None


def _name_from(script: Path | None) -> str:
    """A step's name from its script's: ``Score Wine_2.py`` gives ``score-wine-2``."""
    stem = script.stem if script is not None else ""
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:32].strip("-")
    return name if re.fullmatch(r"[a-z][-a-z0-9]{1,30}[a-z0-9]", name) else f"step-{name}"[:32].strip("-")

"""What ``run.json`` holds of a step run: enough to make the step again, and to name what has changed. Pure.

Secrets are not in it. Where one stood there is a salted hash, which tells whether it has changed, or, of an option
that named an environment variable (``${env:NAME}``), that text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.config import SETTINGS, ParallelRunConfig, SSHTarget, longer_interval, split_arguments
from prs_dask.datasets import Dataset
from prs_dask.datasets.description import description_of
from prs_dask.output.row_format import RowFormat
from prs_dask.pipeline.outputs import OutputFileDatasetConfig
from prs_dask.pipeline.own_places import own_places
from prs_dask.redaction import is_place, is_secret_name, redact_settings, redact_text, salted_hash

if TYPE_CHECKING:
    from prs_dask.pipeline.preparation import Preparation
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = [
    "BY_CONTENT",
    "FORMAT",
    "arguments_record",
    "fingerprint",
    "input_record",
    "run_record",
    "script_arguments",
    "utc_now",
]

FORMAT = 1
"""Of ``run.json``; what has another one is refused."""

BY_CONTENT = ("entry_script", "append_row_format")
"""Settings that are compared by what becomes of them: ``script``, ``row_format``."""

_VARIABLE = re.compile(r"\$\{env:[^}]*\}")


def run_record(
    step: ParallelRunStep,
    config: ParallelRunConfig,
    preparation: Preparation,
    *,
    run_id: str,
    run_folder: Path,
    output_folder: Path,
    compute_target: Any,
    salt: bytes,
) -> dict[str, Any]:
    """All of it.

    Parameters
    ----------
    compute_target
        The one that is used, whoever said so.
    salt
        For the hashes that stand in place of secrets.
    """
    from prs_dask import __version__

    side_inputs = [
        input_record(one, salt) if isinstance(one, Dataset) else {"path": os.path.abspath(os.fspath(one))}  # type: ignore[call-overload]
        for one in step.side_inputs
    ]
    return {
        "format": FORMAT,
        "salt": salt.hex(),
        "prs_dask": __version__,
        "run_id": run_id,
        "name": step.name,
        "created": utc_now(),
        "run_folder": str(run_folder),
        "output": str(output_folder),
        "own_places": own_places(step, run_folder),
        "script": preparation.source.script if preparation.source is not None else _plain(config.entry_script),
        "row_format": None if preparation.rows is None else _row_format(preparation.rows),
        "arguments": arguments_record(step.arguments, salt),
        "inputs": [input_record(dataset, salt) for dataset in step.inputs],
        "side_inputs": side_inputs,
        "settings": redact_settings(_settings(config, compute_target, step.inputs[0].kind), salt),
    }


def _settings(config: ParallelRunConfig, compute_target: Any, kind: str) -> dict[str, Any]:
    """The settings by name; a live object as ``{"object": its type}``."""
    values = {**vars(config), "compute_target": compute_target}
    if not config.partition_keys:
        values["mini_batch_size"] = config.files_per_mini_batch if kind == "file" else config.bytes_per_mini_batch
    return {name: _plain(values[name]) for name in SETTINGS}


def _row_format(rows: RowFormat) -> dict[str, Any]:
    return {**rows.to_csv, "header line": rows.header}


def fingerprint(record: Mapping[str, Any], source_digest: str | None) -> dict[str, str]:
    """For the journal's header: hashes of what a resume has to find unchanged.

    Settings that have their default are left out, so that later versions with more settings find the same.
    """
    settings = record["settings"]
    same = {
        name: settings[name]
        for name, setting in SETTINGS.items()
        if setting.same_on_resume and name not in BY_CONTENT and settings[name] != setting.default
    }
    told = [same, record["row_format"], record["script"], script_arguments(record)]
    text = json.dumps(told, sort_keys=True)
    return {"settings": hashlib.sha256(text.encode()).hexdigest(), "source": source_digest or "object"}


def script_arguments(record: Mapping[str, Any]) -> list[Any]:
    """Without the engine's own options, which are limits; what they say of rows stands in ``row_format``."""
    return split_arguments(longer_interval(record["arguments"])[0])[1]


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, SSHTarget) and (mapping := value.as_mapping()) is not None:
        return mapping
    if value is None or isinstance(value, (str, int, float, bool, dict, list, tuple)):
        return value
    return {"object": f"{type(value).__module__}.{type(value).__qualname__}"}


def input_record(dataset: Dataset, salt: bytes) -> dict[str, Any]:
    """A dataset in the words of a step file, without secrets."""
    described = description_of(dataset)
    templates = dataset.templates
    record: dict[str, Any] = {}
    for name, value in described.items():
        if name in ("storage_options", "parameters"):
            template = templates.get(name)
            record[name] = _hidden(value, template if isinstance(template, Mapping) else {}, salt)
        elif name == "connection" and _is_template(templates.get(name)):
            record[name] = templates[name]
        else:
            record[name] = _without_secret(value, salt)
    return record


def _hidden(values: Mapping[str, Any], templates: Mapping[str, Any], salt: bytes) -> dict[str, Any]:
    """Options of a store, or parameters of a query: only what tells a place, or yes and no, is kept."""
    hidden: dict[str, Any] = {}
    for name, value in values.items():
        template = templates.get(name)
        if isinstance(value, Mapping):
            hidden[name] = _hidden(value, template if isinstance(template, Mapping) else {}, salt)
        elif _is_template(template):
            hidden[name] = template
        else:
            hidden[name] = value if _is_no_secret(name, value) else salted_hash(value, salt)
    return hidden


def _is_no_secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return True
    return is_place(name) and isinstance(value, str) and redact_text(value) == value


def _is_template(value: object) -> bool:
    return isinstance(value, str) and _VARIABLE.search(value) is not None


def _without_secret(value: Any, salt: bytes) -> Any:
    if isinstance(value, str):
        return salted_hash(value, salt) if redact_text(value) != value else value
    if isinstance(value, (list, tuple)):
        return [_without_secret(one, salt) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _without_secret(one, salt) for name, one in value.items()}
    return value


def arguments_record(arguments: Sequence[object], salt: bytes) -> list[Any]:
    """The step's arguments as texts; a dataset as ``{"dataset": ...}``, an output as ``{"output": folder}``.

    A secret is what looks like one, and what follows an option with the name of one (``--password``).
    """
    record: list[Any] = []
    follows = False
    for argument in arguments:
        if isinstance(argument, Dataset):
            record.append({"dataset": input_record(argument, salt)})
        elif isinstance(argument, OutputFileDatasetConfig):
            place = argument.destination
            record.append({"output": None if place is None else os.fspath(place)})
        else:
            text = os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument)
            name, equals, _ = text.partition("=")
            secret = follows or (bool(equals) and _names_a_secret(name)) or redact_text(text) != text
            record.append(salted_hash(text, salt) if secret else text)
            follows = not equals and _names_a_secret(text)
            continue
        follows = False
    return record


def _names_a_secret(option: str) -> bool:
    return option.startswith("-") and is_secret_name(option.lstrip("-"))


def utc_now() -> str:
    """The time, as it is written into files."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

"""One input of a step, as a step file or flags describe it, and the dataset made from it.

In a step file an input is a path, or a mapping::

    inputs:
      - path: data/*.csv            # or a list of paths
        format: delimited           # files (default), delimited, jsonlines, parquet, mltable, sql
        name: sales                 # as mini_batch_context.dataset tells it
        separator: ";"              # and any other option of the dataset of that format
        storage_options: {account_name: sales, account_key: "${env:SALES_KEY}"}
      - {format: sql, connection: "${env:DATABASE}", query: select * from sales}

``${env:NAME}`` in an option is the value of an environment variable, so that no secret has to stand in
a file or on a command line.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prs_dask.config.settings import unknown_names
from prs_dask.errors import Fault, SettingsError
from prs_dask.redaction import is_secret_name, redact_text

__all__ = [
    "INPUT_FORMATS",
    "InputDescription",
    "input_from_file",
    "made_dataset",
    "options_from_flags",
    "with_variables",
]

_FACTORIES = {
    "files": ("FileDataset", "from_files"),
    "delimited": ("TabularDataset", "from_delimited_files"),
    "jsonlines": ("TabularDataset", "from_json_lines_files"),
    "parquet": ("TabularDataset", "from_parquet_files"),
    "mltable": ("TabularDataset", "from_mltable"),
    "sql": ("TabularDataset", "from_sql_query"),
}
INPUT_FORMATS = tuple(_FACTORIES)

_VARIABLE = re.compile(r"\$\{env:([^}]*)\}")
_TEXTS = ("separator", "header", "encoding", "partition_format", "mode", "query", "name")
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class InputDescription:
    """One input: its paths, its format, and the options of its dataset. ``repr`` shows no option."""

    paths: tuple[str, ...]
    format: str = "files"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def input_from_file(entry: object, default_format: str, folder: str, faults: list[Fault]) -> InputDescription | None:
    """An entry of a step file's ``inputs``; relative paths in it are relative to ``folder``."""
    options = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
    kind = options.pop("format", default_format)
    if kind not in INPUT_FORMATS:
        faults.append(Fault("inputs: format", repr(kind), " or ".join(INPUT_FORMATS)))
        return None
    if kind == "sql":
        connection = options.get("connection")
        if isinstance(connection, str) and connection.startswith(_SQLITE):
            database = connection.removeprefix(_SQLITE)
            if not database.startswith(("${env:", "file:")):
                options["connection"] = f"{_SQLITE}{os.path.join(folder, database)}"
        return InputDescription((), kind, options)
    given = options.pop("path", None)
    paths: list[Any] = given if isinstance(given, list) else [given]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        example = "{path: data/*.csv, format: delimited}"
        found = repr(given) if isinstance(entry, Mapping) else repr(entry)
        faults.append(Fault("inputs", found, "a path, or a mapping with path and format", example))
        return None
    placed = (path if "://" in path else os.path.join(folder, path) for path in paths)
    return InputDescription(tuple(placed), kind, options)


def options_from_flags(given: Sequence[str], storage: Sequence[str]) -> dict[str, Any]:
    """The options that ``--input-option`` and ``--storage-option`` give, each as NAME=VALUE.

    Raises
    ------
    SettingsError
        One is no such pair, or a secret stands in it as it is.
    """
    faults: list[Fault] = []
    options = dict(_pairs("--input-option", given, faults))
    if storage:
        options["storage_options"] = dict(_pairs("--storage-option", storage, faults))
    if faults:
        raise SettingsError(faults)
    return options


def _pairs(flag: str, given: Sequence[str], faults: list[Fault]) -> list[tuple[str, Any]]:
    pairs = []
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name:
            faults.append(Fault(flag, repr(name), "NAME=VALUE", f"{flag} separator=';'"))
        elif _is_secret(name, text) and not _VARIABLE.search(text):
            allowed = "the name of an environment variable: every user of the machine can see a command line"
            variable = re.sub(r"\W", "_", name).upper()
            faults.append(
                Fault(f"{flag} {name}", "a secret (not shown)", allowed, f"{flag} '{name}=${{env:{variable}}}'")
            )
        else:
            pairs.append((name, _value(name, text)))
    return pairs


def _is_secret(name: str, text: str) -> bool:
    return is_secret_name(name) or redact_text(text) != text


def _value(name: str, text: str) -> Any:
    """A flag's value: text where the option wants text, else what YAML makes of it."""
    if name == "separator":
        return text.replace("\\t", "\t")
    if name in _TEXTS or _VARIABLE.search(text):
        return text
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (bool, dict, list)) else text


def made_dataset(described: InputDescription) -> Any:
    """The dataset.

    Raises
    ------
    SettingsError
        An option is not known or cannot be used, or a variable is not set.
    """
    import prs_dask

    options = with_variables(described.options)
    class_name, method = _FACTORIES[described.format]
    factory = getattr(getattr(prs_dask, class_name), method)
    known = _options_of(described.format)
    faults = [
        _of_another_format(fault, described.format) or Fault(f"inputs: {fault.name}", *fault[1:])
        for fault in unknown_names(options, known)
    ]
    name = options.pop("name", None)
    if name is not None and (not isinstance(name, str) or not name):
        faults.append(Fault("inputs: name", repr(name), "a text"))
    arguments: list[Any] = []
    if described.format == "sql":
        faults += _sql_arguments(described, options, arguments)
    elif described.format == "mltable" and len(described.paths) != 1:
        faults.append(
            Fault("inputs", f"{len(described.paths)} MLTable folders in one input", "one", "an input for each")
        )
    else:
        arguments = [described.paths[0] if len(described.paths) == 1 else list(described.paths)]
    if faults:
        raise SettingsError(faults)
    if described.format == "mltable":
        from prs_dask.datasets.mltable import read_mltable

        factory = read_mltable  # files or a table, as the file says
    dataset = replace(factory(*arguments, **options), templates=_templates(described))
    return dataset.as_named_input(name) if name else dataset


def _templates(described: InputDescription) -> dict[str, Any]:
    """Options that name variables of the environment, as they were written; of SQL the connection, too."""
    given = dict(described.options)
    if described.format == "sql" and described.paths:
        given.setdefault("connection", described.paths[0])
    return _only_templates(given)


def _only_templates(options: Mapping[str, Any]) -> dict[str, Any]:
    templates: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            templates |= {name: inner} if (inner := _only_templates(value)) else {}
        elif isinstance(value, str) and _VARIABLE.search(value):
            templates[name] = value
    return templates


def _options_of(kind: str) -> list[str]:
    import prs_dask

    class_name, method = _FACTORIES[kind]
    parameters = inspect.signature(getattr(getattr(prs_dask, class_name), method)).parameters
    return ["name", *(name for name in parameters if name not in ("path", "folder"))]


def _of_another_format(fault: Fault, kind: str) -> Fault | None:
    """Of an option that another format has: most likely the format was forgotten."""
    others = [other for other in INPUT_FORMATS if fault.name in _options_of(other)]
    if not others:
        return None
    found = f"an option of format {' or '.join(others)}, but the input's format is {kind}"
    allowed = f"its options: {', '.join(_options_of(kind))}"
    return Fault(f"inputs: {fault.name}", found, allowed, f"format: {others[0]} (or --input-format {others[0]})")


def _sql_arguments(described: InputDescription, options: dict[str, Any], arguments: list[Any]) -> list[Fault]:
    """Connection and query, out of the options; with flags the connection is the path."""
    faults = []
    if described.paths:
        options.setdefault("connection", with_variables(described.paths[0]))
        if redact_text(described.paths[0]) != described.paths[0]:
            allowed = "the name of an environment variable: every user of the machine can see a command line"
            faults.append(Fault("--input", "a URL with a password (not shown)", allowed, "--input '${env:DATABASE}'"))
    for name, example in (("connection", "${env:DATABASE}"), ("query", "select * from sales")):
        if name not in options:
            faults.append(Fault(f"inputs: {name}", "nothing", "a text", f"{name}: {example}"))
        arguments.append(options.pop(name, None))
    return faults


def with_variables(value: Any) -> Any:
    """The value with each ``${env:NAME}`` in its texts replaced.

    Raises
    ------
    SettingsError
        With a fault for each variable that is not set.
    """
    faults: list[Fault] = []
    filled = _filled(value, faults)
    if faults:
        raise SettingsError(faults)
    return filled


def _filled(value: Any, faults: list[Fault]) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(one, faults) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, faults) for one in value]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in os.environ:
            faults.append(Fault(f"inputs: ${{env:{name}}}", "no such variable", "an environment variable that is set"))
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], ""), value)

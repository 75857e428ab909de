"""MLTable folders: a YAML file ``MLTable`` that says which files are a table, and how they are read.

The file's format is Azure Machine Learning's. What is understood here is what can be done block by block;
everything else (``filter``, ``take``, ``skip``, samples, Delta Lake) is refused, never passed over.

A file without a ``read_...`` transformation means files rather than a table: a FileDataset.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from prs_dask.config.yaml_files import read_yaml
from prs_dask.datasets.columns import ColumnChange
from prs_dask.datasets.dataset import Dataset, PathLike
from prs_dask.datasets.file_dataset import FileDataset
from prs_dask.datasets.glob_pattern import is_pattern
from prs_dask.datasets.tabular_dataset import TabularDataset
from prs_dask.errors import Fault, InputError, SettingsError

__all__ = ["FILE_NAME", "read_mltable"]

FILE_NAME = "MLTable"

Options: TypeAlias = Mapping[str, Any]

_KEYS = ("$schema", "type", "paths", "transformations", "metadata")
_PLACES = ("file", "folder", "pattern")
_READERS = {
    "read_delimited": (
        "delimiter", "encoding", "header", "support_multi_line", "include_path_column", "infer_column_types",
        "empty_as_string", "path_column", "partition_size",
    ),
    "read_json_lines": ("encoding", "include_path_column", "invalid_lines", "path_column", "partition_size"),
    "read_parquet": ("include_path_column", "path_column"),
}  # fmt: skip
_OTHERS = ("extract_columns_from_partition_format", "keep_columns", "drop_columns", "convert_column_types")
_HEADERS = {
    "no_header": "no_headers",
    "from_first_file": "only_first_file",
    "all_files_same_headers": "all_files_same_headers",
    "all_files_different_headers": "all_files_same_headers",  # each file's own is read in any case
}
_ENCODINGS = {
    "utf8": "utf-8", "utf8bom": "utf-8-sig", "ascii": "ascii", "latin1": "latin-1", "iso88591": "latin-1",
    "windows1252": "cp1252", "utf16": "utf-16", "utf32": "utf-32",
}  # fmt: skip
_TYPES = {"int": "Int64", "float": "float64", "string": "str", "boolean": "boolean", "datetime": "datetime"}


class _Table(NamedTuple):
    """What an MLTable file says."""

    paths: list[str]
    reader: str | None
    options: dict[str, Any]
    changes: tuple[ColumnChange, ...]


def read_mltable(folder: PathLike, storage_options: Mapping[str, Any] | None = None) -> Dataset:
    """The dataset that an MLTable folder means: a TabularDataset, or a FileDataset where nothing reads the files.

    Parameters
    ----------
    folder
        The folder, or the ``MLTable`` file in it.
    storage_options
        For the stores of its paths.

    Raises
    ------
    SettingsError
        The file is missing, or something in it is not understood; everything at once.
    """
    file = _file_of(folder)
    faults: list[Fault] = []
    table = _parsed(read_yaml(file), os.path.dirname(file), faults)
    if faults:
        raise SettingsError(faults)
    make: dict[str | None, Callable[..., Dataset]] = {
        None: FileDataset.from_files,
        "read_delimited": TabularDataset.from_delimited_files,
        "read_json_lines": TabularDataset.from_json_lines_files,
        "read_parquet": TabularDataset.from_parquet_files,
    }
    dataset = make[table.reader](table.paths, storage_options=storage_options, **table.options)
    if isinstance(dataset, TabularDataset):
        dataset = replace(dataset, spec=dataset.spec._replace(changes=table.changes))
    return replace(dataset, left_out=frozenset([file]))


def _file_of(folder: PathLike) -> str:
    text = os.fspath(folder)
    if not isinstance(text, str) or not text or "://" in text.removeprefix("file://"):
        raise InputError([Fault("folder", repr(text), "a local folder that holds a file MLTable", "'data/iris'")])
    path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
    file = path if os.path.basename(path) == FILE_NAME and not os.path.isdir(path) else os.path.join(path, FILE_NAME)
    if not os.path.isfile(file):
        raise InputError([Fault("folder", f"{path!r}, in which there is no file {FILE_NAME}", "an MLTable folder")])
    return file


def _parsed(content: Any, folder: str, faults: list[Fault]) -> _Table:
    if not isinstance(content, Mapping):
        faults.append(Fault(FILE_NAME, "no mapping", "a mapping with paths and transformations"))
        return _Table([], None, {}, ())
    for key in content:
        if key not in _KEYS:
            faults.append(Fault(f"{FILE_NAME}: {key}", "an unknown key", ", ".join(_KEYS)))
    if content.get("type", "mltable") != "mltable":
        faults.append(Fault(f"{FILE_NAME}: type", repr(content["type"]), "mltable"))
    reader: str | None = None
    options: dict[str, Any] = {}
    dtypes: dict[str, str] = {}
    changes: list[ColumnChange] = []
    for name, value in _transformations(content.get("transformations"), faults):
        if name in _READERS:
            if reader is not None:
                faults.append(Fault(name, f"a second reader after {reader}", "one read_... transformation"))
            reader = name
            options |= _reader_options(name, value, faults)
        elif name == "extract_columns_from_partition_format":
            options["partition_format"] = _partition_format(value, faults)
        elif name == "convert_column_types":
            converted = _conversions(value, faults)
            changes += converted
            # Read as text, so that no type is inferred in between ("007" stays what it is).
            dtypes |= {column: "str" for change in converted for column in change.columns}
        else:
            changes.append(ColumnChange("keep" if name == "keep_columns" else "drop", _names(name, value, faults)))
    if reader is None and changes:
        faults.append(Fault("transformations", "changes of columns without a reader", ", ".join(_READERS)))
    if reader == "read_delimited" and dtypes and not isinstance(options.get("dtype"), str):
        options["dtype"] = options.get("dtype", {}) | dtypes
    return _Table(_paths(content.get("paths"), folder, faults), reader, options, tuple(changes))


def _transformations(entries: Any, faults: list[Fault]) -> list[tuple[str, Any]]:
    known = (*_READERS, *_OTHERS)
    found: list[tuple[str, Any]] = []
    for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else [entries]:
        if isinstance(entry, str):
            entry = {entry: None}
        if isinstance(entry, Mapping) and len(entry) == 1 and next(iter(entry)) in known:
            found += entry.items()
        elif entry is not None:
            shown = next(iter(entry), "") if isinstance(entry, Mapping) else entry
            faults.append(Fault("transformations", repr(shown), f"one of {', '.join(known)}"))
    return found


def _paths(entries: Any, folder: str, faults: list[Fault]) -> list[str]:
    found: list[str] = []
    for entry in entries if isinstance(entries, list) else []:
        place = next(iter(entry), None) if isinstance(entry, Mapping) and len(entry) == 1 else None
        path = entry[place] if place in _PLACES else None
        if not isinstance(path, str) or not path:
            faults.append(
                Fault("paths", repr(entry), "{file: ...}, {folder: ...} or {pattern: ...}", "- file: ./a.csv")
            )
        else:
            found.append(_placed(path, folder))
    if not found and not faults:
        faults.append(Fault("paths", "nothing", "a list of files, folders and patterns", "- pattern: ./*.csv"))
    return found


def _placed(path: str, folder: str) -> str:
    if "://" in path or os.path.isabs(path):
        return path
    literal = os.path.normpath(os.path.join(folder, path))
    if os.path.lexists(literal) or not is_pattern(path):
        return literal
    return os.path.join(glob.escape(folder), os.path.normpath(path))


def _reader_options(name: str, value: Any, faults: list[Fault]) -> dict[str, Any]:
    given = value if isinstance(value, Mapping) else {}
    if value is not None and not isinstance(value, Mapping):
        faults.append(Fault(name, repr(value), "a mapping of options"))
    for option in given:
        if option not in _READERS[name]:
            faults.append(Fault(f"{name}: {option}", "an unknown option", ", ".join(_READERS[name])))
    options: dict[str, Any] = {"include_path": _choice(name, given, "include_path_column", False, faults)}
    if given.get("path_column") not in (None, "Path"):
        faults.append(Fault(f"{name}: path_column", repr(given["path_column"]), "Path"))
    if "encoding" in given:
        options["encoding"] = _one_of(name, "encoding", given["encoding"], _ENCODINGS, faults)
    if given.get("invalid_lines", "error") != "error":
        faults.append(Fault(f"{name}: invalid_lines", repr(given["invalid_lines"]), "error: no line is passed over"))
    if name == "read_delimited":
        options |= _delimited_options(given, faults)
    return options


def _delimited_options(given: Options, faults: list[Fault]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "delimiter" in given:
        options["separator"] = str(given["delimiter"])
    if "header" in given:
        options["header"] = _one_of("read_delimited", "header", given["header"], _HEADERS, faults)
    if "support_multi_line" in given:
        options["support_multi_line"] = _choice("read_delimited", given, "support_multi_line", False, faults)
    if given.get("empty_as_string", False) is not False:
        faults.append(Fault("read_delimited: empty_as_string", repr(given["empty_as_string"]), "false"))
    infer = given.get("infer_column_types", True)
    if isinstance(infer, Mapping):  # {sample_size: ..., column_type_overrides: {...}}
        overrides = infer.get("column_type_overrides") or {}
        options["dtype"] = {
            column: _one_of("infer_column_types", column, kind, _TYPES, faults) for column, kind in overrides.items()
        }
    elif infer is False or infer == "False":
        options["dtype"] = "str"
    elif infer not in (True, "True"):
        faults.append(Fault("read_delimited: infer_column_types", repr(infer), "true or false"))
    return options


def _choice(where: str, given: Options, name: str, default: bool, faults: list[Fault]) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        faults.append(Fault(f"{where}: {name}", repr(value), "true or false"))
    return bool(value)


def _one_of(where: str, name: str, value: Any, known: Mapping[str, str], faults: list[Fault]) -> str | None:
    if isinstance(value, str) and value in known:
        return known[value]
    faults.append(Fault(f"{where}: {name}", repr(value), ", ".join(known)))
    return None


def _partition_format(value: Any, faults: list[Fault]) -> str | None:
    if isinstance(value, Mapping) and list(value) == ["partition_format"]:
        value = value["partition_format"]
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) is None:
        value = f"{{{next(iter(value))}}}"  # {day:yyyy/MM/dd} without quotes is a mapping to YAML
    if isinstance(value, str):
        return value
    allowed = "a text with the keys in braces"
    faults.append(Fault("extract_columns_from_partition_format", repr(value), allowed, "'{region}/{day:yyyy/MM/dd}'"))
    return None


def _names(name: str, value: Any, faults: list[Fault]) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(one, str) for one in names):
        return tuple(names)
    faults.append(Fault(name, repr(value), "a column's name, or a list of names", f"{name}: [id, amount]"))
    return ()


def _conversions(value: Any, faults: list[Fault]) -> list[ColumnChange]:
    changes = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping) or set(entry) != {"columns", "column_type"}:
            faults.append(Fault("convert_column_types", repr(entry), "mappings with columns and column_type"))
            continue
        columns = _names("convert_column_types: columns", entry["columns"], faults)
        kind, formats = entry["column_type"], ()
        if isinstance(kind, Mapping) and list(kind) == ["datetime"] and isinstance(kind["datetime"], Mapping):
            formats, kind = tuple(kind["datetime"].get("formats") or ()), "datetime"
        wanted = _one_of("convert_column_types", "column_type", kind, _TYPES, faults)
        if wanted == "datetime" and not (formats and all(isinstance(one, str) for one in formats)):
            example = "{datetime: {formats: ['%d/%m/%Y']}}"
            faults.append(Fault("convert_column_types: datetime", "no formats", "one or more formats", example))
        elif wanted is not None:
            changes.append(ColumnChange(wanted, columns, formats))
    return changes

"""Settings in YAML files: read with safe types only, and without silent surprises.

A key that stands twice is an error here (YAML readers take the last one without a word).
A PipelineParameter is written as ``{pipeline_parameter: {name: n, default_value: 10}}``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from prs_dask.config.compute_target import is_path
from prs_dask.config.pipeline_parameter import PipelineParameter
from prs_dask.config.ssh_target import SSHTarget
from prs_dask.errors import Fault, SettingsError

__all__ = ["is_plain", "read_settings", "read_yaml", "with_paths_from", "write_settings"]

_PARAMETER = "pipeline_parameter"
_LARGEST_FILE = 16 * 1024**2
_PATHS = ("source_directory", "entry_script", "environment", "compute_target")


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of a YAML file.

    Raises
    ------
    SettingsError
        Where it cannot be opened, is no YAML, or has a key twice; with the line.
    """
    import yaml

    name = os.fspath(path)
    try:
        if os.path.getsize(path) > _LARGEST_FILE:
            raise SettingsError([Fault(name, "more than 16 MB", "a YAML file of settings")])
        with open(path, "rb") as file:
            return yaml.load(file, _loader())  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError([Fault(name, error.strerror or str(error), "a YAML file that can be read")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise SettingsError([Fault(name, f"{where}{problem}", "valid YAML")]) from None


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping of names to values in a YAML file; PipelineParameters are brought back.

    Raises
    ------
    SettingsError
        As ``read_yaml``, and where the file holds no such mapping.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        example = "entry_script: score.py"
        raise SettingsError([Fault(os.fspath(path), found, "a mapping of settings and their values", example)])
    return {name: _read_back(value) for name, value in content.items()}


def _read_back(value: object) -> object:
    if isinstance(value, Mapping) and set(value) == {_PARAMETER}:
        fields = value[_PARAMETER]
        if not isinstance(fields, Mapping) or not {"name"} <= set(fields) <= {"name", "default_value"}:
            allowed = "a mapping with name and default_value"
            raise SettingsError([Fault(_PARAMETER, repr(fields), allowed, "{name: size, default_value: 10}")])
        return PipelineParameter(**fields)
    return value


def with_paths_from(folder: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with relative paths taken from a folder, that of the YAML file."""
    placed = dict(settings)
    for name in _PATHS:
        value = placed.get(name)
        if name == "compute_target" and isinstance(value, Mapping) and isinstance(value.get("ssh"), Mapping):
            placed[name] = {**value, "ssh": _ssh_with_paths_from(folder, value["ssh"])}
        if not isinstance(value, str) or (name == "entry_script" and placed.get("source_directory") is not None):
            continue
        if name == "compute_target" and not is_path(value):
            continue
        placed[name] = os.path.join(folder, value) if value else value
    return placed


def _ssh_with_paths_from(folder: str, ssh: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and known hosts; Python's path is one of the hosts."""

    def place(value: object) -> object:
        if isinstance(value, list):
            return [place(one) for one in value]
        return os.path.join(folder, os.path.expanduser(value)) if isinstance(value, str) and value else value

    return {name: place(value) if name in ("keys", "known_hosts") else value for name, value in ssh.items()}


def is_plain(value: object) -> bool:
    """Can YAML hold this value and bring the same one back?"""
    if isinstance(value, SSHTarget):
        return value.as_mapping() is not None
    if isinstance(value, PipelineParameter):
        return is_plain(value.default_value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, (tuple, list)):
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (str, int, float, bool)


def write_settings(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write settings for ``read_settings``; the file is readable by its owner only."""
    import yaml

    content = yaml.safe_dump(
        {name: _plain(value) for name, value in settings.items()}, sort_keys=False, allow_unicode=True
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)


def _plain(value: Any) -> Any:
    if isinstance(value, SSHTarget):
        return value.as_mapping()
    if isinstance(value, PipelineParameter):
        return {_PARAMETER: {"name": value.name, "default_value": _plain(value.default_value)}}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value


def _loader() -> type[Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """A SafeLoader that refuses a key that stands twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[object] = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, (str, int, float)) and key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key} stands there twice", key_node.start_mark
                    )
                if isinstance(key, (str, int, float)):
                    seen.add(key)
            return super().construct_mapping(node, deep)

    return Loader

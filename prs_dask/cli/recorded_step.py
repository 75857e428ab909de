"""The step of an earlier step run, made again from ``run.json``; flags lie over what stands there.

What was a secret stands nowhere: it comes from the environment, where the step named a variable, or is given again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prs_dask.cli.flags import as_flags, settings_from_flags
from prs_dask.cli.input_description import InputDescription, made_dataset, options_from_flags
from prs_dask.cli.terminal_text import tell_error
from prs_dask.config import ParallelRunConfig, longer_interval, split_arguments
from prs_dask.errors import Fault, SettingsError
from prs_dask.redaction import is_salted_hash, salted_hash

if TYPE_CHECKING:
    from prs_dask.pipeline.recorded_run import RecordedRun
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["recorded_step"]

_NOT_OPTIONS = ("format", "path", "path_on_compute", "database", "table", "changes")
"""Of an input's record: what is no option of its dataset."""


@contextmanager
def recorded_step(run: RecordedRun, flags: Mapping[str, Any], *, as_sent: bool = False) -> Iterator[ParallelRunStep]:
    """The step, to be used within the context: a source that is gone is there for so long.

    Parameters
    ----------
    run
        As it was read.
    flags
        The command's parameters.
    as_sent
        The source is the one that was sent, also where what lies there now has changed.

    Raises
    ------
    SettingsError
        Something was never written down and has to be given again, or only the program that made the step can
        go on with it; everything at once.
    """
    from prs_dask.logs.resume_hint import only_in_python
    from prs_dask.pipeline.step import ParallelRunStep

    record = run.record
    if found := only_in_python(record):
        allowed = "a step that files describe; the program that made this one can go on with it"
        example = f"step.submit(resume={str(run.folder.path)!r})"
        raise SettingsError([Fault("run_folder", "; ".join(found), allowed, example)])
    faults: list[Fault] = []
    with TemporaryDirectory(prefix="prs-source-") as folder:
        settings = {**record["settings"], **settings_from_flags(flags)}
        settings["environment_variables"] = _variables(record, settings, run.salt, faults)
        _check_target(settings, faults)
        archive = run.folder.source_zip
        if archive.is_file() and (_is_changed(run, settings) if as_sent else not _script(settings).exists()):
            _bring_source(settings, record, archive, Path(folder))
        options = options_from_flags(flags["input_options"], flags["storage_options"])
        inputs = [_dataset(one, f"inputs[{number}]", options, faults) for number, one in enumerate(record["inputs"])]
        side_inputs = [_side_input(one, options, faults) for one in record.get("side_inputs", ())]
        arguments, too_short = longer_interval(_arguments(record, flags["script_arguments"], options, faults))
        if too_short:
            tell_error(f"--resource_monitor_interval: found {too_short}; it is 1 second at least, and so from here on")
        if faults:
            raise SettingsError(faults)
        try:
            config = ParallelRunConfig(**settings)
        except SettingsError as error:
            raise as_flags(error) from None
        yield ParallelRunStep(record["name"], config, inputs, record["output"], side_inputs, arguments)


def _variables(
    record: Mapping[str, Any], settings: Mapping[str, Any], salt: bytes, faults: list[Fault]
) -> dict[str, str]:
    """Values of the environment variables: given again, or found here unchanged."""
    before, given = record["settings"].get("environment_variables") or {}, settings["environment_variables"]
    values: dict[str, str] = {name: value for name, value in given.items() if not is_salted_hash(value)}
    for name, hashed in before.items():
        if name in values:
            continue
        if name in os.environ and salted_hash(os.environ[name], salt) == hashed:
            values[name] = os.environ[name]
        else:
            found = f"{name}, whose value was never written down, and which this environment has not as it was"
            example = f"--environment-variables {name}=..., or {name} to take it from this environment"
            faults.append(Fault("--environment-variables", found, "its value", example))
    return values


def _check_target(settings: Mapping[str, Any], faults: list[Fault]) -> None:
    target = settings.get("compute_target")
    if not isinstance(target, Mapping) or "object" not in target:
        return
    found = f"a live object ({target['object']}) when the step run began"
    allowed, example = "the address of a scheduler, or local", "tcp://host:8786"
    if str(target["object"]).endswith(".SSHTarget"):
        found = "an SSHTarget with a security of its own, which was never written down"
        allowed = "its hosts, for which certificates are made; or step.submit(resume=...) in a program that has them"
        example = "ssh://node1,node2"
    faults.append(Fault("--compute-target", found, allowed, f"--compute-target {example}"))


def _script(settings: Mapping[str, Any]) -> Path:
    """Where the entry script lay."""
    return Path(settings.get("source_directory") or "", settings["entry_script"])


def _is_changed(run: RecordedRun, settings: Mapping[str, Any]) -> bool:
    """Is the source that lies there another one than was sent?"""
    from zipfile import BadZipFile

    from prs_dask.pipeline.source import changed_files, pack_source

    folder = settings.get("source_directory")
    try:
        own_places = run.record.get("own_places", ())
        now = pack_source(_script(settings), None if folder is None else Path(folder), own_places)
        return bool(changed_files(run.folder.source_zip.read_bytes(), now.data))
    except (OSError, SettingsError, BadZipFile):
        return True


def _bring_source(settings: dict[str, Any], record: Mapping[str, Any], archive: Path, folder: Path) -> None:
    """The source that the run folder keeps takes the place of the one that was packed."""
    from prs_dask.pipeline.source import unpack_source

    unpack_source(archive.read_bytes(), folder)
    if settings.get("source_directory") is not None:
        settings["source_directory"], settings["entry_script"] = str(folder), record["script"]
    else:
        settings["entry_script"] = str(folder / record["script"])


def _dataset(record: Mapping[str, Any], where: str, given: Mapping[str, Any], faults: list[Fault]) -> Any:
    options = {name: value for name, value in record.items() if name not in _NOT_OPTIONS}
    for name in ("storage_options", "parameters"):
        if name in options:
            options[name] = _filled_in(options[name], given.get(name, {}), f"{where}: {name}", faults)
    if "connection" in options and "connection" in given:
        options["connection"] = given["connection"]
    for name in ("connection", "path", "query"):
        if any(map(is_salted_hash, _listed(options.get(name, record.get(name))))):
            faults.append(_to_be_given(where, name, f"--input-option '{name}=${{env:{name.upper()}}}'"))
            return None
    if any(fault.name.startswith(where) for fault in faults):
        return None
    try:
        dataset = made_dataset(InputDescription(tuple(record.get("path", ())), record["format"], options))
    except SettingsError as error:
        faults += [fault._replace(name=f"{where}: {fault.name.removeprefix('inputs: ')}") for fault in error.faults]
        return None
    place = record.get("path_on_compute")
    return dataset if place is None else replace(dataset, path_on_compute=place)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _filled_in(options: Mapping[str, Any], given: Any, where: str, faults: list[Fault]) -> dict[str, Any]:
    """Recorded options with the given ones over them; a secret that is not given is a fault."""
    given = given if isinstance(given, Mapping) else {}
    filled: dict[str, Any] = {}
    for name, value in {**options, **given}.items():
        if isinstance(value, Mapping) and name not in given:
            filled[name] = _filled_in(value, {}, f"{where}: {name}", faults)
        elif is_salted_hash(value):
            faults.append(_to_be_given(where, name, f"--storage-option '{name}=${{env:{name.upper()}}}'"))
        else:
            filled[name] = value
    return filled


def _to_be_given(where: str, name: str, example: str) -> Fault:
    found = "a secret, which was never written down"
    return Fault(f"{where}: {name}", found, "its value from a variable of the environment", example)


def _side_input(record: Mapping[str, Any], given: Mapping[str, Any], faults: list[Fault]) -> Any:
    return record["path"] if "format" not in record else _dataset(record, "side_inputs", given, faults)


def _arguments(
    record: Mapping[str, Any], given: Sequence[str], options: Mapping[str, Any], faults: list[Fault]
) -> list[Any]:
    """Those of the record; given ones take their place, but for options of the engine, which are added."""
    if given and split_arguments(list(given))[1]:
        return list(given)
    arguments: list[Any] = []
    for one in (*record["arguments"], *given):
        if isinstance(one, Mapping) and "dataset" in one:
            arguments.append(_dataset(one["dataset"], "arguments", options, faults))
        elif isinstance(one, Mapping):
            from prs_dask.pipeline.outputs import OutputFileDatasetConfig

            arguments.append(OutputFileDatasetConfig(destination=one["output"]))
        elif is_salted_hash(one):
            found = "a secret among them, which was never written down"
            faults.append(
                Fault("arguments", found, "all of them again", "prs-dask resume RUN_FOLDER -- --password ...")
            )
        else:
            arguments.append(one)
    return arguments

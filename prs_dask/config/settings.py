"""The one table of settings: everything that names, checks, documents or asks for a setting reads it.

``SETTINGS`` drives the checks of ``ParallelRunConfig``, the flags of the command line, the keys of
the YAML files and the reference page. A setting is a row of it (behaviour, section 1.1).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prs_dask.config import checks
from prs_dask.config.compute_target import compute_target
from prs_dask.config.pipeline_parameter import PipelineParameter
from prs_dask.config.refused import Refused
from prs_dask.config.row_format import ROW_FORMAT_ARGUMENTS, parse_row_format
from prs_dask.errors import Fault, SettingsError

__all__ = ["REQUIRED", "SETTINGS", "SHORT_CALL_DEFAULTS", "Setting", "check_values", "unknown_names"]


class _Required:
    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a step.

    Parameters
    ----------
    name
        As in Python and YAML (``mini_batch_size``).
    parse
        From a given value to the one that is kept; raises ValueError.
    default
        ``REQUIRED`` where there is none.
    allowed
        What is allowed, for people.
    example
        A value to copy, as Python writes it.
    help
        What it does, in a sentence.
    may_be_parameter
        A PipelineParameter may stand for it.
    from_text
        From the text of a command line to the value; None: it has no flag.
    secret
        Its value is never shown.
    repeated
        The flag may be given several times.
    metavar
        What stands for the value in the flag's help.
    same_on_resume
        A step run that is resumed has to have it as it began with it; the others may change.
    """

    name: str
    parse: checks.Parser
    default: Any
    allowed: str
    example: str
    help: str
    may_be_parameter: bool = False
    from_text: Callable[[str], object] | None = str
    secret: bool = False
    repeated: bool = False
    metavar: str = "TEXT"
    same_on_resume: bool = False

    @property
    def flag(self) -> str | None:
        """Its flag on the command line (``--mini-batch-size``), or None."""
        return "--" + self.name.replace("_", "-") if self.from_text else None

    def fault(self, value: object, why: str = "") -> Fault:
        """What to tell of a value that was refused."""
        found = f"{type(value).__name__} (not shown)" if self.secret else _shown(value)
        return Fault(self.name, f"{found}, {why}" if why else found, self.allowed, f"{self.name}={self.example}")


def _shown(value: object) -> str:
    """The value as Python writes it, cut where it is long; never raises."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _int_text(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _number_text(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _json_text(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _list_text(text: str) -> object:
    return [part.strip() for part in text.split(",")]


def _backoff_text(text: str) -> object:
    parts = [_number_text(part.strip()) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else tuple(parts)


def _boolean_text(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


_INT = {"from_text": _int_text, "metavar": "INTEGER"}
_SECONDS = {"from_text": _number_text, "metavar": "SECONDS"}

_ROWS: tuple[Setting, ...] = (
    Setting(
        "entry_script",
        checks.entry_script,
        REQUIRED,
        "the path of a .py file that has a function run(mini_batch), or an object with such a function",
        '"score.py"',
        "The script with run(mini_batch) and, if it needs them, init() and shutdown().",
        metavar="FILE",
        same_on_resume=True,
    ),
    Setting(
        "source_directory",
        checks.optional(checks.folder),
        None,
        "an existing folder, or None: only the script itself travels to the workers",
        '"src"',
        "Folder whose content reaches every worker, but for what its .amlignore, else .gitignore, names; "
        "entry_script is relative to it.",
        metavar="FOLDER",
    ),
    Setting(
        "mini_batch_size",
        checks.optional(checks.mini_batch_size),
        None,
        "a whole number of at least 1, or a number with KB, MB or GB (no point, no space)",
        '"10MB"',
        "What one run() call receives: files of a FileDataset (default 10), "
        "stored bytes of a TabularDataset (default 1MB).",
        may_be_parameter=True,
        metavar="SIZE",
        same_on_resume=True,
    ),
    Setting(
        "error_threshold",
        checks.at_least(-1),
        REQUIRED,
        "a whole number of at least -1",
        "10",
        "The step run ends as Failed when more items than this fail over the whole input; -1 ignores all.",
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "allowed_failed_count",
        checks.optional(checks.at_least(-1)),
        None,
        "a whole number of at least -1, or None",
        "5",
        "The same for mini-batches: so many may fail for good; -1 ignores all.",
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "allowed_failed_percent",
        checks.optional(checks.number_between(0, 100)),
        None,
        "a number from 0 to 100, or None",
        "2.5",
        "So many percent of the mini-batches may fail, judged once all are known; 100 ignores all.",
        from_text=_number_text,
        metavar="PERCENT",
    ),
    Setting(
        "output_action",
        checks.one_of("append_row", "summary_only"),
        REQUIRED,
        "append_row (one file with every row) or summary_only (the script stores its own output)",
        '"append_row"',
        "append_row: all results become the rows of one file. summary_only: results are counted only.",
        metavar="ACTION",
        same_on_resume=True,
    ),
    Setting(
        "append_row_file_name",
        checks.file_name,
        "parallel_run_step.txt",
        'a file name, one path component without ~ " # % & * : < > ? / \\ { } |',
        '"predictions.txt"',
        "Name of the output file of append_row.",
        metavar="NAME",
        same_on_resume=True,
    ),
    Setting(
        "compute_target",
        checks.optional(compute_target),
        None,
        'None, "local", "cuda", an SSHTarget or "ssh://host1,host2", a scheduler\'s address, the path of a scheduler '
        "file, a Dask cluster or a Client",
        '"local"',
        "Where it runs: this machine, hosts (ssh://ann@node1,node2/path/of/python), or a running Dask cluster. "
        "Default: the current Dask Client if there is one, else this machine.",
        metavar="TARGET",
    ),
    Setting(
        "node_count",
        checks.at_least(1, 1_000_000),
        1,
        "a whole number of at least 1",
        "2",
        "How many nodes to start workers on; of a running cluster, how many to use at most.",
        may_be_parameter=True,
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "process_count_per_node",
        checks.optional(checks.at_least(1, 10_000)),
        None,
        "a whole number of at least 1, or None: processes_per_gpu for each GPU of a node that has some, else one for "
        "each CPU core",
        "4",
        "How many processes of a node run the entry script. Default: one for each GPU, else for each CPU core.",
        may_be_parameter=True,
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "environment",
        checks.optional(checks.environment),
        None,
        "None, a mapping of packages to versions, a list of pip requirements, or the path of a file of them",
        '{"pandas": ">=2"}',
        "pip requirements that every worker is checked against before its first process starts: a mapping, a list, or "
        "the path of a requirements file, a YAML file or a conda file, whose pip part counts.",
        metavar="FILE",
    ),
    Setting(
        "environment_variables",
        checks.environment_variables,
        {},
        "a mapping of names to texts",
        '{"MODEL_KIND": "small"}',
        "Set in the worker process before the entry script is imported. "
        "On the command line NAME=VALUE, or NAME to take it from this environment.",
        secret=True,
        repeated=True,
        metavar="NAME[=VALUE]",
    ),
    Setting(
        "logging_level",
        checks.one_of("WARNING", "INFO", "DEBUG"),
        "INFO",
        "WARNING, INFO or DEBUG",
        '"INFO"',
        "How much is logged.",
        may_be_parameter=True,
        metavar="LEVEL",
    ),
    Setting(
        "logging_format",
        checks.one_of("text", "json"),
        "text",
        "text or json",
        '"json"',
        "json: the lines of driver, overview, scheduler and engine, and those of EntryScript().logger, are JSON "
        "objects.",
        metavar="FORMAT",
    ),
    Setting(
        "run_invocation_timeout",
        checks.seconds,
        60,
        "seconds, more than 0 and at most 100000000",
        "600",
        "Limit of one run() call; a call that takes longer fails and its process is replaced.",
        may_be_parameter=True,
        **_SECONDS,  # type: ignore[arg-type]
    ),
    Setting(
        "run_max_try",
        checks.at_least(1, 10_000),
        3,
        "a whole number from 1 to 10000",
        "3",
        "How many attempts a mini-batch gets in all.",
        may_be_parameter=True,
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "partition_keys",
        checks.optional(checks.partition_keys),
        None,
        "a list of different names, or None; not together with mini_batch_size",
        '["store", "brand"]',
        "Every occurring combination of these keys is one mini-batch. On the command line separated by commas.",
        may_be_parameter=True,
        from_text=_list_text,
        metavar="KEY,...",
        same_on_resume=True,
    ),
    Setting(
        "description",
        checks.optional(checks.text),
        None,
        "a text, or None",
        '"nightly scoring"',
        "A text for the report.",
    ),
    Setting(
        "append_row_order",
        checks.one_of("any", "input"),
        "any",
        "any or input",
        '"input"',
        "Order of the mini-batches in the output file: as they finish (any), or as in the input.",
        metavar="ORDER",
        same_on_resume=True,
    ),
    Setting(
        "append_row_format",
        checks.optional(parse_row_format),
        None,
        f"None, or a mapping of DataFrame.to_csv arguments: {', '.join(ROW_FORMAT_ARGUMENTS)}",
        '{"sep": ","}',
        "How a DataFrame becomes rows. On the command line as JSON.",
        from_text=_json_text,
        metavar="JSON",
        same_on_resume=True,
    ),
    Setting(
        "on_failed_mini_batch",
        checks.one_of("fail", "bisect"),
        "fail",
        "fail or bisect",
        '"bisect"',
        "bisect: halve a mini-batch that has used up its tries until its bad items are alone; only they fail.",
        metavar="ACTION",
    ),
    Setting(
        "retry_backoff",
        checks.backoff,
        0,
        "seconds of at least 0, or (first, factor, max) with first >= 0, factor >= 1 and max >= first",
        "(1, 2, 60)",
        "Wait before the next attempt of a mini-batch. On the command line: 5, or 1,2,60.",
        from_text=_backoff_text,
        metavar="SECONDS",
    ),
    Setting(
        "retry_on",
        checks.optional(checks.exception_names),
        None,
        "a list of exception names, or None: all",
        '["TimeoutError", "ConnectionError"]',
        "Exceptions that are worth another attempt, and those derived from them; time limits and processes that died "
        "always are. On the command line separated by commas.",
        from_text=_list_text,
        metavar="NAME,...",
    ),
    Setting(
        "no_retry_on",
        checks.optional(checks.exception_names),
        None,
        "a list of exception names, or None",
        '["ValueError"]',
        "Exceptions that are not worth another attempt, nor those derived from them; TimeLimit, ProcessDied, "
        "OutOfMemory and BadResult stand for what is none. On the command line separated by commas.",
        from_text=_list_text,
        metavar="NAME,...",
    ),
    Setting(
        "memory_limit_per_process",
        checks.optional(checks.memory_limit),
        None,
        "bytes, or a number with KB, MB, GB or TB, at least 16MB; or None: the worker's limit divided by its processes",
        '"2GB"',
        "A process above it is killed and its attempt fails as out of memory.",
        metavar="SIZE",
    ),
    Setting(
        "input_cache_size",
        checks.optional(checks.size),
        None,
        "bytes, or a number with KB, MB, GB or TB; or None: half of what is free on the node's disk at the start",
        '"20GB"',
        "How much of the input's files in a store a node keeps on its disk at a time. What a mini-batch needs is "
        "brought even where it alone is more.",
        metavar="SIZE",
    ),
    Setting(
        "processes_per_gpu",
        checks.at_least(1, 10_000),
        1,
        "a whole number of at least 1",
        "2",
        "How many processes may share one GPU.",
        **_INT,  # type: ignore[arg-type]
    ),
    Setting(
        "surplus_gpu_processes",
        checks.one_of("unset", "hide"),
        "unset",
        "unset or hide",
        '"hide"',
        "CUDA_VISIBLE_DEVICES of processes beyond the GPUs: not set, which CUDA takes for all GPUs, or empty (hide): "
        "none.",
        metavar="ACTION",
    ),
    Setting(
        "speculative_attempts",
        checks.boolean,
        False,
        "True or False",
        "True",
        "Near the end, start an attempt that is far slower than those before it a second time, in another process: "
        "the first to succeed counts, the other is killed and not charged. Not together with summary_only.",
        from_text=_boolean_text,
        metavar="BOOLEAN",
    ),
)

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _ROWS}
"""All settings by name, in the order of the reference."""

SHORT_CALL_DEFAULTS: Mapping[str, object] = {"error_threshold": 0}
"""What ``parallel_run`` and the command line take where a setting is required elsewhere."""


def unknown_names(names: Iterable[str], known: Iterable[str]) -> list[Fault]:
    """A fault for each name that is not known, with the one that was probably meant."""
    known = list(known)
    faults = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            allowed = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
            faults.append(Fault(name, "a setting that does not exist", allowed))
    return faults


def check_values(given: Mapping[str, object]) -> tuple[dict[str, Any], list[Fault]]:
    """Every setting's value, and every fault of the given ones."""
    faults = unknown_names(given, SETTINGS)
    values: dict[str, Any] = {}
    for setting in SETTINGS.values():
        value = given.get(setting.name, setting.default)
        if value is REQUIRED:
            faults.append(Fault(setting.name, "nothing", setting.allowed, f"{setting.name}={setting.example}"))
        elif isinstance(value, PipelineParameter):
            if not setting.may_be_parameter:
                faults.append(setting.fault(value, "which may not stand for this setting"))
            elif refused := _refused(setting, value.default_value):
                faults += refused
            values[setting.name] = value
        elif refused := _refused(setting, value):
            faults += refused
        else:
            values[setting.name] = setting.parse(value)
    return values, faults


def _refused(setting: Setting, value: object) -> list[Fault]:
    try:
        setting.parse(value)
    except SettingsError as error:  # of a value that has parts
        return list(error.faults)
    except Refused as error:
        return [setting.fault(value, str(error))]
    except ValueError:
        return [setting.fault(value)]
    return []

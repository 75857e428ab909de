"""The ``arguments`` of a step: what the engine understands, what it refuses, what the script gets.

Some options of the engine stand among the script's own arguments, as in Azure Machine Learning
(behaviour, section 1.2). They may be shortened as long as the short form goes beyond the first
word and fits one option only (``--resource_mon``); a shorter one (``--first``) is more likely
the script's own and passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prs_dask.config import checks
from prs_dask.errors import Fault, SettingsError

__all__ = ["IGNORED_NAMES", "RESERVED_NAMES", "EngineOptions", "longer_interval", "split_arguments"]

RESERVED_NAMES = (
    "mini_batch_size",
    "error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "output",
    "output_action",
    "logging_level",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "partition_keys",
)
"""Settings that are never given among the script's arguments."""

IGNORED_NAMES = ("copy_logs_to_parent", "push_metrics_to_parent", "metrics_name_prefix")
"""Options of Azure Machine Learning that mean nothing here; they and their values are dropped."""


SHORTEST_INTERVAL = 1.0
"""Seconds between two samples of a resource monitor: each takes some hundredths of a second of processor time."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of the engine that stand among a step's arguments; times in seconds.

    Parameters
    ----------
    resource_monitor_interval
        Between two samples of what nodes, their GPUs and disks, and the step run's processes use; at least 1, and 0 is
        off. One more is taken at the start and one at the end. They are in ``logs/perf``.
    first_task_creation_timeout
        Until the first mini-batch exists.
    progress_update_timeout
        Without any mini-batch ending; None: from run_max_try and the limits of an attempt.
    task_overhead_timeout
        For reading a mini-batch, and for its results.
    append_row_dataframe_header
        Write a DataFrame's header, once.
    profiling_module
        ``"cProfile"``: where the time of ``run()`` goes, in ``logs/sys/node/<node>/<process>.profile``.
        ``"memray"``: what allocates memory, in ``<process>.memray.bin`` beside it. None: neither.
    init_timeout
        For init() in one process; None: 3 x run_invocation_timeout + 30.
    shutdown_timeout
        For shutdown() in one process, atexit functions included; then it is killed.
    """

    resource_monitor_interval: float = 600.0
    first_task_creation_timeout: float = 600.0
    progress_update_timeout: float | None = None
    task_overhead_timeout: float = 30.0
    append_row_dataframe_header: bool = False
    profiling_module: str | None = None
    init_timeout: float | None = None
    shutdown_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class _Option:
    parse: Callable[[str], object]
    allowed: str
    example: str


def _seconds(text: str) -> float:
    return float(checks.seconds(float(text)))


def _interval_or_off(text: str) -> float:
    interval = float(checks.number_between(0, checks.LONGEST_SECONDS)(float(text)))
    if 0 < interval < SHORTEST_INTERVAL:
        raise ValueError
    return interval


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


_TIMEOUT = _Option(_seconds, "seconds, more than 0", "600")

_OPTIONS = {
    "resource_monitor_interval": _Option(_interval_or_off, "seconds, at least 1, or 0 (off)", "60"),
    "first_task_creation_timeout": _TIMEOUT,
    "progress_update_timeout": _TIMEOUT,
    "task_overhead_timeout": _TIMEOUT,
    "append_row_dataframe_header": _Option(_boolean, "True or False", "True"),
    "profiling_module": _Option(checks.one_of("cProfile", "memray"), "cProfile or memray", "cProfile"),
    "init_timeout": _TIMEOUT,
    "shutdown_timeout": _TIMEOUT,
}
_ALL_NAMES = (*_OPTIONS, *RESERVED_NAMES, *IGNORED_NAMES)


def split_arguments(arguments: Sequence[object]) -> tuple[EngineOptions, list[object]]:
    """Take the engine's options out of a step's arguments.

    Parameters
    ----------
    arguments
        Texts, numbers, datasets and outputs, in order. What follows a lone ``--`` is never looked at.

    Returns
    -------
    tuple of EngineOptions and list
        The options, and the other arguments unchanged and in order.

    Raises
    ------
    SettingsError
        With every reserved name and every bad value at once.

    Examples
    --------
    >>> options, rest = split_arguments(["--labels", "a.txt", "--resource_monitor_interval=20"])
    >>> options.resource_monitor_interval, rest
    (20.0, ['--labels', 'a.txt'])
    """
    if isinstance(arguments, (str, bytes)) or not isinstance(arguments, Sequence):
        allowed = "a list of texts, numbers, datasets and outputs"
        raise SettingsError([Fault("arguments", repr(arguments), allowed, 'arguments=["--labels", "labels.txt"]')])
    values: dict[str, object] = {}
    rest: list[object] = []
    faults: list[Fault] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument == "--" and isinstance(argument, str):
            rest += [argument, *arguments[position:]]
            break
        name, equals, value = _option_in(argument)
        if name is None:
            rest.append(argument)
        elif name in RESERVED_NAMES:
            setting = f"set {name} in ParallelRunConfig" if name != "output" else "give output= to ParallelRunStep"
            allowed = f"{setting}, or put --{name.replace('_', '-')} before the -- of prs-dask run"
            faults.append(Fault(f"arguments: --{name}", "a name that the engine owns", allowed))
        else:
            if not equals:
                value = arguments[position] if position < len(arguments) else None
                position += 1
            if name in _OPTIONS:
                _read_value(name, value, values, faults)
    if faults:
        raise SettingsError(faults)
    return EngineOptions(**values), rest  # type: ignore[arg-type]


def longer_interval(arguments: Sequence[object]) -> tuple[list[object], str]:
    """Arguments of a step run that an earlier version began, which allowed shorter intervals of the monitor.

    Returns
    -------
    tuple of list and str
        The arguments with the shortest interval that is allowed now, and the one that was too short, empty if none was.
    """
    raised, was = list(arguments), ""
    for position, argument in enumerate(raised):
        name, equals, value = _option_in(argument)
        if argument == "--":
            break
        if name != "resource_monitor_interval" or not (equals or position + 1 < len(raised)):
            continue
        text = str(value if equals else raised[position + 1])
        try:
            too_short = 0 < float(text) < SHORTEST_INTERVAL
        except ValueError:
            continue
        if too_short:
            was = text
            new = f"{SHORTEST_INTERVAL:g}"
            if equals:
                raised[position] = f"--{name}={new}"
            else:
                raised[position + 1] = new
    return raised, was


def _option_in(argument: object) -> tuple[str | None, bool, object]:
    """Name of the engine's option in an argument, whether a value follows ``=``, and that value."""
    if not isinstance(argument, str) or not argument.startswith("--"):
        return None, False, None
    written, equals, value = argument[2:].partition("=")
    if written in _ALL_NAMES:
        return written, bool(equals), value
    if "_" in written:
        fitting = [name for name in _ALL_NAMES if name.startswith(written)]
        if len(fitting) == 1 and fitting[0] in _OPTIONS:
            return fitting[0], bool(equals), value
    return None, False, None


def _read_value(name: str, value: object, values: dict[str, object], faults: list[Fault]) -> None:
    option = _OPTIONS[name]
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            values[name] = _boolean_or_refuse(name, value)
        else:
            values[name] = option.parse(str(value))
    except ValueError:
        found = "no value" if value is None else repr(value)
        faults.append(Fault(f"arguments: --{name}", found, option.allowed, f"--{name} {option.example}"))


def _boolean_or_refuse(name: str, value: object) -> bool:
    if isinstance(value, bool) and name == "append_row_dataframe_header":
        return value
    raise ValueError

"""How results become rows: settings in, one small immutable value out.

Three places may say how a DataFrame is written, each winning over the one before: the defaults,
``parallel_run_step.settings.json`` beside the entry script, ``append_row_format`` of the config.
All names and values are checked here, before anything starts, because ``DataFrame.to_csv``
would refuse them only on a worker; what may be set is `prs_dask.config.row_format`'s table.
Behaviour, section 4. The worker process imports this for `RowFormat` only, and every import is
on the way of its start: a named tuple, and the rest is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from prs_dask.errors import Fault

__all__ = ["SETTINGS_FILE_NAME", "RowFormat", "row_format"]

SETTINGS_FILE_NAME = "parallel_run_step.settings.json"
"""Its place is beside the entry script."""

_SECTION, _TO_CSV = "append_row", "pandas.DataFrame.to_csv"
_EXAMPLE = '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}'
_DEFAULTS: Mapping[str, Any] = {"sep": " ", "index": False}


class RowFormat(NamedTuple):
    """How results become rows; picklable, the same in every worker process.

    Parameters
    ----------
    action
        ``"append_row"`` or ``"summary_only"`` (results are counted only).
    to_csv
        Arguments of ``DataFrame.to_csv``; encoding and line end are the engine's own.
    header
        Whether a DataFrame's rows begin with its header line; the file holds it once.
    """

    action: str = "append_row"
    to_csv: Mapping[str, Any] = _DEFAULTS
    header: bool = False


def row_format(
    config: Mapping[str, Any] | None = None,
    settings_file: Path | None = None,
    header: bool = False,
    action: str = "append_row",
) -> RowFormat:
    """Put the format together from its three places.

    Parameters
    ----------
    config
        ``append_row_format`` of the ParallelRunConfig, or None.
    settings_file
        Where ``parallel_run_step.settings.json`` may lie; no such file is no error.
    header
        ``--append_row_dataframe_header``.
    action
        ``"append_row"`` or ``"summary_only"``.

    Raises
    ------
    SettingsError
        With every fault of both places at once.
    """
    from prs_dask.errors import SettingsError

    faults: list[Fault] = []
    arguments = {
        **_DEFAULTS,
        **_from_file(settings_file, faults),
        **_checked(config or {}, "append_row_format", faults),
    }
    if faults:
        raise SettingsError(faults)
    names = arguments.pop("header", False)
    if not isinstance(names, bool):
        arguments["header"] = list(names)
    arguments.pop("lineterminator", None)
    return RowFormat(action, arguments, header=header or names is not False)


def _checked(arguments: Any, place: str, faults: list[Fault]) -> dict[str, Any]:
    from difflib import get_close_matches

    from prs_dask.config.row_format import ROW_FORMAT_ARGUMENTS, parse_row_format
    from prs_dask.errors import Fault

    if not isinstance(arguments, Mapping):
        faults.append(Fault(place, repr(arguments), "a mapping of DataFrame.to_csv arguments", '{"sep": ","}'))
        return {}
    before = len(faults)
    for name, value in arguments.items():
        if name not in ROW_FORMAT_ARGUMENTS:
            close = get_close_matches(str(name), ROW_FORMAT_ARGUMENTS, 1)
            faults.append(Fault(place, f"argument {name!r}", ", ".join(ROW_FORMAT_ARGUMENTS), *close))
        elif not ROW_FORMAT_ARGUMENTS[name](value):
            faults.append(Fault(f"{place}, {name}", repr(value), "a value that DataFrame.to_csv takes there"))
        elif name == "lineterminator" and value != "\n":
            faults.append(Fault(f"{place}, {name}", repr(value), r"'\n': the output has no other line end", r"'\n'"))
        elif name == "float_format" and value is not None and not _formats_a_number(value):
            faults.append(Fault(f"{place}, {name}", repr(value), "a % format of one number", "'%.3f'"))
    if len(faults) == before:
        try:
            parse_row_format(arguments)  # what goes together, too
        except ValueError as error:
            faults.append(Fault(place, repr(dict(arguments)), f"the same, but not {error}"))
    return dict(arguments)


def _formats_a_number(text: str) -> bool:
    try:
        return text % 1.5 != text
    except (TypeError, ValueError):
        return False


def _from_file(path: Path | None, faults: list[Fault]) -> dict[str, Any]:
    import json

    from prs_dask.errors import Fault

    if path is None:
        return {}
    try:
        settings: Any = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or no UTF-8
        faults.append(Fault(str(path), str(error), "a readable file of UTF-8 JSON", _EXAMPLE))
        return {}
    for level in (_SECTION, _TO_CSV):
        unknown = settings.keys() - {level} if isinstance(settings, dict) else None
        if unknown is None or unknown:
            found = repr(settings) if unknown is None else ", ".join(sorted(map(repr, unknown)))
            faults.append(Fault(str(path), found[:200], f'an object with "{level}" only', _EXAMPLE))
            return {}
        settings = settings.get(level, {})
    return _checked(settings, str(path), faults)

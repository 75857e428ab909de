"""What of a step is not as it was when its step run began, by name. Pure: two records of ``run.json`` are compared.

A resume goes on with rows that were made before: they must be such as the step makes now. Everything else (limits,
thresholds, machines, logging, secrets) may change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prs_dask.config import SETTINGS
from prs_dask.errors import Fault
from prs_dask.pipeline.run_record import BY_CONTENT, script_arguments
from prs_dask.redaction import without_hashes

__all__ = ["differences", "source_fault"]

_FREE_OF_INPUTS = ("storage_options", "connection", "path_on_compute")
"""Keys are renewed and hosts move; the ``database`` of a connection is compared without its password."""

_MOST_NAMES = 20


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Fault]:
    """A fault for each difference: ``found`` is what is there now, ``allowed`` what was there before."""
    before, now = _as_json(before), _as_json(now)
    return list(_differences(before, now))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Fault]:
    for name, setting in SETTINGS.items():
        if setting.same_on_resume and name not in BY_CONTENT:
            yield from _fault(name, before["settings"].get(name, setting.default), now["settings"].get(name))
    for name, words in (("script", "entry_script"), ("row_format", "row format"), ("output", "output")):
        yield from _fault(words, before.get(name), now.get(name))
    yield from _fault("arguments", script_arguments(before), script_arguments(now))
    yield from _fault("side_inputs", before.get("side_inputs"), now.get("side_inputs"))
    inputs = before.get("inputs", []), now.get("inputs", [])
    if len(inputs[0]) != len(inputs[1]):
        yield _told("inputs", f"{len(inputs[0])} of them", f"{len(inputs[1])} of them")
        return
    for number, (old, new) in enumerate(zip(*inputs, strict=True)):
        for name in dict.fromkeys((*old, *new)):
            if name not in _FREE_OF_INPUTS:
                yield from _fault(f"inputs[{number}]: {name}", old.get(name), new.get(name))


def _fault(name: str, before: Any, now: Any) -> Iterator[Fault]:
    if before != now and not _is_template(before) and not _is_template(now):
        yield _told(name, _shown(before), _shown(now))


def _is_template(value: object) -> bool:
    """It stood for a value that was not written down."""
    return isinstance(value, str) and "${env:" in value


def _told(name: str, before: str, now: str) -> Fault:
    return Fault(name, f"{now} now", f"{before}, as it was when the step run began")


def _shown(value: Any) -> str:
    text = json.dumps(without_hashes(value), ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples and lists are the same there, and so are numbers that are keys and their texts."""
    as_json: dict[str, Any] = json.loads(json.dumps(record))
    return as_json


def source_fault(changes: list[tuple[str, str]]) -> Fault:
    """The fault of a source whose files have changed: (name, ``changed``, ``added`` or ``removed``) of each."""
    named = ", ".join(f"{name} ({how})" for name, how in changes[:_MOST_NAMES])
    more = f" and {len(changes) - _MOST_NAMES:,} more" if len(changes) > _MOST_NAMES else ""
    allowed = "the files as they were sent when the step run began (source.zip in the run folder)"
    return Fault("source", f"{named}{more}", allowed, "accept_changes=True (--accept-changes), if the rows stay right")

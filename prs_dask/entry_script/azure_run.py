"""``azureml.core.Run.get_context()``: an offline run, whose metrics go to a file of the run folder.

One JSON object a line: ``{"name", "kind", "value", "description", "time", "process"}``, ``kind`` being
``value``, ``list`` or ``row``, ``time`` seconds since the epoch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from typing import Any

from prs_dask.entry_script.entry_script import surroundings

__all__ = ["Run"]


class Run:
    """The run that entry scripts get where there is no Azure; `get_context` gives it.

    Examples
    --------
    >>> from prs_dask.entry_script.azure_run import Run
    >>> Run.get_context() is Run.get_context()
    True
    """

    _offline: Run | None = None
    _made_up_id = ""

    @classmethod
    def get_context(cls, allow_offline: bool = True, **_: Any) -> Run:
        """The run of this process, the same object every time."""
        if Run._offline is None:
            Run._offline = Run()
        return Run._offline

    @property
    def id(self) -> str:
        """``$AZUREML_RUN_ID``, else ``OfflineRun_`` and a made-up one."""
        if not Run._made_up_id:
            Run._made_up_id = f"OfflineRun_{os.urandom(8).hex()}"
        return os.environ.get("AZUREML_RUN_ID") or Run._made_up_id

    @property
    def input_datasets(self) -> dict[str, str]:
        """Local paths of the step's inputs by name."""
        return dict(surroundings().inputs)

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Keep one value of a metric."""
        _write(name, "value", value, description, step)

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Keep several values of a metric."""
        _write(name, "list", list(value), description)

    def log_row(self, name: str, description: str = "", **columns: Any) -> None:
        """Keep one row of a table of metrics."""
        _write(name, "row", columns, description)

    def flush(self, *_: Any, **__: Any) -> None:
        """Nothing is pending: every metric is written at once."""

    def complete(self, *_: Any, **__: Any) -> None:
        """The step run decides itself when it is complete."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"Run.{name}: this is an offline run, which has id, input_datasets, log, log_list, log_row; "
            "what needs a workspace needs azureml-core installed"
        )


def _write(name: str, kind: str, value: Any, description: str, step: int | None = None) -> None:
    import json

    place = surroundings()
    if not place.metrics_file:
        return
    entry = {
        "name": name,
        "kind": kind,
        "value": value,
        "description": description,
        **({} if step is None else {"step": step}),
        "time": time.time(),
        "node": place.node_id,
        "process": place.agent_name,
    }
    try:
        line = json.dumps(entry, default=_plain, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        line = json.dumps(_finite(json.loads(json.dumps(entry, default=_plain))))
    with open(place.metrics_file, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _finite(value: Any) -> Any:
    """NaN and infinite numbers as text, wherever they stand."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """What JSON has no form for: numpy's numbers and arrays as numbers and lists, the rest as text."""
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)

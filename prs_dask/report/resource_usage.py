"""What nodes used, from ``perf/<node>/node_resource_usage.csv``: shares in percent, and rates of what only counts up.

The files may be written to meanwhile, hold a torn last line, and have columns of GPUs or none.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_POINTS", "NodeUsage", "read_usage"]

MOST_POINTS = 600
MOST_SAMPLES = 200_000
"""Of one node; of longer files every second sample, every fourth, and so on."""

_TIME = "Utc Time"
_SHARES = {"Cpu Percent": "CPU", "Memory Used Percent": "memory"}
_RATES = {
    "Disk Io Read (MB)": "disk read",
    "Disk Io Write (MB)": "disk write",
    "Network Recv (MB)": "network in",
    "Network Sent (MB)": "network out",
}
_GPU = re.compile(r"gpu", re.IGNORECASE)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """One node.

    Parameters
    ----------
    node
        Its number, as text.
    times
        Seconds since the epoch, ascending.
    shares
        Percent, by what it is of: CPU, memory, each GPU.
    rates
        MB a second, by what it is of: disk and network.
    memory
        MB that the node has; nan where that is not told.
    samples
        How often it was measured.
    """

    node: str
    times: Floats
    shares: dict[str, Floats] = field(default_factory=dict)
    rates: dict[str, Floats] = field(default_factory=dict)
    memory: float = math.nan
    samples: int = 0


def read_usage(perf: Path) -> list[NodeUsage]:
    """Of every node that has a file under ``perf/``, in order of their numbers."""
    files = [path for path in perf.glob("*/node_resource_usage.csv") if path.parent.name.isdecimal()]
    read = (_read(path) for path in sorted(files, key=lambda path: int(path.parent.name)))
    return [usage for usage in read if usage is not None]


def _read(path: Path) -> NodeUsage | None:
    times: list[float] = []
    columns: dict[str, list[float]] = {}
    step, number = 1, 0
    try:
        for row in _rows(path):
            number += 1
            when = _seconds(row.get(_TIME))
            if when is None or number % step or (times and when <= times[-1]):
                continue
            times.append(when)
            for name, text in row.items():
                if name and name != _TIME:
                    columns.setdefault(name, [math.nan] * (len(times) - 1)).append(_number(text))
            for values in columns.values():
                values += [math.nan] * (len(times) - len(values))
            if len(times) >= MOST_SAMPLES:
                step *= 2
                times = times[::2]
                columns = {name: values[::2] for name, values in columns.items()}
    except OSError:
        return None
    if not times:
        return None
    at = np.array(times)
    arrays = {name: np.array(values) for name, values in columns.items()}
    named = {**_SHARES, **{name: name for name in arrays if _GPU.search(name) and _is_percent(name)}}
    memory = arrays.get("Memory Total (MB)", np.array([math.nan]))
    return NodeUsage(
        path.parent.name,
        _thinned(at),
        {label: _thinned(arrays[name]) for name, label in named.items() if name in arrays},
        {label: _thinned(_rate(at, arrays[name])) for name, label in _RATES.items() if name in arrays},
        float(memory[-1]),
        number,
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = (line.replace("\0", "") for line in file if line.endswith("\n"))  # a last one without end is under way
        yield from csv.DictReader(lines, restval="")


def _is_percent(name: str) -> bool:
    return "percent" in name.lower() or "%" in name


def _number(text: object) -> float:
    try:
        number = float(str(text))
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _seconds(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _rate(times: Floats, counted: Floats) -> Floats:
    """A second; 0 where a counter began anew."""
    if len(times) < 2:
        return np.zeros(len(times))
    rates = np.maximum(np.diff(counted), 0.0) / np.diff(times)
    return np.asarray(np.concatenate([rates[:1], rates]))


def _thinned(values: Floats) -> Floats:
    """At most `MOST_POINTS`, each the mean of its neighbours."""
    if len(values) <= MOST_POINTS:
        return values
    bounds = np.linspace(0, len(values), MOST_POINTS + 1).astype(int)
    known = ~np.isnan(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), bounds[:-1])
    counts = np.add.reduceat(known.astype(float), bounds[:-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts)

"""The tables of ``perf/<node>/``, from the samples of the nodes' resource monitors.

See `prs_dask.worker_process.resource_usage` for what a sample holds, and `prs_dask.logs.places` for the columns.
A node has several monitors where its workers have different folders for temporary files. One of them speaks for the
node; of the others the rows of processes are taken, which no two have.
Names of processes, disks and folders are anybody's: they are shown as text.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from prs_dask.logs import places
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.text import one_line, plain, utc_text

__all__ = ["LATE_SECONDS", "UsageTables", "node_columns"]

LATE_SECONDS = 10.0
"""When the next sample of the monitor that speaks for a node has not come so long after its time, another one does."""


class UsageTables:
    """Writes samples of all nodes.

    Parameters
    ----------
    files
        The logs tree.
    redact
        Takes secrets out of a text.
    """

    def __init__(self, files: LogFiles, redact: Callable[[str], str] = str) -> None:
        self._files = files
        self._redact = redact
        self._headers: dict[str, bytes] = {}
        self._speakers: dict[int, tuple[str, float]] = {}

    def add(self, node: int, data: bytes) -> list[str]:
        """Whole lines of a node's monitor; a line that is none of its is passed over.

        Returns
        -------
        list of str
            What could not be measured.
        """
        troubles = []
        for line in data.splitlines():
            try:
                sample = json.loads(line)
                if "trouble" in sample:
                    troubles.append(str(sample["trouble"]))
                else:
                    self._add(node, sample)
            except (ValueError, TypeError, KeyError, OverflowError):  # torn where a disk was full, or a flood was cut
                continue
        return troubles

    def cut_torn_lines(self) -> None:
        """Cut off what a driver that was killed had written of a last line of each table."""
        for path in self._files.folder.glob("perf/*/*.csv"):
            self._files.cut_torn_line(str(path.relative_to(self._files.folder)))

    def _add(self, node: int, sample: dict[str, Any]) -> None:
        when = utc_text(sample["time"])
        rows = [[when, *row] for row in sample["processes"]]
        self._append(places.PROCESS_USAGE, node, places.PROCESS_USAGE_COLUMNS, rows)
        if not self._speaks(node, sample["source"], sample["time"], sample["next"]):
            return
        gpus: list[Any] = sample["gpus"]
        if sample["node"]:
            row = [when, *sample["node"], *(value for gpu in gpus for value in gpu)]
            self._append(places.NODE_USAGE, node, node_columns(len(gpus)), [row])
        self._append(places.DISK_USAGE, node, places.DISK_USAGE_COLUMNS, [[when, *row] for row in sample["disks"]])
        if sample["ps"]:
            moment = datetime.fromtimestamp(sample["time"], UTC)
            name = places.PROCESS_LIST.format(node=node, hour=f"{moment:%Y%m%d%H}", minute=f"{moment:%M}")
            text = f"# {when}\n{plain(self._redact(sample['ps']))}"
            self._files.append(name, text.encode("utf-8", "backslashreplace"))

    def _speaks(self, node: int, source: str, now: float, following: float) -> bool:
        """Is it this monitor that tells of the node?"""
        speaker, until = self._speakers.get(node, (source, 0.0))
        if speaker != source and now <= until + LATE_SECONDS:
            return False
        self._speakers[node] = (source, following)
        return True

    def _append(self, place: str, node: int, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        data = _lines([self._shown(value) for value in row] for row in rows)
        if not data:
            return
        name, header = place.format(node=node), _lines([columns])
        if self._headers.get(name) != header:
            if self._other_columns(name, header):  # of an earlier part, on a machine with other GPUs
                self._files.set_aside(name)
            self._headers[name] = header
        self._files.append(name, data, header)

    def _other_columns(self, name: str, header: bytes) -> bool:
        return self._files.first_line(name) not in (b"", header)

    def _shown(self, value: Any) -> Any:
        return one_line(self._redact(value)) if isinstance(value, str) else value


def node_columns(gpus: int) -> tuple[str, ...]:
    """Columns of ``node_resource_usage.csv`` on a node with so many GPUs."""
    more = [column.format(gpu=gpu) for gpu in range(gpus) for column in places.GPU_USAGE_COLUMNS]
    return (*places.NODE_USAGE_COLUMNS, *more)


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")

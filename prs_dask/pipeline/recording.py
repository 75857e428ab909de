"""News of the engine into the logs tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prs_dask.attempts.records import AttemptError, AttemptRecord
from prs_dask.logs.failed_items import short_results
from prs_dask.logs.process_events import ProcessEvent
from prs_dask.logs.tree import LogTree
from prs_dask.mini_batches import BisectedMiniBatch, FileMiniBatch, MiniBatch, Part
from prs_dask.output.journal import Failure
from prs_dask.pipeline.spans import Spans

__all__ = ["TreeRecorder"]


class TreeRecorder:
    """The engine's `Recorder`, written into a `LogTree`.

    Parameters
    ----------
    tree
        The logs.
    mini_batch
        What a mini-batch holds, by its id; None where that is not known any more.
    details
        The same in a few words.
    spans
        Are told of attempts too; None where there are none.
    """

    def __init__(
        self,
        tree: LogTree,
        mini_batch: Callable[[int], MiniBatch | None],
        details: Mapping[int, str],
        spans: Spans | None = None,
    ) -> None:
        self._tree = tree
        self._mini_batch = mini_batch
        self._details = details
        self._spans = spans

    def _detail(self, number: int, parts: Mapping[int, Part]) -> str:
        part = parts.get(number)
        if part is None:
            return self._details.get(number, "")
        mini_batch = self._named(number, part)
        return mini_batch.detail if mini_batch is not None else ""

    def _named(self, number: int, part: Part | None) -> MiniBatch | None:
        """The mini-batch, or the part of it."""
        mini_batch = self._mini_batch(number if part is None else part.mini_batch)
        return mini_batch if part is None or mini_batch is None else BisectedMiniBatch.of(mini_batch, part)

    def attempts(
        self,
        node: int,
        process: int,
        records: bytes,
        errors: Mapping[int, AttemptError],
        parts: Mapping[int, Part],
        ip: str = "",
        pid: int = 0,
    ) -> None:
        details = partial(self._detail, parts=parts) if parts else self._details
        self._tree.add_attempts(node, process, records, details, errors, parts, ip=ip, pid=pid)
        if short := [(record, *self._short(record, parts)) for record in short_results(records)]:
            self._tree.add_missing_results(short)
        if self._spans is not None:
            self._spans.attempts(node, process, records, errors, parts)

    def _short(self, record: AttemptRecord, parts: Mapping[int, Part]) -> tuple[str | None, tuple[int, Part] | None]:
        """The item that it lacks, where it was given that alone; and which part of a mini-batch it was."""
        part = parts.get(record.mini_batch)
        items = _items_of(self._named(record.mini_batch, part)) if record.items == 1 else None
        return items[0] if items else None, None if part is None else (part.mini_batch, part)

    def failures(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            mini_batch = self._named(failure.id, failure.part)
            self._tree.add_failed_items(
                failure.id,
                _items_of(mini_batch),
                failure.attempts,
                failure.category,
                failure.message,
                failure.items,
                failure.part,
            )

    def output(self, piece: Mapping[str, Any]) -> None:
        about = {key: piece[key] for key in ("name", "whole", "more") if key in piece}
        self._tree.add_stream(piece["stream"], piece["node"], piece["process"], piece["data"], **about)

    def usage(self, node: int, data: bytes) -> None:
        self._tree.add_usage(node, data, time.time())

    def process_error(self, node: int, process: int, when: float, doing: str, error: AttemptError) -> None:
        self._tree.add_process_error(node, process, error, when, doing)

    def process_event(self, event: ProcessEvent) -> None:
        self._tree.add_process_event(event)

    def note(self, when: float, text: str) -> None:
        self._tree.scheduler(text, when)

    def fault(self, when: float, where: str, text: str) -> None:
        self._tree.engine_error(where, text, when)


def _items_of(mini_batch: MiniBatch | None) -> Sequence[str] | None:
    """The items' names: paths, or where one row is; None where there are only numbers of rows."""
    if isinstance(mini_batch, BisectedMiniBatch):
        if not isinstance(mini_batch.source, FileMiniBatch):
            return [mini_batch.detail] if mini_batch.part.items == 1 else None
        mini_batch = mini_batch.source
    return mini_batch.paths if isinstance(mini_batch, FileMiniBatch) else None

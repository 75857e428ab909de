"""News of the engine into the logs tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.tree import LogTree
from prs_dask.output.journal import Failure

__all__ = ["TreeRecorder"]


class TreeRecorder:
    """The engine's `Recorder`, written into a `LogTree`."""

    def __init__(self, tree: LogTree) -> None:
        self._tree = tree

    def attempts(self, node: int, process: int, records: bytes, errors: Mapping[int, AttemptError]) -> None:
        self._tree.add_attempts(node, process, records, None, errors)

    def failures(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._tree.add_failed_items(
                failure.id, None, failure.attempts, failure.category, failure.message, failure.items
            )

    def output(self, stream: str, node: int, process: int, data: bytes) -> None:
        self._tree.add_stream(stream, node, process, data)

    def load_error(self, node: int, process: int, when: float, error: AttemptError) -> None:
        self._tree.add_load_error(node, process, error, when)

    def note(self, when: float, text: str) -> None:
        self._tree.scheduler(text, when)

    def fault(self, when: float, where: str, text: str) -> None:
        self._tree.engine_error(where, text, when)

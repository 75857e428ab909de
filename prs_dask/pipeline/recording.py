"""News of the engine into the logs tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.tree import LogTree
from prs_dask.mini_batches import FileMiniBatch, MiniBatch
from prs_dask.output.journal import Failure

__all__ = ["TreeRecorder"]


class TreeRecorder:
    """The engine's `Recorder`, written into a `LogTree`.

    Parameters
    ----------
    tree
        The logs.
    mini_batch
        What a mini-batch holds, by its id; None where that is not known any more.
    """

    def __init__(self, tree: LogTree, mini_batch: Callable[[int], MiniBatch | None]) -> None:
        self._tree = tree
        self._mini_batch = mini_batch

    def _detail(self, number: int) -> str:
        mini_batch = self._mini_batch(number)
        return mini_batch.detail if mini_batch is not None else ""

    def attempts(self, node: int, process: int, records: bytes, errors: Mapping[int, AttemptError]) -> None:
        self._tree.add_attempts(node, process, records, self._detail, errors)

    def failures(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            mini_batch = self._mini_batch(failure.id)
            items = mini_batch.paths if isinstance(mini_batch, FileMiniBatch) else None
            self._tree.add_failed_items(
                failure.id, items, failure.attempts, failure.category, failure.message, failure.items
            )

    def output(self, stream: str, node: int, process: int, data: bytes) -> None:
        self._tree.add_stream(stream, node, process, data)

    def load_error(self, node: int, process: int, when: float, error: AttemptError) -> None:
        self._tree.add_load_error(node, process, error, when)

    def note(self, when: float, text: str) -> None:
        self._tree.scheduler(text, when)

    def fault(self, when: float, where: str, text: str) -> None:
        self._tree.engine_error(where, text, when)

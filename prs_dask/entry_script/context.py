"""The second parameter of ``run(mini_batch, mini_batch_context)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MiniBatchContext"]


class MiniBatchContext(NamedTuple):
    """What is known of a mini-batch besides its data (behaviour, section 2).

    Parameters
    ----------
    minibatch_index
        Unique in the step run, the same for every attempt, safe in file names.
    dataset
        Name of the input it was cut from.
    partition_key_value
        The values of the partition keys, in the order of ``partition_keys``; empty without keys.
    attempt
        1 for the first try of the mini-batch, or of the part.
    part
        With ``on_failed_mini_batch="bisect"``: the items (start, stop) of the mini-batch that this ``run()`` has got,
        counted from 0; None for a whole mini-batch. ``minibatch_index`` of a part is its own, such as ``"7_3-5"``.
    """

    minibatch_index: str
    dataset: str
    partition_key_value: Mapping[str, object]
    attempt: int
    part: tuple[int, int] | None = None

    @property
    def whole(self) -> str:
        """``minibatch_index`` of the whole mini-batch: ``"7"``, for each of its parts too."""
        return self.minibatch_index.partition("_")[0]

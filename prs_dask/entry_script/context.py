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
        1 for the first try.
    """

    minibatch_index: str
    dataset: str
    partition_key_value: Mapping[str, object]
    attempt: int

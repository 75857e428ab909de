"""What is run: synthetic listings of mini-batches, the same for prs_dask and its peers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass

from prs_dask.datasets import FileDataset
from prs_dask.mini_batches import FileMiniBatch, MiniBatch

__all__ = ["Synthetic", "list_schedule", "lognormal_seconds", "no_op_paths", "slow_stretch_seconds"]


def no_op_paths(number: int) -> tuple[str, ...]:
    """Ten paths of mini-batch ``number``; nobody opens them."""
    return tuple(f"/data/f{number * 10 + index}" for index in range(10))


@dataclass(frozen=True, kw_only=True)
class Synthetic(FileDataset):
    """Mini-batches that stand in no folder, so that listing files is not measured.

    Parameters
    ----------
    count
        How many, of ten paths each.
    seconds
        Instead: one mini-batch for each, of one path that tells it.
    """

    paths: tuple[str, ...] = ("/data",)
    count: int = 0
    seconds: tuple[float, ...] = ()

    def check(self) -> None:
        """There is nothing to look at."""

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        if self.seconds:
            for number, seconds in enumerate(self.seconds):
                yield FileMiniBatch(input_index, (f"{number}-{seconds:.6f}",))
        else:
            for number in range(self.count):
                yield FileMiniBatch(input_index, no_op_paths(number))


def lognormal_seconds(count: int = 300, mean: float = 0.05, sigma: float = 1.0, seed: int = 7) -> tuple[float, ...]:
    """Lengths with the given mean; the seed is fixed."""
    rng = random.Random(seed)
    lengths = [rng.lognormvariate(0.0, sigma) for _ in range(count)]
    scale = mean * count / sum(lengths)
    return tuple(length * scale for length in lengths)


def slow_stretch_seconds(quick: int = 6000, slow: int = 60, seconds: float = 0.1) -> tuple[float, ...]:
    """``slow`` long ones in a row, in the middle of ``quick`` ones that take no time."""
    half = quick // 2
    return (0.0,) * half + (seconds,) * slow + (0.0,) * (quick - half)


def list_schedule(seconds: tuple[float, ...], workers: int = 2) -> float:
    """Makespan of greedy list scheduling in the given order (Graham, 1966)."""
    free = [0.0] * workers
    for length in seconds:
        heapq.heapreplace(free, free[0] + length)
    return max(free)

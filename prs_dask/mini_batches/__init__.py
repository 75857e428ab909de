"""Descriptors of mini-batches: small values that say what one ``run()`` call receives.

A descriptor is made by the driver (``datasets``), travels as bytes through the scheduler,
which never looks inside, and is read by the worker process that runs it.
"""

from prs_dask.mini_batches.descriptors import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    MiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
    decode,
    encode,
)
from prs_dask.mini_batches.parts import Part

__all__ = [
    "BisectedMiniBatch",
    "FileMiniBatch",
    "FrameMiniBatch",
    "MiniBatch",
    "Part",
    "PartMiniBatch",
    "QueryMiniBatch",
    "RowGroupMiniBatch",
    "TextMiniBatch",
    "decode",
    "encode",
]

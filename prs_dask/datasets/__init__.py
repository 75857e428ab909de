"""The input: datasets, and how they are cut into mini-batches.

``FileDataset`` and ``TabularDataset`` are what users make. The driver asks them for
mini-batches (``dataset.mini_batches``) and for a ``ReadSpec`` (``dataset.reader``); the worker
process turns one mini-batch into what ``run()`` receives (``reading.read``)::

    listing ── files ──> cutting ── descriptors ──> (engine) ──> reading ── paths or a DataFrame
                           │                                        │
                 record_starts, text_file                 delimited, json_lines, parquet

Names are loaded on first use: the worker process imports ``reading`` alone and must be ready soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prs_dask.lazy_names import loaded_on_first_use

if TYPE_CHECKING:
    from prs_dask.datasets.dataset import Dataset
    from prs_dask.datasets.file_dataset import FileDataset
    from prs_dask.datasets.read_spec import ReadError, ReadSpec
    from prs_dask.datasets.tabular_dataset import TabularDataset

__all__ = ["Dataset", "FileDataset", "ReadError", "ReadSpec", "TabularDataset"]

_HOMES = {
    "Dataset": "dataset",
    "FileDataset": "file_dataset",
    "ReadError": "read_spec",
    "ReadSpec": "read_spec",
    "TabularDataset": "tabular_dataset",
}
__getattr__ = loaded_on_first_use(__name__, _HOMES)

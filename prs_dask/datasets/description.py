"""A dataset in the words of a step file, so that it can be written down and made again.

The other way round is ``prs_dask.cli.input_description``. Options that have their default stand there too: two
descriptions are equal where the datasets are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prs_dask.datasets.dataset import Dataset
from prs_dask.datasets.query import Query
from prs_dask.datasets.tabular_dataset import TabularDataset
from prs_dask.datasets.text_options import HEADER_WORDS

__all__ = ["description_of"]


def description_of(dataset: Dataset) -> dict[str, Any]:
    """``format``, ``path`` and the options of a dataset. Secrets are in it.

    What cannot be made again from words has ``only_in_python``, which says what of it: rows in memory, live objects.
    """
    described = _options(dataset)
    if dataset.paths:
        described["path"] = list(dataset.paths)
    if dataset.partition_format is not None:
        described["partition_format"] = dataset.partition_format
    if dataset.left_out:  # an MLTable folder: what its file meant can be compared, and its path is what it is made from
        described = {"format": "mltable", "path": sorted(dataset.left_out), "table": described}
    if dataset.name is not None:
        described["name"] = dataset.name
    if dataset.path_on_compute is not None:
        described["path_on_compute"] = dataset.path_on_compute
    if dataset.storage_options:
        described["storage_options"] = dict(dataset.storage_options)
    return described


def _options(dataset: Dataset) -> dict[str, Any]:
    if not isinstance(dataset, TabularDataset):
        mode = dataset.mode if dataset.mode != "mount" else "download"  # which are the same
        return {"format": "files", "include_hidden": dataset.include_hidden, "mode": mode}
    spec = dataset.spec
    changes = {"changes": [repr(change) for change in spec.changes]} if spec.changes else {}
    if spec.kind == "delimited":
        return {
            "format": "delimited",
            "separator": spec.separator,
            "header": HEADER_WORDS[dataset.header],
            "encoding": spec.encoding,
            "support_multi_line": spec.multi_line,
            "include_path": spec.include_path,
            **_dtype(spec.dtype),
            **changes,
        }
    if spec.kind == "json_lines":
        return {"format": "jsonlines", "encoding": spec.encoding, "include_path": spec.include_path, **changes}
    if spec.kind == "parquet":
        return {"format": "parquet", "include_path": spec.include_path, **changes}
    if isinstance(spec.query, Query):
        return _query(spec.query)
    return {"format": "frame", "only_in_python": "rows in memory"}


def _query(query: Query) -> dict[str, Any]:
    parameters = dict(query.parameters)
    described = {
        "format": "sql",
        "database": query.shown_url,
        "connection": query.url,
        "query": query.text,
        "parameters": parameters,
        **_dtype(query.dtype),
    }
    if not all(value is None or isinstance(value, (str, int, float)) for value in parameters.values()):
        described["only_in_python"] = "its parameters"
    return described


def _dtype(dtype: Any) -> dict[str, Any]:
    """A dtype as text, or as a mapping of names to texts, where pandas makes the same of it."""
    if dtype is None:
        return {}
    from pandas.api.types import pandas_dtype

    one_for_all = not isinstance(dtype, Mapping)
    texts = {}
    for name, kind in {"": dtype}.items() if one_for_all else dtype.items():
        texts[name] = kind if isinstance(kind, str) else str(pandas_dtype(kind))
        try:
            same = isinstance(name, str) and pandas_dtype(texts[name]) == pandas_dtype(kind)
        except TypeError:
            same = False
        if not same:
            return {"dtype": str(dtype), "only_in_python": "its dtype"}
    return {"dtype": texts[""] if one_for_all else texts}

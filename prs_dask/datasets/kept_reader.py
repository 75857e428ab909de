"""How a dataset was read, as JSON: what a resume reads it with again.

Only what was found by looking at the first files is kept: names and types of columns, the one file with a header, the
schema of Parquet files, the keys in paths. The options that the user gave come from the dataset itself. So no secret
ever stands here, and types that were inferred once stay, whatever the first file is by then.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from prs_dask.datasets.dataset import Dataset
from prs_dask.datasets.file_dataset import FileDataset
from prs_dask.datasets.parquet_schema import FirstFile
from prs_dask.datasets.path_format import PathFormat
from prs_dask.datasets.read_spec import HeaderFile, ReadSpec
from prs_dask.datasets.tabular_dataset import TabularDataset

__all__ = ["kept_reader", "reader_as_kept"]


def kept_reader(spec: ReadSpec) -> dict[str, Any]:
    """JSON values of what a reader has found."""
    kept: dict[str, Any] = {"kind": spec.kind}
    if spec.names is not None:
        kept["names"] = list(spec.names)
    if spec.header_file is not None:
        kept["header_file"] = list(spec.header_file)
    if spec.column_types:
        kept["column_types"] = [list(one) for one in spec.column_types]
    if spec.path_format is not None:
        kept["path_format"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in spec.path_format._asdict().items()
        }
    if spec.first_file is not None:
        schema = base64.b64encode(spec.first_file.schema).decode("ascii")
        kept["first_file"] = {"path": spec.first_file.path, "schema": schema}
    return kept


def reader_as_kept(dataset: Dataset, kept: Mapping[str, Any]) -> ReadSpec:
    """The reader that `kept_reader` was given, with the dataset's own options; looks at no file.

    Raises
    ------
    ValueError
        It was kept of another kind of dataset, or is none of ours.
    """
    assert isinstance(dataset, FileDataset | TabularDataset)  # noqa: S101 - tells the type checker
    spec = dataset.spec
    if kept.get("kind") != spec.kind:
        raise ValueError(f"a reader of {kept.get('kind')!r}, not of {spec.kind!r}")
    if not dataset.paths:
        return spec
    try:
        names, first, path_format = kept.get("names"), kept.get("first_file"), kept.get("path_format")
        header_file = kept.get("header_file")
        return spec._replace(
            keys=dataset.group_by,
            names=None if names is None else tuple(names),
            header_file=None if header_file is None else HeaderFile(*header_file),
            column_types=tuple((str(name), str(kind)) for name, kind in kept.get("column_types", ())),
            path_format=None if path_format is None else PathFormat(**{n: _tuple(v) for n, v in path_format.items()}),
            first_file=None if first is None else FirstFile(first["path"], base64.b64decode(first["schema"])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no reader: {error}") from error


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

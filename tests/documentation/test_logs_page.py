"""The page about logs names every path of the tree and every column of its tables."""

from pathlib import Path

import pytest

from prs_dask.logs import places

PAGE = (Path(__file__).parents[2] / "docs/reference/logs.md").read_text("utf-8")
SHOWN = {"node": "<node>", "process": "<process>", "component": "<component>", "hour": "<yyyymmddhh>", "name": "<name>"}
SHOWN |= {"minute": "<mm>", "gpu": "0"}

PATHS = [value for name in places.__all__ if isinstance(value := getattr(places, name), str)]
COLUMNS = [name for name in places.__all__ if name.endswith("COLUMNS")]


@pytest.mark.parametrize("path", sorted({*PATHS, *places.STREAMS.values()}))
def test_every_path_is_named(path):
    assert f"`{path.format(**SHOWN)}`" in PAGE


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_named(table):
    assert [column for column in getattr(places, table) if f"`{column.format(**SHOWN)}`" not in PAGE] == []

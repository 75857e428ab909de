"""Keys in the paths of a store are found as those in local paths; versions stay with their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets.reading import read
from prs_dask.errors import InputError


@pytest.fixture
def put() -> Iterator[Callable[[str, bytes], None]]:
    memory = fsspec.filesystem("memory")
    yield lambda name, data: memory.pipe_file(f"/box/{name}", data)
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def test_files_are_grouped_with_their_versions(put):
    for name in ("ann/2024/01/a.wav", "ann/2024/02/b.wav", "ben/2024/01/c.wav"):
        put(name, name.encode())
    dataset = FileDataset.from_files("memory://box", partition_format="{user}/{month:yyyy/MM}/{song}.wav")
    assert dataset.partition_keys == ("user", "month", "song")
    told = {
        path: version for batch in dataset.plan() for path, version in zip(batch.paths, batch.versions, strict=True)
    }
    plan = dataset.grouped_by(["user"]).plan()
    assert [batch.values for batch in plan] == [("ann",), ("ben",)]
    assert {path: v for batch in plan for path, v in zip(batch.paths, batch.versions, strict=True)} == told
    assert all(told.values())
    months = [batch.values for batch in dataset.grouped_by(["month"]).plan()]
    assert months == [(datetime(2024, 1, 1),), (datetime(2024, 2, 1),)]
    pattern = FileDataset.from_files("memory://box/*/2024/**", partition_format="{user}/{month:yyyy/MM}/{song}.wav")
    assert len(pattern.grouped_by(["user"]).plan()) == 2
    with pytest.raises(InputError, match="'size'.*user, month, song"):
        dataset.grouped_by(["size"]).check()


def test_a_table_that_partition_by_has_written_is_the_same_from_a_store(put, tmp_path: Path):
    frame = pd.DataFrame({"n": range(4), "zip": ["007", "8", "a/b", ""], "weight": [0.5, 1, 2, 3]})
    local = TabularDataset.from_pandas(frame).partition_by(["zip", "weight"], tmp_path / "t")
    for path in (tmp_path / "t").rglob("*"):
        if path.is_file():
            put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    remote = TabularDataset.from_parquet_files("memory://box/t")
    assert remote.partition_keys == ("zip", "weight")
    order = ["zip", "weight"]
    found, expected = (one.to_pandas().sort_values(order, ignore_index=True) for one in (remote, local))
    pd.testing.assert_frame_equal(found, expected)
    grouped = remote.grouped_by(["zip"])
    assert {batch.values: len(read(batch, grouped.reader())) for batch in grouped.plan()} == {
        (text,): 1 for text in frame["zip"]
    }
    assert all(part.version for batch in grouped.plan() for part in batch.parts)

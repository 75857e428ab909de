"""What a step would run, without running it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SettingsError, TabularDataset
from prs_dask.mini_batches import FileMiniBatch
from prs_dask.pipeline.plan import made_plan


def step(folder: Path, inputs: Any, **settings: Any) -> ParallelRunStep:
    (folder / "script.py").write_text("def run(mini_batch): return mini_batch\n")
    config = ParallelRunConfig(
        entry_script=folder / "script.py", output_action="append_row", error_threshold=0, **settings
    )
    return ParallelRunStep("plans", config, inputs, folder / "output")


def test_files_are_counted_and_measured_and_the_first_mini_batches_kept(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / str(number)).write_bytes(bytes(number))
    inputs = [FileDataset.from_files(tmp_path / name).as_named_input(name) for name in ("left", "right")]
    plan = step(tmp_path, inputs, mini_batch_size=2).plan(4)
    assert plan.complete
    assert plan.listed == 6
    assert [(one.name, one.mini_batches, one.files, one.items, one.bytes) for one in plan.inputs] == [
        ("left", 3, 5, 5, 10),
        ("right", 3, 5, 5, 10),
    ]
    assert [one.items for one in plan] == [2, 2, 1, 2]
    first = tuple(tmp_path / "left" / name for name in "01")
    versions = tuple(f"{size}-{path.stat().st_mtime_ns}" for size, path in enumerate(first))
    assert plan[0] == FileMiniBatch(0, tuple(map(str, first)), versions)
    assert plan[-1:] == (plan[3],)
    assert repr(plan) == "StepPlan(6 mini-batches of 2 inputs)"


def test_tables_of_every_kind_tell_what_is_known(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": range(100), "b": ["x"] * 100})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "b.parquet", row_group_size=10)
    connection = sqlite3.connect(tmp_path / "c.db")
    frame.to_sql("t", connection)
    connection.close()
    inputs = [
        TabularDataset.from_delimited_files(tmp_path / "a.csv"),
        TabularDataset.from_parquet_files(tmp_path / "b.parquet"),
        TabularDataset.from_sql_query(f"sqlite:///{tmp_path}/c.db", "select * from t"),
        TabularDataset.from_pandas(frame),
    ]
    plan = step(tmp_path, inputs, mini_batch_size=100).plan()
    csv, parquet, query, memory = plan.inputs
    assert (csv.format, csv.files, csv.items, csv.bytes) == ("delimited", 1, None, (tmp_path / "a.csv").stat().st_size)
    assert (parquet.mini_batches, parquet.items, parquet.files) == (10, 100, 1)
    assert (query.mini_batches, query.items, query.bytes, query.files) == (1, None, None, 0)
    assert (memory.format, memory.items, memory.files) == ("frame", 100, 0)
    assert json.loads(json.dumps(plan.as_dict()))["mini_batch_size"] == 100


def test_keys_are_told_by_name(tmp_path: Path) -> None:
    for store in (1, 2):
        (tmp_path / "data" / f"store={store}").mkdir(parents=True)
        (tmp_path / "data" / f"store={store}" / "x.csv").write_text("a\n1\n")
    plan = step(tmp_path, TabularDataset.from_delimited_files(tmp_path / "data"), partition_keys=["store"]).plan()
    assert [plan.keys_of(one) for one in plan] == [{"store": 1}, {"store": 2}]
    assert plan.mini_batch_size is None
    assert plan.as_dict()["first"][1]["keys"] == {"store": 2}


def test_it_refuses_what_run_refuses(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        step(tmp_path, FileDataset.from_files(tmp_path / "nowhere")).plan()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "parallel_run_step.txt").touch()
    with pytest.raises(SettingsError, match="an output is never overwritten"):
        step(tmp_path, FileDataset.from_files(tmp_path / "script.py")).plan()


def test_counting_ends_when_its_time_is_over(tmp_path: Path) -> None:
    now = iter(range(100))
    endless = (FileMiniBatch(0, (f"s3://b/{number}",), (f"{number}-etag",)) for number in range(10**9))
    plan = made_plan(
        [FileDataset.from_files(tmp_path)], endless, 3, 5.0, clock=lambda: float(next(now)), mini_batch_size=1
    )
    assert not plan.complete
    assert len(plan) == 3
    assert 3 < plan.listed < 10
    assert plan.inputs[0].bytes == sum(range(plan.listed))
    assert repr(plan).startswith("StepPlan(at least ")
    assert not list(tmp_path.iterdir())


def test_the_size_of_what_is_gone_is_unknown(tmp_path: Path) -> None:
    plan = made_plan([FileDataset.from_files("x")], [FileMiniBatch(0, ("/nowhere",))], None, 0, mini_batch_size=1)
    assert plan.inputs[0].bytes is None

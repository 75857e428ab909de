"""Inputs that are no files, several inputs, and side inputs: as entry scripts see them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pytest
from dask import delayed
from distributed import Client

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, StepRun, TabularDataset

IDS = """
def run(mini_batch, context):
    return [f"{context.dataset} {number} {text}" for number, text in zip(mini_batch["id"], mini_batch["text"])]
"""


@pytest.fixture(scope="module")
def client() -> Any:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None, set_as_default=False) as client:
        yield client


def completed(folder: Path, client: Client, script: str, inputs: Any, **more: Any) -> StepRun:
    names = ("mini_batch_size", "run_max_try", "error_threshold")
    settings = {"error_threshold": 0} | {key: more.pop(key) for key in names if key in more}
    path = folder / "script.py"
    path.write_text(script)
    config = ParallelRunConfig(entry_script=path, output_action="append_row", **settings)
    step = ParallelRunStep("kinds", config, inputs, folder / "output", **more)
    run = step.submit(run_folder=folder / "run", compute_target=client)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    return run


def rows(run: StepRun) -> list[str]:
    assert run.output_file is not None
    return sorted(run.output_file.read_text().splitlines(), key=lambda row: (row.split()[0], int(row.split()[1])))


def table(first: int, count: int) -> pd.DataFrame:
    return pd.DataFrame({"id": range(first, first + count), "text": [f"t{n}" for n in range(first, first + count)]})


class ChangedBehindItsListing(FileDataset):
    """Of ten files one is written anew and one removed when all have been listed."""

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[Any]:
        every = list(super().mini_batches(mini_batch_size, input_index))
        folder = Path(self.paths[0])
        (folder / "3").write_text("anew")
        (folder / "6").unlink()
        yield from every


def test_files_that_were_changed_or_removed_since_they_were_listed_are_errors_of_their_mini_batches(
    tmp_path: Path, client: Client
) -> None:
    (tmp_path / "items").mkdir()
    for number in range(10):
        (tmp_path / "items" / str(number)).write_text("as listed")
    dataset = ChangedBehindItsListing.from_files(tmp_path / "items")
    script = "import os\ndef run(mini_batch): return ['row ' + os.path.basename(path) for path in mini_batch]\n"
    run = completed(tmp_path, client, script, dataset, mini_batch_size=1, run_max_try=1, error_threshold=-1)
    assert rows(run) == [f"row {number}" for number in range(10) if number not in (3, 6)]
    errors = "".join(path.read_text() for path in run.log_dir.glob("user/error/**/*.txt"))
    assert f"{tmp_path}/items/3: the file was changed since it was listed (9 bytes then, 4 now)" in errors
    assert f"{tmp_path}/items/6: the file is gone: it was removed since it was listed" in errors
    table = (run.log_dir / "sys/job_report/processed_mini-batches.csv").read_text()
    assert table.count("load error") == 2


def test_tables_of_every_kind_together_each_row_once(tmp_path: Path, client: Client) -> None:
    table(0, 100).to_csv(tmp_path / "a.csv", index=False)
    table(100, 100).to_parquet(tmp_path / "b.parquet")
    table(200, 100).to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    connection = sqlite3.connect(tmp_path / "d.db")
    table(300, 100).to_sql("t", connection, index=False)
    connection.close()
    inputs = [
        TabularDataset.from_delimited_files(tmp_path / "a.csv").as_named_input("csv"),
        TabularDataset.from_parquet_files(tmp_path / "b.parquet").as_named_input("parquet"),
        TabularDataset.from_json_lines_files(tmp_path / "c.jsonl"),
        TabularDataset.from_sql_query(f"sqlite:///{tmp_path}/d.db", "select * from t").as_named_input("sql"),
        TabularDataset.from_pandas(table(400, 100)).as_named_input("pandas"),
        TabularDataset.from_dask(dd.from_pandas(table(500, 100), npartitions=3)).as_named_input("dask"),
    ]
    run = completed(tmp_path, client, IDS, inputs, mini_batch_size=300)
    names = ["csv", "parquet", "2", "sql", "pandas", "dask"]
    expected = [f"{names[n // 100]} {n} t{n}" for n in range(600)]
    assert rows(run) == sorted(expected, key=lambda row: (row.split()[0], int(row.split()[1])))
    assert run.summary().items == 600


def test_the_same_dataset_twice_is_read_twice_and_names_tell_which(tmp_path: Path, client: Client) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").touch()
    files = FileDataset.from_files(tmp_path / "*.txt")
    script = """
import os
def run(mini_batch, context):
    return [f"{context.dataset} {os.path.basename(path)[0]} {context.minibatch_index}" for path in mini_batch]
"""
    inputs = [files.as_named_input("left"), files.as_named_input("right"), files]
    run = completed(tmp_path, client, script, inputs, mini_batch_size=2)
    found = [row.split() for row in rows(run)]
    assert [row[:2] for row in found] == [[name, str(n)] for name in ("2", "left", "right") for n in range(5)]
    first_id = {"left": 0, "right": 3, "2": 6}  # ids count on from one input to the next
    assert all(int(row[2]) == first_id[row[0]] + int(row[1]) // 2 for row in found)


def test_many_megabytes_in_memory_pass_through_small_windows(tmp_path: Path, client: Client) -> None:
    frame = pd.DataFrame({"id": range(200), "text": ["x" * 200_000] * 200})
    script = """
def run(mini_batch):
    return [f"a {n}" for n, text in zip(mini_batch["id"], mini_batch["text"]) if len(text) == 200_000]
"""
    run = completed(tmp_path, client, script, TabularDataset.from_pandas(frame), mini_batch_size="1MB")
    assert rows(run) == [f"a {n}" for n in range(200)]
    assert run.summary().mini_batches == 40


def test_a_retried_mini_batch_in_memory_gets_a_fresh_frame(tmp_path: Path, client: Client) -> None:
    script = """
def run(mini_batch, context):
    assert "spoilt" not in mini_batch
    mini_batch["spoilt"] = 1
    if context.attempt < 3:
        raise ValueError("again")
    return [f"a {n}" for n in mini_batch["id"]]
"""
    run = completed(tmp_path, client, script, TabularDataset.from_pandas(table(0, 10)), run_max_try=3)
    assert rows(run) == [f"a {n}" for n in range(10)]


def test_side_inputs_are_found_by_arguments_and_by_name(tmp_path: Path, client: Client) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("42")
    labels = FileDataset.from_files(tmp_path / "labels.txt").as_named_input("labels")
    model = FileDataset.from_files(tmp_path / "model").as_download(str(tmp_path / "placed" / "model"))
    script = """
import sys
from pathlib import Path
from azureml.core import Run

def init():
    global labels, weights
    labels = Path(sys.argv[2]).read_text().split()
    weights = Path(sys.argv[4], "weights").read_text()
    assert Run.get_context().input_datasets["labels"] == sys.argv[2]

def run(mini_batch):
    return [f"a {n} {labels[n % 2]} {weights}" for n in mini_batch["id"]]
"""
    run = completed(
        tmp_path,
        client,
        script,
        TabularDataset.from_pandas(table(0, 4)),
        side_inputs=[labels, model],
        arguments=["--labels", labels, "--model", model],
    )
    assert rows(run) == ["a 0 cat 42", "a 1 dog 42", "a 2 cat 42", "a 3 dog 42"]
    assert list((tmp_path / "placed").iterdir()) == []


def test_partitions_are_computed_on_the_cluster_that_runs_the_step(tmp_path: Path, no_leaks: None) -> None:
    """With the one thread of its one worker taken by the step run most of the time."""

    def part(number: int) -> pd.DataFrame:
        import distributed

        distributed.get_worker()  # not in this process
        return table(10 * number, 10)

    parts = [delayed(part)(number) for number in range(6)]
    frame = dd.from_delayed(parts, meta=table(0, 1), verify_meta=False)
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        script = "def run(mini_batch):\n    return [f'a {n}' for n in mini_batch['id']]"
        run = completed(tmp_path, client, script, TabularDataset.from_dask(frame))
    assert rows(run) == [f"a {n}" for n in range(60)]
    assert run.summary().mini_batches == 6

"""Whole jobs by partition keys: each combination once, with its values, whatever fails on the way."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from distributed import Client, get_task_stream

from prs_dask import FileDataset, SettingsError, TabularDataset, parallel_run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-by-partition-keys.md"

VALUES = """
import json

def run(mini_batch, mini_batch_context):
    values = mini_batch_context.partition_key_value
    return [json.dumps([list(values), list(values.values()), mini_batch_context.dataset, len(mini_batch)])]
"""

ROWS = """
import os

def run(mini_batch, mini_batch_context):
    assert mini_batch_context.partition_key_value == {"store": mini_batch["store"][0]}
    assert mini_batch["store"].nunique() == 1
    if mini_batch_context.attempt == 1:
        if mini_batch["store"][0] % 3 == 1:
            os._exit(1)
        if mini_batch["store"][0] % 3 == 2:
            raise ValueError("first attempt")
    return mini_batch["n"].tolist()
"""


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    for number in range(12):
        path = folder / f"{'ab'[number % 2]}/{number % 3 + 2020}/song {number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """12 stores, 5 files each, 20 rows a file."""
    folder = tmp_path / "sales"
    for store in range(12):
        for day in range(5):
            path = folder / f"day-{day}" / f"store-{store}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            first = (store * 5 + day) * 20
            path.write_text("n\n" + "".join(f"{first + row}\n" for row in range(20)))
    return folder


def test_files_come_by_combination_with_their_typed_values(job, songs):
    inputs = FileDataset.from_files(songs, partition_format="{user}/{year}/{song}.wav").as_named_input("songs")
    done = job(VALUES, inputs=inputs, mini_batch_size=None, partition_keys=["year", "user"])
    assert done.state == "Completed"
    assert Counter(done.rows) == {
        json.dumps([["year", "user"], [year, user], "songs", 2]): 1 for year in (2020, 2021, 2022) for user in "ab"
    }


def test_without_partition_keys_no_values_are_given(job, songs):
    inputs = FileDataset.from_files(songs, partition_format="{user}/{year}/{song}.wav")
    done = job(VALUES, inputs=inputs, mini_batch_size=6)
    assert done.rows == [json.dumps([[], [], "0", 6])] * 2


def test_every_row_comes_once_though_processes_die_and_attempts_fail(job, sales):
    inputs = TabularDataset.from_delimited_files(sales, partition_format="{day}/store-{store}.csv")
    done = job(ROWS, inputs=inputs, mini_batch_size=None, partition_keys=["store"])
    assert done.state == "Completed"
    assert done.items == list(range(12 * 5 * 20))
    assert done.tries() == {number: 1 if store % 3 == 0 else 2 for number, store in enumerate(stores_in_order())}
    assert "(10) in " in done.log("sys/job_report/processed_mini-batches.csv")


def stores_in_order() -> list[int]:
    return sorted(range(12), key=str)  # the files of a folder are sorted by their bytes


def test_several_inputs_are_grouped_each_for_itself(cluster, songs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(VALUES)
    inputs = [
        FileDataset.from_files(songs, partition_format="{user}/{year}/{song}.wav").as_named_input("songs"),
        FileDataset.from_files(f"{songs}/a/**", partition_format="{year}/{user} {song}.wav").as_named_input("more"),
    ]
    settings = {"partition_keys": ["user"], "error_threshold": -1, "compute_target": cluster.address}
    run = parallel_run(script, inputs, tmp_path / "output", run_folder=tmp_path / "run", **settings)
    rows = [json.loads(row) for row in run.output_file.read_text().splitlines()]
    assert sorted(row[1:] for row in rows) == [[["a"], "songs", 6], [["b"], "songs", 6], [["song"], "more", 6]]
    with pytest.raises(SettingsError, match="tell no keys"):
        parallel_run(script, [inputs[0], FileDataset.from_files(songs)], **{**settings, "partition_keys": ["song"]})


def test_combinations_without_rows_are_not_given_to_run(job, tmp_path):
    for name, text in {"k=1/a.csv": "n\n", "k=2/b.csv": "n\n5\n", "k=3/c.csv": ""}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    script = "def run(mini_batch):\n    return [mini_batch['n'][0]]\n"
    inputs = TabularDataset.from_delimited_files(tmp_path / "data")
    done = job(script, inputs=inputs, mini_batch_size=None, partition_keys=["k"])
    assert done.state == "Completed"
    assert done.rows == ["5"]
    assert done.run.summary().succeeded_mini_batches == 3


def test_a_file_that_cannot_be_read_fails_its_combination_only(job, sales):
    (sales / "day-0" / "store-3.csv").write_text("n\n1,2\n")
    inputs = TabularDataset.from_delimited_files(sales, partition_format="{day}/store-{store}.csv")
    script = "def run(mini_batch):\n    return mini_batch['n'].tolist()\n"
    done = job(script, inputs=inputs, mini_batch_size=None, partition_keys=["store"], run_max_try=1)
    lost = set(range(3 * 5 * 20, 4 * 5 * 20))
    assert done.items == sorted(set(range(1200)) - lost)
    assert done.run.summary().failed_mini_batches == 1
    assert "store-3.csv" in done.log("user/failed_items.jsonl")


def test_unknown_keys_are_refused_before_anything_starts(submit, songs, tmp_path):
    inputs = FileDataset.from_files(songs, partition_format="{user}/{year}/{song}.wav")
    with pytest.raises(SettingsError, match="'genre'.*allowed: user, year, song"):
        submit(VALUES, inputs=inputs, mini_batch_size=None, partition_keys=["user", "genre"])
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("settings", [{"mini_batch_size": None, "partition_keys": ["user"]}, {"mini_batch_size": 1000}])
def test_a_file_without_keys_behind_the_listings_head_ends_the_step_run_and_is_named(job, songs, settings):
    for number in range(1000):
        (songs / f"{number}/x").mkdir(parents=True)
        (songs / f"{number}/x/0.wav").touch()
    (songs / "zzz").mkdir()
    (songs / "zzz" / "bad.wav").touch()
    inputs = FileDataset.from_files(songs, partition_format="{user}/{year}/{song}.wav")
    done = job(VALUES, inputs=inputs, **settings)
    assert done.state == "Failed"
    assert "zzz/bad.wav" in done.log("job_result.txt")
    assert "{user}/{year}/{song}.wav" in done.log("job_result.txt")


def test_the_command_takes_partition_keys(command, songs):
    script = command.script(VALUES)
    step_file = command.folder / "step.yml"
    step_file.write_text(
        f"entry_script: {script}\ninputs:\n"
        f"  - path: {songs}\n    partition_format: '{{user}}/{{year}}/{{song}}.wav'\n"
        "partition_keys: [user]\noutput_action: append_row\nerror_threshold: -1\noutput: out\n"
        "process_count_per_node: 2\n"
    )
    code, out, err = command("plan", step_file)
    assert code == 0, err
    assert "2 mini-batches" in out
    assert "[user=a]" in out
    code, _, err = command("run", step_file, "--run-folder", "run")
    assert code == 0, err
    rows = (command.folder / "out" / "parallel_run_step.txt").read_text().splitlines()
    assert sorted(json.loads(row)[1] for row in rows) == [["a"], ["b"]]
    code, _, err = command("run", step_file, "--partition-keys", "user,genre", "--run-folder", "run2")
    assert code == 2
    assert "'genre'" in err
    assert "user, year, song" in err


def test_the_command_finds_hive_folders(command):
    for store in (1, 2):
        (command.folder / "data" / f"Store={store}").mkdir(parents=True)
        (command.folder / "data" / f"Store={store}" / "x").touch()
    arguments = [
        "--entry-script",
        command.script(VALUES),
        "--input",
        "data",
        "--output",
        "out",
        "--output-action",
        "append_row",
    ]
    code, _, err = command("run", *arguments, "--partition-keys", "Store", "--process-count-per-node", 1)
    assert code == 0, err
    rows = (command.folder / "out" / "parallel_run_step.txt").read_text().splitlines()
    assert sorted(json.loads(row)[:2] for row in rows) == [[["Store"], [1]], [["Store"], [2]]]


def test_the_page_on_partition_keys_works_as_it_is_written(command):
    blocks = re.findall(r"^```(sh|python|yaml)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    for language, block in blocks:
        if language == "sh":
            subprocess.run(["bash", "-euc", block], cwd=command.folder, check=True)
        else:
            (command.folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
    code, out, err = command("songs.py", python=True)
    assert code == 0, err
    assert out.splitlines()[:2] == ["('user', 'season', 'genre')", "4 mini-batches"]
    code, _, err = command("run", "songs.yml")
    assert code == 0, err
    counts = [(command.folder / name / "parallel_run_step.txt").read_text() for name in ("counts", "counts-again")]
    expected = sorted(f"{user} {season}: 2 songs" for user in ("ann", "ben") for season in (2022, 2023) for _ in "12")
    assert [sorted(text.splitlines()) for text in counts] == [expected, expected]
    code, out, err = command("sales.py", python=True)
    assert code == 0, err
    assert sorted(out.split("\n")) == ["", "", "1 x 3", "1 y/z 4", "2 x 11", "2 x 11"]


def test_partition_by_is_the_current_clients_work(cluster, sales, tmp_path):
    table = TabularDataset.from_delimited_files(sales, include_path=True)
    with Client(cluster.address) as client, get_task_stream(client) as tasks:
        written = table.partition_by(["n"], tmp_path / "by")
    assert len(tasks.data) >= len(table.plan())  # one for each partition, on the cluster's workers
    assert written.to_pandas()["n"].sort_values().tolist() == list(range(1200))


def test_one_combination_may_hold_very_many_files(job, tmp_path):
    folder = tmp_path / "data" / "k=1"
    folder.mkdir(parents=True)
    for number in range(30_000):
        (folder / f"{number:0100}").touch()
    done = job(VALUES, inputs=FileDataset.from_files(tmp_path / "data"), mini_batch_size=None, partition_keys=["k"])
    assert done.rows == [json.dumps([["k"], [1], "0", 30_000])]

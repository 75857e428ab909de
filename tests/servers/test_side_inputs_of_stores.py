"""Side inputs in a store are brought below the run folder before workers start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SettingsError, TabularDataset
from prs_dask.cancellation import Cancellation
from prs_dask.pipeline.side_inputs import Places

SCRIPT = """
import sys
from pathlib import Path

def run(mini_batch):
    folder = Path(sys.argv[1])
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [f"{names} {Path(sys.argv[2]).read_text()}" for path in mini_batch]
"""


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def step(folder: Path, arguments: list[Any]) -> ParallelRunStep:
    (folder / "script.py").write_text(SCRIPT)
    config = ParallelRunConfig(
        entry_script=folder / "script.py", output_action="append_row", error_threshold=0, process_count_per_node=1
    )
    inputs = FileDataset.from_files(folder / "script.py")
    return ParallelRunStep("sides", config, inputs, folder / "output", side_inputs=arguments, arguments=arguments)


def test_files_and_folders_are_brought(store: Any, tmp_path: Path) -> None:
    bucket = store.bucket()
    for name in ("model/a.txt", "model/deep er/b.txt", "models/other.txt"):
        store.put(f"{bucket}/{name}", b"x")
    labels = FileDataset.from_files(store.put(f"{bucket}/labels.txt", b"cat"), storage_options=store.options)
    model = FileDataset.from_files(f"{bucket}/model", storage_options=store.options)
    run = step(tmp_path, [model, labels.as_download(str(tmp_path / "link"))]).submit(run_folder=tmp_path / "run")
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert run.output_file.read_text() == "['a.txt', 'deep er/b.txt'] cat\n"
    assert not (tmp_path / "link").is_symlink()


def test_a_step_file_names_them_with_options_from_the_environment(s3: Any, tmp_path: Path) -> None:
    url = s3.put(f"{s3.bucket()}/labels.txt", b"cat")
    (tmp_path / "script.py").write_text(
        "from azureml.core import Run\n"
        "def run(mini_batch): return [open(Run.get_context().input_datasets['labels']).read()]\n"
    )
    options = {**s3.options, "secret": "${env:SIDE_SECRET}"}
    step = {
        "entry_script": "script.py",
        "output_action": "append_row",
        "inputs": ["script.py"],
        "output": "output",
        "side_inputs": {"labels": {"path": url, "storage_options": options}},
    }
    (tmp_path / "step.yml").write_text(json.dumps(step))  # which is YAML too
    command = [sys.executable, "-m", "prs_dask", "run", "step.yml", "--run-folder", "run"]
    environment = {**os.environ, "SIDE_SECRET": s3.options["secret"], "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "parallel_run_step.txt").read_text() == "cat\n"
    assert "${env:SIDE_SECRET}" in (tmp_path / "run" / "run.json").read_text()


def test_an_mltable_may_name_files_in_a_store(s3: Any, tmp_path: Path) -> None:
    url = s3.put(f"{s3.bucket()}/table/a.csv", b"id,x\n1,2\n3,4\n").removesuffix("a.csv")
    (tmp_path / "MLTable").write_text(f"paths: [{{pattern: '{url}*.csv'}}]\ntransformations: [read_delimited]\n")
    dataset = TabularDataset.from_mltable(tmp_path, storage_options=s3.options)
    dataset.check()
    assert dataset.to_pandas().to_numpy().tolist() == [[1, 2], [3, 4]]


def test_over_http(web: Any, tmp_path: Path) -> None:
    url = web.put("labels.txt", b"dog")
    places = Places([FileDataset.from_files(url)], tmp_path)
    places.bring(Cancellation())
    assert (tmp_path / "0" / "labels.txt").read_bytes() == b"dog"


def test_what_is_missing_is_refused_before_anything_starts(s3: Any, tmp_path: Path) -> None:
    nothing = FileDataset.from_files(f"{s3.bucket()}/nothing", storage_options=s3.options)
    with pytest.raises(SettingsError, match="nothing"):
        step(tmp_path, [nothing]).submit(run_folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_name_that_leads_elsewhere_is_refused(s3: Any, tmp_path: Path) -> None:
    bucket = s3.bucket()
    s3.put(f"{bucket}/model/../../evil", b"x")
    places = Places([FileDataset.from_files(f"{bucket}/model", storage_options=s3.options)], tmp_path / "run")
    with pytest.raises(OSError, match=r"without \. and \.\."):
        places.bring(Cancellation())
    assert not list(tmp_path.rglob("evil"))

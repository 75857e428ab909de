"""A step is made again from run.json: the same one, or an error that says what has to be given again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from distributed import Security

from prs_dask import FileDataset, OutputFileDatasetConfig, ParallelRunConfig, ParallelRunStep, SettingsError, SSHTarget
from prs_dask.cli.input_description import InputDescription, made_dataset
from prs_dask.cli.recorded_step import recorded_step
from prs_dask.datasets import TabularDataset
from prs_dask.pipeline.differences import differences
from prs_dask.pipeline.preparation import prepare
from prs_dask.pipeline.run_record import run_record

SALT = b"0123456789abcdef"
NO_FLAGS: dict[str, Any] = {"input_options": (), "storage_options": (), "script_arguments": ()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "score.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a,b\n1,2\n")
    return tmp_path


@pytest.fixture
def recorded(folder: Path) -> Callable[..., tuple[dict[str, Any], Any]]:
    """The record of a step, and what an earlier driver would have left of it."""

    def make(inputs: Any = None, arguments: Any = (), side_inputs: Any = (), **settings: Any) -> tuple[Any, Any]:
        config = ParallelRunConfig(
            **{
                "entry_script": "score.py",
                "source_directory": "source",
                "error_threshold": 0,
                "output_action": "append_row",
                **settings,
            }
        )
        inputs = inputs if inputs is not None else FileDataset.from_files(folder / "data")
        step = ParallelRunStep("score", config, inputs, folder / "output", side_inputs, arguments)
        preparation = prepare(config, step.options, step.inputs)
        record = record_of(step, folder)
        if preparation.source is not None:
            (folder / "source.zip").write_bytes(preparation.source.data)
        kept = SimpleNamespace(path=folder, source_zip=folder / "source.zip")
        return record, SimpleNamespace(record=record, salt=SALT, folder=kept)

    return make


def record_of(step: ParallelRunStep, folder: Path) -> dict[str, Any]:
    made = run_record(
        step,
        step.config,
        prepare(step.config, step.options, step.inputs),
        run_id="score-1",
        run_folder=folder,
        output_folder=folder / "output",
        compute_target=step.config.compute_target,
        salt=SALT,
    )
    as_json: dict[str, Any] = json.loads(json.dumps(made))
    return as_json


def faults(earlier: Any, **flags: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught, recorded_step(earlier, {**NO_FLAGS, **flags}):
        pass
    return [str(fault) for fault in caught.value.faults]


def test_the_same_step_is_made_of_every_kind_of_input(recorded: Any, folder: Path) -> None:
    table = TabularDataset.from_delimited_files(folder / "data", separator=",", dtype={"a": "Int64"})
    record, earlier = recorded(
        [table.as_named_input("one"), TabularDataset.from_delimited_files("data/*.csv", header="no_headers")],
        ["--rate", 0.5, "--init_timeout", 9, OutputFileDatasetConfig(), FileDataset.from_files("data/a.csv")],
        ["data", FileDataset.from_files("data").as_named_input("labels")],
        retry_backoff=(1, 2, 3),
        retry_on=["ValueError"],
        append_row_format={"sep": ";"},
    )
    with recorded_step(earlier, NO_FLAGS) as step:
        again = record_of(step, folder)
    assert differences(record, again) == []
    assert {**again, "created": ""} == {**record, "created": ""}


def test_flags_lie_over_what_was_recorded(recorded: Any) -> None:
    _, earlier = recorded(arguments=["--rate", 0.5])
    flags = {**NO_FLAGS, "run_max_try": "7", "script_arguments": ("--init_timeout", "5")}
    with recorded_step(earlier, flags) as step:
        assert step.config.run_max_try == 7
        assert step.script_arguments == ["--rate", "0.5"]
        assert step.options.init_timeout == 5
    with recorded_step(earlier, {**NO_FLAGS, "script_arguments": ("--rate", "1")}) as step:
        assert step.script_arguments == ["--rate", "1"]
    assert "--run-max-try: found 0" in faults(earlier, run_max_try="0")[0]


def test_a_variable_of_the_environment_stays_one(recorded: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_THIS_TEST", "old-canary")
    options = {"storage_options": {"account_key": "${env:KEY_OF_THIS_TEST}", "anon": False}}
    inputs = made_dataset(InputDescription((str(folder / "data"),), "files", options))
    record, earlier = recorded(inputs)
    assert record["inputs"][0]["storage_options"] == {"account_key": "${env:KEY_OF_THIS_TEST}", "anon": False}
    monkeypatch.setenv("KEY_OF_THIS_TEST", "new-canary")
    with recorded_step(earlier, NO_FLAGS) as step:
        assert dict(step.inputs[0].storage_options or {}) == {"account_key": "new-canary", "anon": False}
        assert record_of(step, folder)["inputs"] == record["inputs"]


def test_a_secret_that_was_never_written_down_is_asked_for(
    recorded: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = FileDataset.from_files(folder / "data", storage_options={"account_key": "canary"})
    record, earlier = recorded(inputs, ["--password", "canary"], environment_variables={"TOKEN_OF_THIS_TEST": "canary"})
    assert "canary" not in json.dumps(record)
    told = "\n".join(faults(earlier))
    assert "inputs[0]: storage_options: account_key: found a secret" in told
    assert "--storage-option 'account_key=${env:ACCOUNT_KEY}'" in told
    assert "--environment-variables: found TOKEN_OF_THIS_TEST" in told
    assert "arguments: found a secret among them" in told
    monkeypatch.setenv("TOKEN_OF_THIS_TEST", "another")
    assert "TOKEN_OF_THIS_TEST" in "\n".join(faults(earlier))
    monkeypatch.setenv("TOKEN_OF_THIS_TEST", "canary")
    monkeypatch.setenv("ACCOUNT_KEY", "canary")
    flags = {"storage_options": ("account_key=${env:ACCOUNT_KEY}",), "script_arguments": ("--password", "canary")}
    with recorded_step(earlier, {**NO_FLAGS, **flags}) as step:
        assert step.config.environment_variables == {"TOKEN_OF_THIS_TEST": "canary"}
        assert differences(record, record_of(step, folder)) == []


def test_a_source_that_is_gone_is_there_for_as_long_as_it_is_needed(recorded: Any, folder: Path) -> None:
    record, earlier = recorded()
    shutil.rmtree(folder / "source")
    with recorded_step(earlier, NO_FLAGS) as step:
        made = step.config.source_directory
        assert made is not None
        assert record_of(step, folder)["script"] == record["script"] == "score.py"
    assert not os.path.exists(made)


def test_only_the_program_that_made_it_goes_on_with_objects(recorded: Any, folder: Path) -> None:
    _, earlier = recorded(TabularDataset.from_pandas(pd.DataFrame({"a": [1]})))
    assert f"inputs[0]: rows in memory; allowed: {'a step'}" in faults(earlier)[0]
    assert f"try: step.submit(resume={str(folder)!r})" in faults(earlier)[0]


def test_a_cluster_that_was_an_object_has_to_be_named(recorded: Any) -> None:
    target = SimpleNamespace(scheduler_address="tcp://x:1", scheduler_info=dict)
    _, earlier = recorded(compute_target=target)
    assert "--compute-target: found a live object (types.SimpleNamespace)" in faults(earlier)[0]
    with recorded_step(earlier, {**NO_FLAGS, "compute_target": "local"}) as step:
        assert step.config.compute_target == "local"


def test_hosts_with_a_security_of_their_own_are_given_again_as_hosts(recorded: Any) -> None:
    _, earlier = recorded(compute_target=SSHTarget("node1", security=Security.temporary()))
    (fault,) = faults(earlier)
    assert "found an SSHTarget with a security of its own, which was never written down" in fault
    assert fault.endswith("step.submit(resume=...) in a program that has them; try: --compute-target ssh://node1,node2")


@pytest.mark.parametrize("written", [("--resource_monitor_interval", "0.5"), ("--resource_monitor_interval=0.5",)])
def test_an_interval_that_an_earlier_version_allowed_is_raised_and_that_is_said(
    recorded: Any, folder: Path, capsys: Any, written: tuple[str, ...]
) -> None:
    record, earlier = recorded(arguments=["--rate", "2"])
    record["arguments"] += written
    with recorded_step(earlier, NO_FLAGS) as step:
        assert step.options.resource_monitor_interval == 1
        assert not list(differences(record, record_of(step, folder)))
    assert "--resource_monitor_interval: found 0.5; it is 1 second at least" in capsys.readouterr().err

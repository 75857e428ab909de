"""Inputs of every kind from step files and flags; secrets come from the environment and are never shown."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prs_dask import FileDataset, TabularDataset
from prs_dask.cli import main
from prs_dask.cli.input_description import InputDescription, with_variables
from prs_dask.errors import SettingsError

FLAGS = ("run", "--entry-script", "score.py", "--output-action", "append_row")
STEP = "entry_script: score.py\noutput_action: append_row\n"


@pytest.fixture
def data(stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside score.py: a table as text, in a database, and as an MLTable folder."""
    monkeypatch.setenv("CANARY", "canary-4711")
    (tmp_path / "a.csv").write_text("x;y\n1;2\n")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "table" / "MLTable").write_text("paths: [{file: a.csv}]\ntransformations: [read_delimited]\n")
    connection = sqlite3.connect(tmp_path / "sales.db")
    connection.execute("create table sales (id integer)")
    connection.close()
    return tmp_path


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def inputs(stage: Any, *arguments: str) -> list[Any]:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    found: list[Any] = stage.steps[-1]["inputs"]
    return found


def refusal(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "canary" not in result.output
    return result.stderr


def test_a_step_file_has_inputs_of_every_format_with_their_options_and_names(stage: Any, data: Path) -> None:
    (data / "step.yml").write_text(
        STEP
        + """
inputs:
  - a.csv
  - {path: [a.csv, scans], include_hidden: true, name: files}
  - {path: a.csv, format: delimited, separator: ";", dtype: {x: str}, include_path: true, support_multi_line: false}
  - {path: table, format: mltable, name: table}
  - {format: sql, connection: "sqlite:///sales.db", query: select * from sales, name: sql}
"""
    )
    plain, files, text, mltable, sql = inputs(stage, "run", "step.yml")
    assert isinstance(plain, FileDataset)
    assert (files.name, files.include_hidden, len(files.paths)) == ("files", True, 2)
    assert (text.spec.separator, text.spec.dtype, text.spec.include_path) == (";", {"x": "str"}, True)
    assert (mltable.name, mltable.paths) == ("table", (str(data / "table" / "a.csv"),))
    assert sql.query.url == f"sqlite:///{data}/sales.db"


def test_flags_give_the_same_options(stage: Any, data: Path) -> None:
    options = ("separator=;", "header=no_headers", "dtype={Column1: str}", "include_path=true", "encoding=latin-1")
    flags = [word for option in options for word in ("--input-option", option)]
    (text,) = inputs(stage, *FLAGS, "--input", "a.csv", "--input-format", "delimited", *flags)
    assert (text.spec.separator, text.header, text.spec.dtype) == (";", "none", {"Column1": "str"})
    assert (text.spec.include_path, text.spec.encoding) == (True, "iso8859-1")
    (tabs,) = inputs(
        stage, *FLAGS, "--input", "a.csv", "--input-format", "delimited", "--input-option", "separator=\\t"
    )
    assert tabs.spec.separator == "\t"
    (mltable,) = inputs(stage, *FLAGS, "--input", "table", "--input-format", "mltable")
    assert isinstance(mltable, TabularDataset)


def test_a_query_by_flags(stage: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE", f"sqlite:///{data}/sales.db")
    query = ("--input-format", "sql", "--input-option", "query=select * from sales")
    (sql,) = inputs(stage, *FLAGS, "--input", "${env:DATABASE}", *query)
    assert sql.query.url == f"sqlite:///{data}/sales.db"
    assert "a URL with a password (not shown)" in refusal(
        *FLAGS, "--input", "postgresql+psycopg://me:canary@host/db", *query
    )
    told = refusal(*FLAGS, "--input-format", "sql", "--input", "${env:DATABASE}")
    assert "inputs: query: found nothing" in told


def test_options_of_stores_come_from_the_environment(stage: Any, data: Path) -> None:
    flags = ("--storage-option", "account_key=${env:CANARY}", "--storage-option", "anon=true")
    (files,) = inputs(stage, *FLAGS, "--input", "scans", *flags)
    assert dict(files.storage_options) == {"account_key": "canary-4711", "anon": True}
    assert "canary" not in repr(files)
    (data / "step.yml").write_text(
        STEP + 'inputs: [{path: scans, storage_options: {client: {secret: "a ${env:CANARY}"}, n: 3}}]'
    )
    (files,) = inputs(stage, "run", "step.yml")
    assert dict(files.storage_options) == {"client": {"secret": "a canary-4711"}, "n": 3}


def test_a_secret_on_the_command_line_is_refused_with_what_to_write(stage: Any, data: Path) -> None:
    told = refusal(*FLAGS, "--input", "scans", "--storage-option", "account_key=canary-4711")
    assert "--storage-option 'account_key=${env:ACCOUNT_KEY}'" in told


def test_all_faults_of_inputs_are_told_at_once(stage: Any, data: Path) -> None:
    (data / "step.yml").write_text(
        STEP
        + """
inputs:
  - {path: a.csv, format: delimited, separator: long, header: x, storage_options: {key: canary-4711}}
  - {path: a.csv, seperator: ";"}
  - {format: sql, query: select 1}
  - {path: a.csv, format: parquet, name: 3, storage_options: {key: "${env:PRS_ABSENT}"}}
  - {path: [table, table], format: mltable}
"""
    )
    told = refusal("run", "step.yml")
    for part in (
        "inputs[0]: separator: found 'long'",
        "header: found 'x'",
        "inputs[1]: seperator: found a setting that does not exist",
        "inputs[2]: connection: found nothing",
        "inputs[3]: ${env:PRS_ABSENT}: found no such variable",
        "inputs[4]: found 2 MLTable folders in one input",
    ):
        assert part in told


def test_an_option_of_another_format_tells_which(stage: Any, data: Path) -> None:
    (data / "step.yml").write_text(STEP + "inputs: {path: a.csv, separator: ';'}\n")
    told = refusal("plan", "step.yml")
    assert "inputs: separator: found an option of format delimited, but the input's format is files" in told
    assert "try: format: delimited (or --input-format delimited)" in told


@pytest.mark.parametrize("flag", [("--input-option", "separator"), ("--storage-option", "=x")])
def test_a_flag_that_is_no_pair_is_refused(stage: Any, data: Path, flag: tuple[str, str]) -> None:
    assert f"{flag[0]}: found" in refusal(*FLAGS, "--input", "scans", *flag)


def test_side_inputs_have_names(stage: Any, data: Path) -> None:
    inputs(stage, *FLAGS, "--input", "scans", "--side-input", "labels=a.csv", "--side-input", "table")
    labels, table = stage.steps[-1]["side_inputs"]
    assert (labels.name, labels.paths, table) == ("labels", (str(data / "a.csv"),), "table")
    (data / "step.yml").write_text(STEP + "inputs: scans\nside_inputs: {labels: a.csv}")
    inputs(stage, "run", "step.yml")
    assert stage.steps[-1]["side_inputs"][0].name == "labels"
    (data / "step.yml").write_text(STEP + "inputs: scans\nside_inputs: [table]")
    inputs(stage, "run", "step.yml")
    assert stage.steps[-1]["side_inputs"] == [str(data / "table")]
    (data / "step.yml").write_text(STEP + "inputs: scans\nside_inputs: [3]")
    assert "side_inputs: found [3]" in refusal("run", "step.yml")


SIDES_IN_STORES = {
    "named": "side_inputs: {model: {path: 's3://models/best', storage_options: {key: '${env:MODEL_KEY}'}}}",
    "listed": "side_inputs: [{path: 's3://models/best', name: model, storage_options: {key: '${env:MODEL_KEY}'}}]",
}


@pytest.mark.parametrize("text", SIDES_IN_STORES.values(), ids=SIDES_IN_STORES)
def test_side_inputs_in_stores_are_described_as_inputs(
    stage: Any, data: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", "canary")
    (data / "step.yml").write_text(f"{STEP}inputs: scans\n{text}")
    inputs(stage, "run", "step.yml")
    (model,) = stage.steps[-1]["side_inputs"]
    assert (type(model), model.name, model.paths) == (FileDataset, "model", ("s3://models/best",))
    assert dict(model.storage) == {"key": "canary"}
    assert model.templates == {"storage_options": {"key": "${env:MODEL_KEY}"}}


def test_flags_give_side_inputs_in_stores_the_storage_options(
    stage: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", "canary")
    store = ("--storage-option", "key=${env:MODEL_KEY}", "--storage-option", "anon=false")
    sides = ("--side-input", "model=s3://models/best", "--side-input", "s3://models/other", "--side-input", "a.csv")
    inputs(stage, *FLAGS, "--input", "scans", *sides, *store)
    model, other, local = stage.steps[-1]["side_inputs"]
    assert (model.name, model.paths, other.name, other.paths) == (
        "model",
        ("s3://models/best",),
        None,
        ("s3://models/other",),
    )
    assert [dict(one.storage) for one in (model, other)] == [{"key": "canary", "anon": False}] * 2
    assert local == "a.csv"
    (data / "step.yml").write_text(
        STEP + "inputs: scans\nside_inputs: {model: {path: 's3://models/best', storage_options: {anon: true}}}"
    )
    inputs(stage, "run", "step.yml", *store)
    assert dict(stage.steps[-1]["side_inputs"][0].storage) == {"anon": True}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{model: {path: 's3://models/best', seperator: x}}", "side_inputs: seperator"),
        ("[{format: files}]", "side_inputs: found None"),
        ("{model: {path: a, storage_options: {key: '${env:NO_SUCH}'}}}", "side_inputs: ${env:NO_SUCH}"),
        ("{model: 's3://models/best', more: 3}", "side_inputs: found {"),
    ],
)
def test_what_is_wrong_with_a_side_input_is_told_of_it(stage: Any, data: Path, text: str, told: str) -> None:
    (data / "step.yml").write_text(f"{STEP}inputs: scans\nside_inputs: {text}")
    assert told in refusal("run", "step.yml")


def test_descriptions_show_no_options() -> None:
    assert "canary" not in repr(InputDescription(("a",), "files", {"storage_options": {"key": "canary"}}))


def test_variables_are_filled_in_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "${env:B}")
    assert with_variables({"x": ["${env:A}-${env:A}", 3, None]}) == {"x": ["${env:B}-${env:B}", 3, None]}
    with pytest.raises(SettingsError, match="PRS_ABSENT"):
        with_variables("${env:PRS_ABSENT}")

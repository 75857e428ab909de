"""run.json says enough to make the step again and to name what has changed, and no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, TabularDataset
from prs_dask.logs.resume_hint import only_in_python, resume_hint
from prs_dask.pipeline.differences import differences
from prs_dask.pipeline.preparation import prepare
from prs_dask.pipeline.run_record import fingerprint, run_record
from prs_dask.redaction import is_salted_hash

CANARY = "c4n4ry%2Fs3cr3t+value"
SALT = b"0123456789abcdef"


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    script = tmp_path / "score.py"
    script.write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a,b\n1,2\n")

    def make(inputs: Any = None, arguments: Any = (), side_inputs: Any = (), **settings: Any) -> Any:
        config = ParallelRunConfig(
            **{"entry_script": script, "error_threshold": 0, "output_action": "append_row", **settings}
        )
        inputs = inputs if inputs is not None else FileDataset.from_files(tmp_path / "data")
        step = ParallelRunStep("score", config, inputs, None, side_inputs, arguments)
        made = run_record(
            step,
            config,
            prepare(config, step.options, step.inputs),
            run_id="score-1",
            run_folder=tmp_path / "run folder",
            output_folder=tmp_path / "output",
            compute_target=config.compute_target,
            salt=SALT,
        )
        return json.loads(json.dumps(made))

    return make


def named(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {fault.name for fault in differences(before, now)}


def test_secrets_are_hashed_and_their_names_kept(record: Any, tmp_path: Path) -> None:
    arguments = ["--rate", 0.5, "--password", CANARY, f"--api-key={CANARY}", f"https://me:{CANARY}@host", Path("/x")]
    inputs = FileDataset.from_files(
        tmp_path / "data",
        storage_options={"account_name": "sales", "account_key": CANARY, "anon": False, "more": {"token": CANARY}},
    )
    made = record(inputs, arguments, environment_variables={"MODE": CANARY})
    assert CANARY not in json.dumps(made)
    assert made["arguments"][:3] == ["--rate", "0.5", "--password"]
    assert [is_salted_hash(one) for one in made["arguments"]] == [False, False, False, True, True, True, False]
    options = made["inputs"][0]["storage_options"]
    assert (options["account_name"], options["anon"]) == ("sales", False)
    assert is_salted_hash(options["account_key"])
    assert is_salted_hash(options["more"]["token"])
    assert list(made["settings"]["environment_variables"]) == ["MODE"]
    again = record(inputs, arguments, environment_variables={"MODE": CANARY})
    assert {**again, "created": ""} == {**made, "created": ""}


def test_inputs_stand_there_in_the_words_of_a_step_file(record: Any, tmp_path: Path) -> None:
    table = TabularDataset.from_delimited_files(
        tmp_path / "data" / "*.csv", separator=";", header="no_headers", dtype={"a": "Int64"}, support_multi_line=False
    )
    assert record([table.as_named_input("sales")])["inputs"] == [
        {
            "format": "delimited",
            "path": [str(tmp_path / "data" / "*.csv")],
            "separator": ";",
            "header": "no_headers",
            "encoding": "utf-8",
            "support_multi_line": False,
            "include_path": False,
            "dtype": {"a": "Int64"},
            "name": "sales",
        }
    ]


def test_what_no_text_can_say_is_resumed_from_python(record: Any, tmp_path: Path) -> None:
    plain = record()
    assert only_in_python(plain) == []
    assert resume_hint(plain) == f"prs-dask resume '{tmp_path}/run folder'"
    frame = record(TabularDataset.from_pandas(pd.DataFrame({"a": [1]})))
    assert only_in_python(frame) == ["inputs[0]: rows in memory"]
    assert resume_hint(frame) == f"step.submit(resume='{tmp_path}/run folder')"
    assert only_in_python(record(entry_script=SimpleNamespace(run=len))) == ["the entry script is an object"]
    odd = TabularDataset.from_delimited_files(tmp_path / "data" / "a.csv", dtype={"a": pd.CategoricalDtype([1, 2])})
    assert only_in_python(record(odd)) == ["inputs[0]: its dtype"]


def test_what_decides_over_rows_must_be_the_same(record: Any, tmp_path: Path) -> None:
    before = record()
    assert named(before, record()) == set()
    assert named(before, record(mini_batch_size=3)) == {"mini_batch_size"}
    assert named(before, record(mini_batch_size=10)) == set(), "which is the default"
    assert named(before, record(append_row_file_name="other.txt")) == {"append_row_file_name"}
    assert named(before, record(append_row_order="input")) == {"append_row_order"}
    assert named(before, record(append_row_format={"sep": ";"})) == {"row format"}
    assert named(before, record(arguments=["--append_row_dataframe_header", "True"])) == {"row format"}
    assert named(before, record(output_action="summary_only")) == {"output_action", "row format"}
    assert named(before, record(arguments=["--x", 1])) == {"arguments"}
    assert named(before, record(side_inputs=[tmp_path])) == {"side_inputs"}
    other = FileDataset.from_files(tmp_path)
    assert named(before, record(other, mini_batch_size=2)) == {"mini_batch_size", "inputs[0]: path"}
    assert named(before, record([other.as_named_input("a"), other.as_named_input("b")])) == {"inputs"}
    assert named(before, record(entry_script=SimpleNamespace(run=len))) == {"entry_script"}


def test_limits_machines_and_secrets_may_change(record: Any, tmp_path: Path) -> None:
    def with_key(key: str) -> FileDataset:
        return FileDataset.from_files(tmp_path / "data", storage_options={"key": key})

    now = record(
        with_key("new"),
        ["--task_overhead_timeout", "5"],
        run_max_try=9,
        error_threshold=-1,
        process_count_per_node=2,
        compute_target="local",
        logging_level="DEBUG",
        environment_variables={"A": "2"},
        retry_backoff=(1, 2, 3),
        description="again",
    )
    assert named(record(with_key("old"), environment_variables={"A": "1"}), now) == set()


def test_a_difference_shows_before_and_now_and_no_hash(record: Any) -> None:
    (fault,) = differences(record(arguments=["--password", "old"]), record(arguments=["--password", "new"]))
    assert str(fault) == (
        'arguments: found ["--password", "***"] now; allowed: ["--password", "***"], as it was when the step run began'
    )
    (fault,) = differences(record(mini_batch_size=4), record(mini_batch_size=5))
    assert (fault.found, fault.allowed) == ("5 now", "4, as it was when the step run began")


def test_the_fingerprint_changes_with_what_decides_over_rows_only(record: Any) -> None:
    same = fingerprint(record(), "ab")
    assert fingerprint(record(run_max_try=2, arguments=["--init_timeout", "9"]), "ab") == same
    assert fingerprint(record(), "cd") == {**same, "source": "cd"}
    for other in (record(mini_batch_size=3), record(arguments=["--x"]), record(append_row_format={"sep": ";"})):
        assert fingerprint(other, "ab")["settings"] != same["settings"]

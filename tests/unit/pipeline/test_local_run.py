"""Mini-batches of a step in this process: as in a worker process, and nothing is left of it."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

from prs_dask import (
    EntryScript,
    FileDataset,
    InputError,
    OutputFileDatasetConfig,
    ParallelRunConfig,
    ParallelRunStep,
    SettingsError,
    TabularDataset,
)
from prs_dask.output.rows import BadResult

NAMES = """
import os
def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""
TABLE = """
def run(mini_batch):
    return mini_batch
"""

MakeStep = Callable[..., ParallelRunStep]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStep:
    """A step over five files, two to a mini-batch, unless told otherwise; the current folder is another one."""
    (tmp_path / "items").mkdir()
    for number in range(5):
        (tmp_path / "items" / f"{number}.txt").write_text(str(number))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def make(script: Any = NAMES, inputs: Any = None, arguments: Any = None, **settings: Any) -> ParallelRunStep:
        if isinstance(script, str):
            (tmp_path / "script.py").write_text(script)
            script = str(tmp_path / "script.py")
        inputs = FileDataset.from_files(tmp_path / "items") if inputs is None else inputs
        files = {"mini_batch_size": 2} if inputs.kind == "file" else {}
        settings = {"output_action": "append_row", "error_threshold": -1, **files, **settings}
        config = ParallelRunConfig(entry_script=script, **settings)
        return ParallelRunStep("score", config, inputs, tmp_path / "output", arguments=arguments)

    return make


def state_of_this_process() -> tuple[Any, ...]:
    return (
        os.getcwd(),
        dict(os.environ),
        sys.path[:],
        sys.argv[:],
        sys.meta_path[:],
        sys.dont_write_bytecode,
        {name for name in sys.modules if name.startswith(("azureml", "script", "helper_of_"))},
    )


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_first_mini_batches_are_run_and_their_rows_come_back(made: MakeStep) -> None:
    first, second = made().run_locally(2)
    assert (first.mini_batch, first.items, first.results, first.result) == ("0", 2, 2, ["0.txt", "1.txt"])
    assert (second.mini_batch, str(second)) == ("1", "2.txt\n3.txt\n")
    assert first.seconds >= 0
    assert "0.txt" in first.detail
    assert len(made().run_locally(100)) == 3


@pytest.mark.parametrize(
    ("inherited", "settings", "seen"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, {}, "3:2"),
        ({}, {"environment_variables": {"CUDA_VISIBLE_DEVICES": "GPU-8a5c"}, "processes_per_gpu": 2}, "GPU-8a5c:1"),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}, ":0"),
    ],
    ids=["of this process", "by the step", "none"],
)
def test_the_script_finds_its_gpu_as_the_first_worker_process_does(
    made: MakeStep, monkeypatch: pytest.MonkeyPatch, inherited: dict[str, str], settings: dict[str, Any], seen: str
) -> None:
    """While it is imported."""
    script = """
import os
SEEN = os.environ["CUDA_VISIBLE_DEVICES"] + ":" + os.environ["AZ_BATCHAI_GPU_COUNT_FOUND"]
def run(mini_batch):
    return [SEEN] * len(mini_batch)
"""
    monkeypatch.setitem(sys.modules, "pynvml", None)  # whatever GPUs this machine has
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    state = state_of_this_process()
    [first] = made(script, **settings).run_locally()
    assert first.result == [seen, seen]
    assert state_of_this_process() == state


def test_the_script_lives_as_in_a_worker_process_and_once(made: MakeStep, tmp_path: Path) -> None:
    script = """
import os, sys
from azureml_user.parallel_run import EntryScript
calls = []
def init():
    calls.append("init")
def run(mini_batch, mini_batch_context):
    calls.append("run")
    here = EntryScript()
    assert os.getcwd() == here.working_dir
    assert os.environ["COLOUR"] == "blue"
    assert sys.argv[1:] == here.arguments
    assert here.output_dir == here.arguments[1] == os.environ["AZUREML_BI_OUTPUT_PATH"]
    open("relative.txt", "w").close()
    open(os.path.join(here.output_dir, "stored.txt"), "w").close()
    os.environ["LEFT_BEHIND"] = "1"
    return [f"{here.agent_name} {mini_batch_context.minibatch_index} {mini_batch_context.attempt} {calls}"]
def shutdown():
    print("shut down after", calls)
"""
    output = OutputFileDatasetConfig(destination=str(tmp_path / "elsewhere"))
    step = made(script, arguments=["--out", output], environment_variables={"COLOUR": "blue"})
    state, files = state_of_this_process(), files_below(tmp_path)
    first, second = step.run_locally(2)
    assert first.result == ["process000 0 1 ['init', 'run']"]
    assert second.result == ["process000 1 1 ['init', 'run', 'run']"]
    assert state_of_this_process() == state
    assert files_below(tmp_path) == files


def test_shutdown_is_called_at_the_end_and_after_an_error(made: MakeStep, capsys: pytest.CaptureFixture[str]) -> None:
    script = "def run(mini_batch): return mini_batch\ndef shutdown(): print('shut down')\n"
    made(script).run_locally()
    assert capsys.readouterr().out == "shut down\n"
    with pytest.raises(ZeroDivisionError):
        made(script.replace("return mini_batch", "1 / 0")).run_locally()
    assert capsys.readouterr().out == "shut down\n"


def test_an_error_comes_as_it_is_from_the_line_that_raised_it(made: MakeStep, tmp_path: Path) -> None:
    state = state_of_this_process()
    script = "def run(mini_batch):\n    deeper(mini_batch)\ndef deeper(mini_batch):\n    raise SystemExit(42)\n"
    with pytest.raises(SystemExit) as caught:
        made(script).run_locally()
    assert caught.value.code == 42
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-3:] == ["run_locally", "run", "deeper"]
    assert len(names) == 4  # this test, the method, its function are all that stands before it
    assert "in mini-batch 0: 2 files" in caught.value.__notes__[0]
    assert state_of_this_process() == state


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("import no_such_module_anywhere\ndef run(mini_batch): return []", ModuleNotFoundError),
        ("def init(): raise KeyError('model')\ndef run(mini_batch): return []", KeyError),
        ("def run(mini_batch): return []\ndef shutdown(): raise OSError('busy')", OSError),
        ("def run(mini_batch): return None", BadResult),
        ("def run(mini_batch):\n    yield 1\n    raise LookupError", LookupError),
    ],
)
def test_every_part_of_a_script_may_raise(made: MakeStep, script: str, expected: type[BaseException]) -> None:
    state = state_of_this_process()
    with pytest.raises(expected):
        made(script).run_locally()
    assert state_of_this_process() == state


def test_what_shutdown_raises_behind_an_error_does_not_hide_it(made: MakeStep) -> None:
    script = "def run(mini_batch): 1 / 0\ndef shutdown(): raise OSError('busy')"
    with pytest.raises(ZeroDivisionError) as caught:
        made(script).run_locally()
    assert any("shutdown() raised OSError behind it: busy" in note for note in caught.value.__notes__)


def test_one_mini_batch_or_some_of_its_items_can_be_chosen(made: MakeStep) -> None:
    (last,) = made().run_locally(mini_batch=2)
    assert (last.mini_batch, last.result) == ("2", ["4.txt"])
    (part,) = made().run_locally(mini_batch="1[1:2]")
    assert (part.mini_batch, part.result) == ("1[1:2]", ["3.txt"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mini_batch": 3}, "found 3; allowed: 0 to 2"),
        ({"mini_batch": "1[1:9]"}, r"found 1\[1:9\], but mini-batch 1 has 2 items"),
        ({"mini_batch": "first"}, "found 'first'.*try: 7, or 7"),
        ({"n": 0}, "n: found 0; allowed: how many"),
        ({"n": True}, "n: found True"),
    ],
)
def test_what_there_is_not_is_refused(made: MakeStep, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made().run_locally(**arguments)


def test_inputs_that_are_missing_or_hold_nothing_are_refused(made: MakeStep, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match="no mini-batch"):
        made(TABLE, TabularDataset.from_delimited_files(tmp_path / "empty.csv")).run_locally()
    with pytest.raises(SettingsError, match="missing"):
        made(NAMES, FileDataset.from_files(tmp_path / "missing")).run_locally()


def test_a_folder_that_was_asked_for_is_kept(made: MakeStep, tmp_path: Path) -> None:
    script = """
from prs_dask import EntryScript
def run(mini_batch):
    with open(EntryScript().output_dir + "/stored.txt", "w") as file:
        file.write("here")
    return mini_batch
"""
    (result,) = made(script, output_action="summary_only").run_locally(folder=tmp_path / "kept")
    assert (result.rows, result.results) == ("", 2)
    assert (tmp_path / "kept" / "output" / "stored.txt").read_text() == "here"


def test_records_of_the_scripts_logger_are_shown(made: MakeStep, capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "from prs_dask import EntryScript\ndef run(mini_batch):\n    EntryScript().logger.info('here')\n    return []"
    )
    made(script).run_locally()
    assert "|INFO|" in capsys.readouterr().err
    EntryScript().logger.info("outside")  # what was configured is taken back: it goes to this process's stderr
    assert "outside" in capsys.readouterr().err
    for handler in logging.getLogger("entry_script").handlers:
        handler.close()


def test_what_the_script_imports_from_its_source_directory_is_read_anew_each_time(
    made: MakeStep, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "script.py").write_text("import helper_of_script\ndef run(mini_batch): return [helper_of_script.WORD]")
    (source / "helper_of_script.py").write_text("WORD = 'one'")
    settings = {"source_directory": source, "output_action": "append_row", "error_threshold": 0}
    config = ParallelRunConfig(entry_script="script.py", **settings)
    step = ParallelRunStep("score", config, FileDataset.from_files(tmp_path / "items"))
    assert step.run_locally()[0].result == ["one"]
    (source / "helper_of_script.py").write_text("WORD = 'another'")
    assert step.run_locally()[0].result == ["another"]
    assert not (source / "__pycache__").exists()


class Scorer:
    def init(self) -> None:
        self.calls = ["init"]

    def run(self, mini_batch: list[str]) -> list[str]:
        return [*self.calls, str(len(mini_batch))]


def test_an_object_is_run_as_a_copy_as_in_a_worker_process(made: MakeStep) -> None:
    scorer = Scorer()
    assert made(scorer).run_locally()[0].result == ["init", "2"]
    assert not hasattr(scorer, "calls")


def test_every_kind_of_table_is_read_as_in_a_job(made: MakeStep, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), tmp_path / "a.parquet")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        frame.to_sql("a", connection, index=False)
    connection.close()
    inputs = [
        TabularDataset.from_delimited_files(tmp_path / "a.csv"),
        TabularDataset.from_json_lines_files(tmp_path / "a.jsonl"),
        TabularDataset.from_parquet_files(tmp_path / "a.parquet"),
        TabularDataset.from_sql_query(f"sqlite:///{tmp_path}/a.db", "select * from a"),
        TabularDataset.from_pandas(frame),
    ]
    for dataset in inputs:
        step = made(TABLE, dataset, append_row_format={"header": True})
        (result,) = step.run_locally()
        assert list(result.result["a"]) == [1, 2, 3]
        assert str(result) == "a b\n1 x\n2 y\n3 z\n"
        (part,) = step.run_locally(mini_batch="0[1:3]")
        assert list(part.result["b"]) == ["y", "z"]


def test_partition_keys_are_told(made: MakeStep, tmp_path: Path) -> None:
    for key in ("one", "two"):
        (tmp_path / "keyed" / f"k={key}").mkdir(parents=True)
        (tmp_path / "keyed" / f"k={key}" / "a.csv").write_text("v\n1\n")
    script = "def run(mini_batch, context): return [context.partition_key_value['k']]"
    step = made(script, TabularDataset.from_delimited_files(tmp_path / "keyed"), partition_keys=["k"])
    assert [one.result for one in step.run_locally(2)] == [["one"], ["two"]]


def test_side_inputs_and_datasets_among_the_arguments_have_their_places(made: MakeStep, tmp_path: Path) -> None:
    link = tmp_path / "mounted"
    labels = FileDataset.from_files(tmp_path / "items" / "0.txt").as_mount(str(link))
    script = "import pathlib, sys\ndef run(mini_batch): return [sys.argv[1], pathlib.Path(sys.argv[1]).read_text()]"
    assert made(script, arguments=[labels]).run_locally()[0].result == [str(link), "0"]
    assert not link.exists()

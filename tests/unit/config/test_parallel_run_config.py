from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.config import ParallelRunConfig, PipelineParameter
from prs_dask.errors import SettingsError

REQUIRED = {"entry_script": "score.py", "error_threshold": 0, "output_action": "append_row"}


@pytest.fixture(autouse=True)
def _folder_with_a_script(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("here")
    (folder / "score.py").write_text("def run(mini_batch): return mini_batch")
    monkeypatch.chdir(folder)


def config(**settings: Any) -> ParallelRunConfig:
    return ParallelRunConfig(**{**REQUIRED, **settings})


def faults_of(**settings: Any) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        config(**settings)
    return {fault.name: str(fault) for fault in caught.value.faults}


def test_defaults_are_those_of_the_reference() -> None:
    made = config()
    assert made.append_row_file_name == "parallel_run_step.txt"
    assert (made.run_max_try, made.run_invocation_timeout, made.logging_level) == (3, 60, "INFO")
    assert (made.files_per_mini_batch, made.bytes_per_mini_batch) == (10, 1024**2)
    assert (made.node_count, made.process_count_per_node, made.compute_target) == (1, None, None)


def test_what_must_be_given_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        ParallelRunConfig()  # type: ignore[call-arg]
    assert [fault.name for fault in caught.value.faults] == ["entry_script", "error_threshold", "output_action"]
    assert all(fault.found == "nothing" for fault in caught.value.faults)


def test_every_fault_is_in_one_error_that_says_found_allowed_and_try() -> None:
    faults = faults_of(
        mini_batch_size="1.5MB", run_max_try=0, logging_level="ERROR", mini_batchsize=3, append_row_file_name="a/b"
    )
    assert list(faults) == ["mini_batchsize", "mini_batch_size", "append_row_file_name", "logging_level", "run_max_try"]
    assert faults["mini_batch_size"] == (
        "mini_batch_size: found '1.5MB'; allowed: a whole number of at least 1, or a number with KB, MB or GB "
        '(no point, no space); try: mini_batch_size="10MB"'
    )
    assert faults["run_max_try"] == (
        "run_max_try: found 0; allowed: a whole number from 1 to 10000; try: run_max_try=3"
    )
    assert faults["mini_batchsize"] == (
        "mini_batchsize: found a setting that does not exist; allowed: did you mean mini_batch_size?"
    )
    assert "found 'a/b', which contains /" in faults["append_row_file_name"]


BAD = {
    "entry_script": ["score.txt", "", 3, None, SimpleNamespace(init=print), SimpleNamespace(run=3), "a\0.py"],
    "source_directory": ["", 3, b"x"],
    "mini_batch_size": ["10B", "-5", 0, "1KBMB", "1 MB", 1.0, True],
    "error_threshold": [-2, "0", 1.5, None, True],
    "allowed_failed_count": [-2, "1", 1.0],
    "allowed_failed_percent": [-0.1, 100.1, float("nan"), "5", True],
    "output_action": ["append", "", None, 1],
    "append_row_file_name": [
        *(f"a{character}b" for character in '~"#%&*:<>?/\\{}|\n\0'),
        "",
        ".",
        "..",
        None,
        "x" * 300,
    ],
    "compute_target": ["", 3, [], object(), SimpleNamespace],
    "node_count": [0, "2", 1.5, None],
    "process_count_per_node": [0, -1, "2", 10**9],
    "environment": [3, ["pan das"], {"pandas": "2"}, {"dependencies": ["pandas"]}],
    "environment_variables": [{"A": None}, {"": "x"}, {"A=B": "x"}, {1: "x"}, {"A": True}, {"A": "\0"}, ["A=1"], None],
    "logging_level": ["ERROR", "", None, 20],
    "logging_format": ["xml", "", None, True],
    "run_invocation_timeout": [0, -1, float("inf"), float("nan"), "60", None, True, 1e300],
    "run_max_try": [0, -1, "3", 2.0, None, 10**6],
    "partition_keys": [[], "store", ["a", "a"], [""], [1]],
    "description": [3],
    "append_row_order": ["sorted", None],
    "append_row_format": [{"sepp": ","}, {"sep": "ab"}, {"path_or_buf": "x"}, {"quoting": 3}, {"index": 1}, "csv"],
    "on_failed_mini_batch": ["retry", None],
    "retry_backoff": [-1, (1, 2), (1, 0.5, 9), (9, 2, 1), "1", None, float("inf"), (1, "2", 3)],
    "retry_on": [[], "ValueError", ["not a name"], [ValueError]],
    "no_retry_on": [[], "ValueError"],
    "memory_limit_per_process": ["2 foos", 0, -1, "1KB", 1.5, True],
    "input_cache_size": ["2 foos", 0, -1, 1.5, True],
    "processes_per_gpu": [0, "1", None],
    "surplus_gpu_processes": ["show", None],
    "speculative_attempts": [1, "True", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_what_could_not_work_on_a_worker_is_refused_here(name: str, value: object) -> None:
    assert list(faults_of(**{name: value})) == [name]


GOOD = {
    "mini_batch_size": [1, "10", "1kb"],
    "error_threshold": [-1, 0, 10**9],
    "allowed_failed_count": [None, -1, 5],
    "allowed_failed_percent": [None, 0, 2.5, 100],
    "compute_target": [None, "local", "CUDA", "tcp://10.0.0.1:8786", "tls://h:1", "ucx://h:1", "host:8786", "s.json"],
    "environment": [None, {"pandas": ">=2,<4"}, {"pandas": None}, ["numpy", "pandas[parquet]>=2"], "env.yml"],
    "environment_variables": [{}, {"A": "1"}, {"OMP_NUM_THREADS": 1}],
    "logging_level": ["info", "Debug", "WARNING"],
    "logging_format": ["text", "JSON"],
    "run_invocation_timeout": [0.5, 1, 10**8],
    "partition_keys": [None, ["a"], ("a", "b")],
    "append_row_format": [None, {}, {"sep": "\t", "index": True, "header": ["a"], "quoting": 3, "escapechar": "\\"}],
    "retry_backoff": [0, 1.5, (1, 2, 60), [0, 1, 0]],
    "retry_on": [None, ["ValueError", "requests.exceptions.Timeout"]],
    "memory_limit_per_process": [None, "2GB", 2**30, "1.5GiB"],
    "input_cache_size": [None, "20GB", 1, "1kb"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_what_the_reference_allows_is_accepted_and_survives_every_copy(
    name: str, value: object, tmp_path: Path
) -> None:
    made = config(**{name: value})
    made.save_to_yaml(tmp_path / "config.yml")
    assert ParallelRunConfig.load_yaml(tmp_path / "config.yml") == made
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == dataclasses.replace(made) == made


def test_words_are_taken_in_any_case_as_azure_writes_them() -> None:
    made = config(output_action="Append_Row", logging_level="debug", append_row_order="INPUT", compute_target="Local")
    assert (made.output_action, made.logging_level) == ("append_row", "DEBUG")
    assert (made.append_row_order, made.compute_target) == ("input", "local")


def test_partition_keys_and_mini_batch_size_contradict_each_other() -> None:
    assert (
        "both partition_keys and mini_batch_size"
        in faults_of(partition_keys=["a"], mini_batch_size=1)["partition_keys"]
    )


def test_an_exception_cannot_be_worth_a_retry_and_not_worth_it() -> None:
    assert (
        "KeyError, which retry_on names too"
        in faults_of(retry_on=["KeyError"], no_retry_on=["KeyError"])["no_retry_on"]
    )


def test_a_row_format_without_rows_is_a_contradiction() -> None:
    faults = faults_of(output_action="summary_only", append_row_format={"sep": ","}, append_row_order="input")
    assert list(faults) == ["append_row_format", "append_row_order"]


def test_second_attempts_of_a_script_that_stores_its_own_results_are_a_contradiction() -> None:
    assert (
        "killed in the middle"
        in faults_of(output_action="summary_only", speculative_attempts=True)["speculative_attempts"]
    )
    config(output_action="append_row", speculative_attempts=True)
    config(output_action="summary_only", speculative_attempts=False)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().run_max_try = 4  # type: ignore[misc]


def test_values_of_environment_variables_are_never_shown() -> None:
    assert "hunter2" not in repr(config(environment_variables={"TOKEN": "hunter2"}))
    assert "hunter2" not in str(faults_of(environment_variables={"TOKEN": ["hunter2"]}))


def test_a_saved_config_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.touch(0o644)
    config(environment_variables={"TOKEN": "hunter2"}).save_to_yaml(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_live_objects_cannot_be_saved(tmp_path: Path) -> None:
    script = SimpleNamespace(run=len)
    with pytest.raises(SettingsError, match="entry_script: found .* no form in YAML"):
        config(entry_script=script).save_to_yaml(tmp_path / "config.yml")


def test_a_script_is_found_beside_the_yaml_file_wherever_one_stands(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "step.yml").write_text("{entry_script: score.py, error_threshold: 0, output_action: summary_only}")
    monkeypatch.chdir("/")
    assert ParallelRunConfig.load_yaml(tmp_path / "step.yml").script_path == tmp_path / "score.py"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n- 2\n", "a list"),
        ("", "nothing"),
        ("a: [1,", "line 1"),
        ("run_max_try: 3\nrun_max_try: 4\n", "line 2: run_max_try stands there twice"),
        ("a: !!python/object/apply:os.system ['false']", "line 1: could not determine a constructor"),
        ("run_max_try: {pipeline_parameter: 3}", "a mapping with name and default_value"),
        ("\0", "special characters"),
    ],
)
def test_a_yaml_file_without_settings_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "step.yml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=re.escape(message)):
        ParallelRunConfig.load_yaml(path)


def test_a_yaml_file_that_is_missing_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent.yml: found No such file or directory"):
        ParallelRunConfig.load_yaml(tmp_path / "absent.yml")


class TestPipelineParameters:
    def test_they_stand_for_the_settings_that_allow_it(self) -> None:
        made = config(run_max_try=PipelineParameter("tries", 2), mini_batch_size=PipelineParameter("size", "1KB"))
        assert set(made.pipeline_parameters) == {"run_max_try", "mini_batch_size"}
        assert made.resolve().run_max_try == 2
        assert made.resolve({"tries": 5, "of another step": 1}).run_max_try == 5

    def test_they_are_refused_elsewhere(self) -> None:
        assert (
            "may not stand for this setting" in faults_of(error_threshold=PipelineParameter("n", 1))["error_threshold"]
        )

    def test_their_defaults_and_their_values_are_checked(self) -> None:
        assert "found 0" in faults_of(run_max_try=PipelineParameter("tries", 0))["run_max_try"]
        with pytest.raises(SettingsError, match="run_max_try: found 'many'"):
            config(run_max_try=PipelineParameter("tries", 1)).resolve({"tries": "many"})

    def test_they_survive_yaml(self, tmp_path: Path) -> None:
        made = config(node_count=PipelineParameter("nodes", 2), partition_keys=PipelineParameter("keys", None))
        made.save_to_yaml(tmp_path / "config.yml")
        assert ParallelRunConfig.load_yaml(tmp_path / "config.yml") == made

    @pytest.mark.parametrize("name", ["", "two words", "1st", 3])
    def test_their_names_are_identifiers(self, name: Any) -> None:
        with pytest.raises(SettingsError, match="name: found"):
            PipelineParameter(name, 1)


class TestFiles:
    def faults(self, **settings: Any) -> list[str]:
        return [str(fault) for fault in config(**settings).file_faults()]

    def test_a_script_within_its_source_directory_is_fine(self, tmp_path: Path) -> None:
        (tmp_path / "score.py").write_text("def run(mini_batch): return mini_batch")
        assert self.faults(source_directory=tmp_path) == []
        assert config(source_directory=tmp_path).script_path == tmp_path / "score.py"
        assert config(source_directory=tmp_path, entry_script=tmp_path / "score.py").entry_script == "score.py"

    def test_a_missing_script_is_told_by_its_whole_path(self, tmp_path: Path) -> None:
        (fault,) = self.faults(entry_script=tmp_path / "absent.py")
        assert f"entry_script: found '{tmp_path}/absent.py', which does not exist" in fault

    def test_a_missing_source_directory_is_told_alone(self, tmp_path: Path) -> None:
        (fault,) = self.faults(source_directory=tmp_path / "absent")
        assert "source_directory: found" in fault
        assert "does not exist" in fault

    def test_a_script_outside_of_its_source_directory_is_refused(self, tmp_path: Path) -> None:
        for script in ("../score.py", "/elsewhere/score.py", "a/../../score.py"):
            faults = faults_of(source_directory=tmp_path, entry_script=script)
            assert "lies outside of source_directory" in faults["entry_script"]

    def test_a_scheduler_file_has_to_exist(self, tmp_path: Path) -> None:
        (tmp_path / "score.py").write_text("run = print")
        (fault,) = self.faults(source_directory=tmp_path, compute_target=str(tmp_path / "scheduler.json"))
        assert "no scheduler's address and no existing file" in fault

    def test_requirements_have_to_be_readable(self, tmp_path: Path) -> None:
        (tmp_path / "score.py").write_text("run = print")
        (tmp_path / "env.yml").write_text("dependencies: [python, pip: [pandas>=2, 'not a requirement!']]")
        (fault,) = self.faults(source_directory=tmp_path, environment=tmp_path / "env.yml")
        assert "'not a requirement!' is no requirement" in fault

    def test_missing_files_are_told_together_with_other_faults(self) -> None:
        assert set(faults_of(entry_script="absent.py", run_max_try=0)) == {"entry_script", "run_max_try"}

    def test_an_object_needs_no_file(self) -> None:
        assert self.faults(entry_script=SimpleNamespace(run=len)) == []


def test_a_unit_has_no_meaning_for_files() -> None:
    assert config(mini_batch_size="7").files_per_mini_batch == 7
    with pytest.raises(SettingsError, match="mini_batch_size: found '1MB'; allowed: a number of files"):
        _ = config(mini_batch_size="1MB").files_per_mini_batch


def test_paths_are_absolute_so_that_a_change_of_folder_does_not_matter(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert config().entry_script == os.path.join(os.getcwd(), "score.py")

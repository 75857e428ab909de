from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from prs_dask.cli import main
from prs_dask.config import SETTINGS
from prs_dask.errors import ClusterError, Fault, OutputError

FLAGS = ("--entry-script", "score.py", "--input", "scans", "--output-action", "append_row")


def invoke(*arguments: str, command: click.Command = main) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_flags_make_a_step_with_the_defaults_of_the_command_line(stage: Any, tmp_path: Path) -> None:
    result = invoke("run", *FLAGS, "--output", "scores", "--", "--threshold", "0.5", "--entry-script")
    assert result.exit_code == 0, result.output
    (step,) = stage.steps
    config = step["parallel_run_config"]
    assert config.error_threshold == 0
    assert config.entry_script == str(tmp_path / "score.py")
    assert (step["name"], step["output"]) == ("score", "scores")
    assert step["arguments"] == ["--threshold", "0.5", "--entry-script"]
    assert len(step["inputs"]) == 1
    assert stage.warmed == 1


def test_every_setting_has_its_flag(stage: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    (tmp_path / "requirements.txt").write_text("pandas>=2\n")
    flags = {
        "source-directory": ".",
        "mini-batch-size": "5",
        "error-threshold": "-1",
        "allowed-failed-count": "3",
        "allowed-failed-percent": "2.5",
        "append-row-file-name": "rows.csv",
        "compute-target": "tcp://127.0.0.1:8786",
        "node-count": "2",
        "process-count-per-node": "4",
        "environment": "requirements.txt",
        "logging-level": "debug",
        "logging-format": "json",
        "run-invocation-timeout": "1.5",
        "run-max-try": "1",
        "description": "a text",
        "append-row-order": "input",
        "append-row-format": '{"sep": ","}',
        "on-failed-mini-batch": "fail",
        "retry-backoff": "1,2,60",
        "retry-on": "KeyError, OSError",
        "no-retry-on": "ValueError",
        "memory-limit-per-process": "2GB",
        "processes-per-gpu": "2",
        "surplus-gpu-processes": "hide",
        "speculative-attempts": "true",
        "input-cache-size": "1GB",
    }
    elsewhere = {"entry-script", "output-action", "environment-variables", "partition-keys"}  # here, but for the last
    assert {setting.flag[2:] for setting in SETTINGS.values() if setting.flag} == elsewhere | flags.keys()
    result = invoke(
        "run",
        *FLAGS,
        *(word for name, value in flags.items() for word in (f"--{name}", value)),
        *("--environment-variables", "A=1=2", "--environment-variables", "TOKEN", "--run-folder", "here"),
    )
    assert result.exit_code == 0, result.output
    config = stage.steps[0]["parallel_run_config"]
    assert (config.files_per_mini_batch, config.error_threshold, config.allowed_failed_percent) == (5, -1, 2.5)
    assert (config.retry_backoff, config.retry_on) == ((1, 2, 60), ("KeyError", "OSError"))
    assert (config.speculative_attempts, config.append_row_format) == (True, {"sep": ","})
    assert config.environment_variables == {"A": "1=2", "TOKEN": "hunter2"}
    assert (config.environment, config.requirements) == (str(tmp_path / "requirements.txt"), ("pandas>=2",))
    assert (config.source_directory, config.input_cache_size) == (str(tmp_path), 1 << 30)
    assert stage.submitted == ["here"]
    assert stage.warmed == 0  # nothing to start here


def test_a_step_file_is_read_beside_its_own_files_and_flags_win(stage: Any, tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "wine.py").write_text("def run(mini_batch): return mini_batch")
    (folder / "wines.csv").write_text("a;b\n1;2\n")
    (folder / "step.yml").write_text(
        """
        name: score-wines
        entry_script: wine.py
        output_action: append_row
        run_max_try: 5
        mini_batch_size: 1KB
        inputs:
          - {path: wines.csv, format: delimited, separator: ";"}
        output: scores
        arguments: [--threshold, 0.5]
        """
    )
    result = invoke("run", "steps/step.yml", "--run-max-try", "2", "--", "--more")
    assert result.exit_code == 0, result.output
    (step,) = stage.steps
    assert step["parallel_run_config"].script_path == folder / "wine.py"
    assert step["parallel_run_config"].run_max_try == 2
    assert (step["name"], step["output"]) == ("score-wines", str(folder / "scores"))
    assert step["arguments"] == ["--threshold", 0.5, "--more"]
    assert type(step["inputs"][0]).__name__ == "TabularDataset"


@pytest.mark.parametrize("environment", ["{pandas: '>=2', numpy: }", "[pandas>=2, numpy]", "wanted/requirements.txt"])
def test_a_step_file_tells_what_workers_need_in_every_form(environment: str, stage: Any, tmp_path: Path) -> None:
    (tmp_path / "steps" / "wanted").mkdir(parents=True)
    (tmp_path / "steps" / "wanted" / "requirements.txt").write_text("pandas>=2\nnumpy\n")
    step = f"entry_script: ../score.py\noutput_action: append_row\ninputs: ../scans\nenvironment: {environment}\n"
    (tmp_path / "steps" / "step.yml").write_text(step)
    result = invoke("run", "steps/step.yml")
    assert result.exit_code == 0, result.output
    assert stage.steps[0]["parallel_run_config"].requirements == ("pandas>=2", "numpy")


@pytest.mark.parametrize(("state", "code"), [("Completed", 0), ("Failed", 1), ("Canceled", 130)])
def test_the_exit_code_tells_the_end(state: str, code: int, stage: Any) -> None:
    stage.state = state
    result = invoke("run", *FLAGS)
    assert result.exit_code == code
    assert f"{state} in 1.5 s: 39 of 40 mini-batches, 195 of 200 items succeeded, 195 rows" in result.stdout
    assert "logs:" in result.stdout
    assert ("output:" in result.stdout) is (state == "Completed")
    assert ("division by zero in score.py:3" in result.stderr) is (state == "Failed")
    # What a threshold lets pass is still told.
    assert ("1 mini-batches, 5 items; why:" in result.stderr) is (state == "Completed")


class TestBadInput:
    def lines(self, *arguments: str) -> list[str]:
        before = set(os.listdir())
        result = invoke("run", *arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert set(os.listdir()) == before
        return result.stderr.splitlines()

    def test_every_fault_is_told_at_once_in_the_words_of_flags(self, stage: Any) -> None:
        lines = self.lines("--entry-script", "absent.py", "--mini-batch-size", "1.5MB", "--run-max-try", "many")
        assert lines[0] == "error: 5 settings cannot be used:"
        assert lines[1].startswith("  - --mini-batch-size: found '1.5MB'; allowed: a whole number of at least 1")
        assert lines[1].endswith("; try: --mini-batch-size 10MB")
        assert lines[2].startswith("  - --output-action: found nothing; allowed: append_row")
        assert lines[3] == (
            "  - --run-max-try: found 'many'; allowed: a whole number from 1 to 10000; try: --run-max-try 3"
        )
        assert lines[4].startswith("  - --entry-script: found '")
        assert "absent.py', which does not exist" in lines[4]
        assert lines[5] == "  - inputs: found nothing; allowed: at least one file, folder or pattern; try: --input data"
        assert not stage.steps

    def test_a_script_without_run_is_refused(self, stage: Any) -> None:
        Path("no_run.py").write_text("def init(): ...")
        (line,) = self.lines("--entry-script", "no_run.py", *FLAGS[2:])
        assert "no_run.py', which has no function run at its top level" in line

    def test_what_the_step_finds_is_told(self, stage: Any) -> None:
        stage.check_error = OutputError([Fault("output", "scores/parallel_run_step.txt, which exists", "a new file")])
        assert self.lines(*FLAGS) == [
            "error: output: found scores/parallel_run_step.txt, which exists; allowed: a new file"
        ]
        assert not stage.submitted

    def test_an_unknown_flag_is_refused_with_the_right_one(self, stage: Any) -> None:
        assert "--mini-batch-size" in " ".join(self.lines(*FLAGS, "--mini-batchsize", "3"))

    def test_an_unknown_key_of_a_step_file_is_refused_with_the_right_one(self, stage: Any) -> None:
        Path("step.yml").write_text(
            "entry_scrip: score.py\ninputs: [{format: csv, path: a}, 3]\ninput_format: xml\nname: 3"
        )
        lines = self.lines("step.yml")
        assert lines[0] == "error: 5 settings cannot be used:"
        assert "  - entry_scrip: found a setting that does not exist; allowed: did you mean entry_script?" in lines
        known = "files or delimited or jsonlines or parquet or mltable or sql"
        assert f"  - input_format: found 'xml'; allowed: {known}" in lines
        assert "  - name: found 3; allowed: a text" in lines

    def test_an_unknown_option_of_an_input_is_refused(self, stage: Any) -> None:
        Path("step.yml").write_text(
            "entry_script: score.py\noutput_action: append_row\n"
            "inputs: [{path: scans, separater: x, format: delimited}]"
        )
        (line,) = self.lines("step.yml")
        assert line == (
            "error: inputs: separater: found a setting that does not exist; allowed: did you mean separator?"
        )

    def test_a_version_without_comparison_is_refused_with_what_to_write(self, stage: Any) -> None:
        Path("step.yml").write_text("entry_script: score.py\ninputs: scans\nenvironment: {pandas: '2.0'}")
        (line,) = self.lines("step.yml", "--output-action", "append_row")
        assert line.startswith(
            "error: environment: found {'pandas': '2.0'}, where 'pandas 2.0' is no requirement: "
            "write '==2.0' for this version alone; allowed: "
        )

    def test_requirements_that_are_not_there_are_told(self, stage: Any, tmp_path: Path) -> None:
        (line,) = self.lines(*FLAGS, "--environment", "absent.txt")
        absent = str(tmp_path / "absent.txt")
        assert line.startswith(f"error: --environment: found {absent!r}: No such file or directory; allowed: ")

    def test_broken_yaml_is_told_with_its_line(self, stage: Any) -> None:
        Path("step.yml").write_text("a: 1\nb: [")
        (line,) = self.lines("step.yml")
        assert line.startswith("error: step.yml: found line 2:")

    def test_a_missing_step_file_is_told(self, stage: Any) -> None:
        assert "'absent.yml' does not exist" in " ".join(self.lines("absent.yml"))

    def test_an_environment_variable_that_is_not_set_is_told(self, stage: Any) -> None:
        (line,) = self.lines(*FLAGS, "--environment-variables", "PRS_ABSENT")
        assert "'PRS_ABSENT', which is not set here" in line

    def test_control_characters_never_reach_the_terminal(self, stage: Any) -> None:
        (line,) = self.lines("--entry-script", "\x1b[31mred.py", *FLAGS[2:])
        assert "\x1b" not in line


def test_a_cluster_that_fails_is_told_without_a_traceback(stage: Any) -> None:
    stage.state = ClusterError("no Dask scheduler answers at tcp://\x1b[0m:1")
    result = invoke("run", *FLAGS)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: no Dask scheduler answers at tcp://\\x1b[0m:1"


def interrupting(stage: Any, times: int, by: int = signal.SIGINT) -> Callable[..., None]:
    sent: list[int] = []

    def on_progress(step_run: object) -> None:
        if len(sent) < times:
            sent.append(by)
            os.kill(os.getpid(), by)

    return on_progress


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_cancels_in_order(by: int, stage: Any) -> None:
    stage.ends_by = "canceled"
    stage.on_progress = interrupting(stage, 1, by)
    result = invoke("run", *FLAGS)
    assert result.exit_code == 130
    assert "canceling: what runs is stopped and what is finished is kept" in result.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_ends_at_once(stage: Any) -> None:
    stage.ends_by = "killed"
    stage.on_progress = interrupting(stage, 2)
    result = invoke("run", *FLAGS)
    assert result.exit_code == 130
    assert "ending at once" in result.stderr


def test_a_third_interrupt_does_not_wait_for_what_never_ends(stage: Any) -> None:
    stage.ends_by = "nothing_ever"
    stage.on_progress = interrupting(stage, 3)
    result = invoke("run", *FLAGS)
    assert result.exit_code == 130
    assert "canceled" in result.stderr


def test_the_report_comes_behind_the_outcome(stage: Any, tmp_path: Path) -> None:
    lines = invoke("run", *FLAGS).stdout.splitlines()
    assert lines[0].startswith("Completed in 1.5 s")
    assert lines[-1] == f"report: {tmp_path}/prs_runs/score-1/report.html"


@pytest.mark.parametrize(("state", "code"), [("Completed", 0), ("Failed", 1)])
def test_an_interrupt_leaves_the_report_out_and_changes_nothing_else(state: str, code: int, stage: Any) -> None:
    stage.state, stage.report_takes = state, 20.0
    stage.on_report = interrupting(stage, 3)
    result = invoke("run", *FLAGS)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == "the report was left out"
    assert "canceling" not in result.stderr
    assert "report: " not in result.stdout


def test_help_is_there_at_once_and_without_dask() -> None:
    code = (
        "import sys\nfrom prs_dask.cli import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: print([n for n in ('dask', 'distributed', 'pandas', 'yaml', 'rich') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "prs_dask", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("prs-dask, version ")


def test_it_is_a_command_of_dask_too(stage: Any) -> None:
    dask = click.Group("dask", commands={"prs": main})
    result = invoke("prs", "run", *FLAGS, "--", "--mine", command=dask)
    assert result.exit_code == 0
    assert stage.steps[0]["arguments"] == ["--mine"]
    assert invoke("prs", "run", command=dask).exit_code == 2


def test_programs_get_the_end_as_json_too(stage: Any, tmp_path: Path) -> None:
    result = invoke("run", *FLAGS, "--progress", "json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["event"] for one in told] == ["progress", "end"]
    assert (told[1]["state"], told[1]["succeeded_items"], told[1]["cause"]) == ("Completed", 195, None)
    assert told[1]["output"].endswith("parallel_run_step.txt")
    stage.state = "Failed"
    end = json.loads(invoke("run", *FLAGS, "--progress", "json").stdout.splitlines()[-1])
    assert (end["state"], end["cause"], end["output"]) == ("Failed", "division by zero in score.py:3", None)
    assert end["resume"].startswith("prs-dask resume ")
    assert invoke("run", *FLAGS, "--progress", "off").stdout.startswith("Failed in 1.5 s")

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.config import EngineOptions, split_arguments
from prs_dask.config.arguments import RESERVED_NAMES
from prs_dask.errors import SettingsError


def faults_of(*arguments: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        split_arguments(arguments)
    return [str(fault) for fault in caught.value.faults]


def test_without_options_all_is_default_and_all_passes() -> None:
    assert split_arguments([]) == (EngineOptions(), [])
    assert EngineOptions() == EngineOptions(600.0, 600.0, None, 30.0, False, None, None)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--resource_monitor_interval", "20"], "resource_monitor_interval", 20.0),
        (["--resource_monitor_interval=0"], "resource_monitor_interval", 0.0),
        (["--resource_monitor_interva", 20], "resource_monitor_interval", 20.0),
        (["--first_task_creation_timeout", "1.5"], "first_task_creation_timeout", 1.5),
        (["--progress_update_timeout=9"], "progress_update_timeout", 9.0),
        (["--task_o", "5"], "task_overhead_timeout", 5.0),
        (["--append_row_dataframe_header", "true"], "append_row_dataframe_header", True),
        (["--append_row_d", True], "append_row_dataframe_header", True),
        (["--profiling_module", "cProfile"], "profiling_module", "cProfile"),
        (["--profiling_module", "MEMRAY"], "profiling_module", "memray"),
        (["--init_timeout", "600"], "init_timeout", 600.0),
        (["--init_timeout", "1", "--init_timeout", "2"], "init_timeout", 2.0),
    ],
)
def test_the_engines_options_are_taken_out(arguments: list[Any], name: str, value: object) -> None:
    options, rest = split_arguments(["--mine", "1", *arguments, "last"])
    assert getattr(options, name) == value
    assert rest == ["--mine", "1", "last"]


def test_options_of_azure_without_meaning_here_are_dropped() -> None:
    assert split_arguments(["--copy_logs_to_parent", "True", "--metrics_name_prefix=x", "a"])[1] == ["a"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--first", "1"],
        ["--init", "1"],
        ["--append_row", "x"],
        ["--resource_monitor_intervals", "1"],
        ["-resource_monitor_interval", "1"],
        ["--mini_batch", "1"],
        ["--outputs", "x"],
        ["--", "--run_max_try", "3"],
        ["--labels", object()],
        [3, None, 1.5, b"--output"],
    ],
)
def test_everything_else_passes_unchanged(arguments: list[Any]) -> None:
    assert split_arguments(arguments) == (EngineOptions(), arguments)


def test_every_reserved_name_is_refused_in_one_error() -> None:
    faults = faults_of(*(f"--{name}=1" for name in RESERVED_NAMES))
    assert len(faults) == len(RESERVED_NAMES)
    assert faults[0] == (
        "arguments: --mini_batch_size: found a name that the engine owns; "
        "allowed: set mini_batch_size in ParallelRunConfig, or put --mini-batch-size before the -- of prs-dask run"
    )
    assert any("give output= to ParallelRunStep" in fault for fault in faults)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            ["--task_overhead_timeout", "soon"],
            "found 'soon'; allowed: seconds, more than 0; try: --task",
        ),
        (["--task_overhead_timeout", "0"], "found '0'"),
        (["--task_overhead_timeout", "inf"], "found 'inf'"),
        (["--task_overhead_timeout", "nan"], "found 'nan'"),
        (["--init_timeout"], "found no value"),
        (["--init_timeout", True], "found True"),
        (
            ["--resource_monitor_interval=-1"],
            "found '-1'; allowed: seconds, at least 1, or 0 (off); try: --resource_monitor_interval 60",
        ),
        (["--resource_monitor_interval", 0.5], "found 0.5"),
        (["--append_row_dataframe_header", "yes"], "found 'yes'; allowed: True or False"),
        (["--profiling_module", "yappi"], "found 'yappi'; allowed: cProfile or memray; try: --prof"),
    ],
)
def test_a_bad_value_is_told_with_what_is_allowed(arguments: list[Any], found: str) -> None:
    (fault,) = faults_of(*arguments)
    assert found in fault


@pytest.mark.parametrize("arguments", ["--a b", None, 3])
def test_arguments_are_a_list(arguments: Any) -> None:
    with pytest.raises(SettingsError, match="arguments: found"):
        split_arguments(arguments)


@given(st.lists(st.one_of(st.integers(), st.text().filter(lambda text: "_" not in text and text != "--output"))))
def test_a_script_whose_options_are_not_the_engines_gets_all_of_them(arguments: list[object]) -> None:
    if not any(isinstance(one, str) and one.startswith("--output=") for one in arguments):
        assert split_arguments(arguments)[1] == arguments

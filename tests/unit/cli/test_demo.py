from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from prs_dask.cli import main
from prs_dask.cli.demo import demo

Run = Callable[..., int]


def with_demo(run_demo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("prs_dask.demo")
    module.run_demo = run_demo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prs_dask.demo", module)


def test_it_runs_the_demo_and_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def run_demo(name: str, folder: Path, processes: int | None, echo: Callable[[str], None]) -> int:
        calls.append((name, folder, processes))
        echo("accuracy \x1b 0.97")
        return 1

    with_demo(run_demo, monkeypatch)
    result = CliRunner().invoke(main, ["demo", "wine", "--folder", "here", "--processes", "2"])
    assert (result.exit_code, result.stdout) == (1, "accuracy \\x1b 0.97\n")
    CliRunner().invoke(main, ["demo"])
    assert calls == [("wine", Path("here"), 2), ("digits", Path("prs_demo"), None)]


def test_what_is_missing_for_it_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(*_: object) -> int:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets")

    with_demo(run_demo, monkeypatch)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: demo: found sklearn.datasets, which is not installed; allowed: the extra demo; "
        "try: pip install 'prs-dask[demo]'\n"
    )


def test_the_names_are_those_of_the_demos() -> None:
    from prs_dask.demo.jobs import DEMOS

    (argument,) = [one for one in demo.params if one.name == "name"]
    assert list(argument.type.choices) == list(DEMOS)  # type: ignore[attr-defined]

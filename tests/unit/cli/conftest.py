"""A step that runs nothing, in place of the real one."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from prs_dask.errors import PrsError
from prs_dask.mini_batches.descriptors import FileMiniBatch
from prs_dask.pipeline.plan import StepPlan, made_plan


@dataclass
class FakeProgress:
    state: str = "Running"
    stage: str = "running"
    total: int | None = 40
    created: int = 40
    succeeded: int = 10
    failed: int = 1
    running: int = 2
    failed_items: int = 3
    items: int = 100
    rate: float = 2.0
    seconds_left: float | None = 15.0
    elapsed: float = 5.0


class FakeStepRun:
    """Ends with a state; "Canceled" only once somebody has canceled or killed it."""

    def __init__(self, stage: Stage, run_folder: Path) -> None:
        self.stage = stage
        self.run_folder = run_folder
        self.output_file = run_folder / "output" / "parallel_run_step.txt"
        self.resume_hint = f"prs-dask resume {run_folder}"
        self.error = "division by zero in score.py:3" if stage.state == "Failed" else None
        self.canceled = threading.Event()
        self.killed = threading.Event()
        self.nothing_ever = threading.Event()

    def wait_for_end(self, timeout_seconds: float | None = None) -> bool:
        if isinstance(self.stage.state, BaseException):
            raise self.stage.state
        return not self.stage.ends_by or getattr(self, self.stage.ends_by).wait(timeout_seconds)

    def get_status(self) -> str:
        return "Canceled" if self.stage.ends_by else self.stage.state

    def wait_for_report(self, timeout_seconds: float | None = None) -> bool:
        self.stage.on_report(self)
        return self.stage.report_takes == 0 or self.killed.wait(min(timeout_seconds or 0, self.stage.report_takes))

    @property
    def report_file(self) -> Path | None:
        return None if self.killed.is_set() else self.run_folder / "report.html"

    def progress(self) -> FakeProgress:
        self.stage.on_progress(self)
        return FakeProgress()

    def cancel(self) -> None:
        self.canceled.set()

    def kill(self) -> None:
        self.killed.set()

    def summary(self) -> SimpleNamespace:
        return SimpleNamespace(
            succeeded_mini_batches=39,
            failed_mini_batches=1,
            mini_batches=40,
            succeeded_items=195,
            failed_items=5,
            items=200,
            rows=195,
            attempts=41,
            seconds=1.25,
            total_seconds=1.5,
        )


@dataclass
class Stage:
    """How the fake step behaves, and what was asked of it."""

    state: Any = "Completed"
    ends_by: str | None = None
    check_error: PrsError | None = None
    mini_batches: int = 3
    steps: list[dict[str, Any]] = field(default_factory=list)
    submitted: list[Any] = field(default_factory=list)
    warmed: int = 0

    report_takes: float = 0.0

    def on_progress(self, step_run: FakeStepRun) -> None:
        pass

    def on_report(self, step_run: FakeStepRun) -> None:
        pass


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """The fake, in an empty folder that holds ``score.py`` and a folder ``scans`` with one file."""
    stage = Stage()

    class ParallelRunStep:
        def __init__(self, **settings: Any) -> None:
            self.name = settings["name"]
            stage.steps.append(settings)

        def check(self) -> None:
            if stage.check_error:
                raise stage.check_error

        def plan(self, n: int | None = None, *, seconds: float = 10.0) -> StepPlan:
            inputs = stage.steps[-1]["inputs"]
            all_of_them = [FileMiniBatch(0, (f"scans/\x1b[31m{index}.png",)) for index in range(stage.mini_batches)]
            return made_plan(inputs, all_of_them, n, seconds, mini_batch_size=1)

        def submit(self, run_folder: Any = None, compute_target: Any = None) -> FakeStepRun:
            stage.submitted.append(run_folder)
            return FakeStepRun(stage, Path(run_folder or tmp_path / "prs_runs" / "score-1"))

    module = ModuleType("prs_dask.pipeline.step")
    module.ParallelRunStep = ParallelRunStep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prs_dask.pipeline.step", module)

    def warm_up(*also: str) -> bool:
        stage.warmed += 1
        return True

    monkeypatch.setattr("prs_dask.clusters.warm_up", warm_up)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score.py").write_text("def run(mini_batch): return mini_batch")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "one.png").touch()
    return stage

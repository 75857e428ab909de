"""What ``environment`` wants, on the workers of a cluster that was running already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
NAME = "a-thing-of-this-test"
WANTED = {"pandas": ">=2", NAME: ">=2"}


def having(folder: Path, version: str) -> str:
    """PYTHONPATH of a worker that has the package in this version."""
    metadata = folder / version / f"{NAME.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")
    return os.pathsep.join([str(ROOT), str(folder / version)])


def notes(run: Any) -> str:
    text: str = (run.log_dir / "sys" / "master_role.txt").read_text()
    return text


def test_workers_that_do_not_fit_end_the_step_run_with_one_table_before_any_process_starts(fleet, job, tmp_path):
    ours = fleet(lacking=1)
    ours.add("old", PYTHONPATH=having(tmp_path, "1.0"))
    with ours.client():
        made = job(ours.address, 3, environment=WANTED)
        assert made.run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Failed"
    lines = made.run.error.splitlines()
    assert lines[0] == "environment: 2 workers do not have what the step wants"
    assert [line.split() for line in lines[1:4]] == [
        ["node", "package", "found", "wanted"],
        ["0", "(127.0.0.1)", NAME, "1.0", ">=2"],
        ["0", "(127.0.0.1)", NAME, "not", "installed", ">=2"],
    ]
    assert not list(made.run.log_dir.glob("user/stdout/**/*.txt")), "no process was started"
    assert "environment: 2 workers" in (made.run.log_dir / "job_result.txt").read_text()


def test_one_that_comes_late_and_does_not_fit_is_left_out(fleet, job, tmp_path):
    ours = fleet()
    ours.add("fits", PYTHONPATH=having(tmp_path, "2.5"))
    with ours.client():
        made = job(ours.address, 60, pause=0.05, environment=WANTED)
        made.until(1)
        ours.add("late")
        rows = made.wait()
    assert {row.where for row in rows} == {"fits"}
    told = notes(made.run)
    assert told.count("environment: 1 worker does not have what the step wants") == 1
    assert "left out" in told


def test_packages_that_the_processes_are_given_by_pythonpath_count(fleet, job, tmp_path):
    ours = fleet(first=1)
    variables = {"PYTHONPATH": having(tmp_path, "2.5")}
    with ours.client():
        job(ours.address, 3, environment=WANTED, environment_variables=variables).wait()


def test_another_prs_dask_is_told_before_anything_is_run(fleet, job, tmp_path):
    ours = fleet()
    metadata = tmp_path / "other" / "prs_dask-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: prs-dask\nVersion: 0.0.1\n")
    ours.add("other", PYTHONPATH=os.pathsep.join([str(metadata.parents[1]), str(ROOT)]))
    with ours.client():
        made = job(ours.address, 3)
        assert made.run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Failed"
    assert "prs-dask" in made.run.error
    assert "0.0.1" in made.run.error
    assert "nothing was run" in made.run.error
    assert not list((made.run.log_dir / "sys").glob("node/*"))

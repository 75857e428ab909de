"""Worker processes have the Dask worker's environment, but for how Dask has malloc give memory back."""

from __future__ import annotations

import dask
import distributed  # noqa: F401 - brings its settings

from prs_dask.engine.process_environment import inherited


def test_the_threshold_that_dask_sets_for_its_workers_is_left_out():
    by_dask = {name: str(value) for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items()}
    assert "MALLOC_TRIM_THRESHOLD_" in by_dask
    environment = {**by_dask, "HOME": "/home/me"}
    expected = {name: value for name, value in environment.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    assert inherited(environment) == expected
    assert "MALLOC_TRIM_THRESHOLD_" in environment


def test_a_threshold_that_somebody_chose_stays():
    environment = {"MALLOC_TRIM_THRESHOLD_": "1048576"}
    assert inherited(environment) == environment

"""Real, small clusters, and the check that nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    tmp_path_factory.getbasetemp()  # before the temporary folder is another one
    request.getfixturevalue("no_leaks")


@pytest.fixture
def running() -> Iterator[distributed.LocalCluster]:
    """A cluster that somebody else started."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's home folder; there is no SSH agent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path

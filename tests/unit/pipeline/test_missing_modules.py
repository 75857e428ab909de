from __future__ import annotations

import importlib.util

import pytest

from prs_dask.config import EngineOptions
from prs_dask.pipeline import missing_modules as module
from prs_dask.pipeline.missing_modules import missing_modules


@pytest.mark.parametrize("asked_for", [None, "cProfile"])
def test_nothing_more_is_needed_without_memray(asked_for: str | None) -> None:
    assert missing_modules(EngineOptions(profiling_module=asked_for)) == []


def test_memray_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    [fault] = missing_modules(EngineOptions(profiling_module="memray"))
    assert str(fault) == (
        "arguments: --profiling_module: found memray, which is not installed; allowed: cProfile, or memray where it is "
        "installed; try: pip install 'prs-dask[memray]', here and where the workers run"
    )


def test_and_not_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: importlib.util.find_spec("json"))
    assert missing_modules(EngineOptions(profiling_module="memray")) == []

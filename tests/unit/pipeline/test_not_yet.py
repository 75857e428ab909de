from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SettingsError


def step(folder: Path, settings: dict[str, Any] | None = None, **more: Any) -> ParallelRunStep:
    script = folder / "script.py"
    script.write_text("def run(mini_batch): return mini_batch\n")
    (folder / "item").touch()
    config = ParallelRunConfig(entry_script=script, output_action="append_row", error_threshold=0, **(settings or {}))
    return ParallelRunStep("not-yet", config, FileDataset.from_files(folder / "item"), **more)


@pytest.mark.parametrize(
    "setting",
    [
        {"environment": {"pandas": ">=2"}},
        {"processes_per_gpu": 2},
        {"surplus_gpu_processes": "hide"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_would_do_nothing_is_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not supported yet") as caught:
        step(tmp_path, setting)
    assert [fault.name for fault in caught.value.faults] == list(setting)

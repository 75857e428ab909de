"""Profiles of whole jobs: of each process, of killed ones too, and in the report."""

from __future__ import annotations

import pstats
from pathlib import Path
from typing import Any

import memray
import pytest

from prs_dask import SettingsError, StepRun
from prs_dask.report.profiles import top_functions

SCORE = """
import os, time

def score(path):
    return os.path.basename(path)

def run(mini_batch):
    if os.path.basename(mini_batch[0]) == "0012":
        time.sleep(60)
    time.sleep(0.05)
    return [score(path) for path in mini_batch]
"""
PROFILED = ("--profiling_module", "cProfile")


def profiles(run: StepRun, ending: str = "profile") -> dict[str, Path]:
    return {path.name.partition(".")[0]: path for path in run.log_dir.glob(f"sys/node/*/*.{ending}")}


def scored(path: Path) -> int:
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    return sum(counts[1] for (_, _, name), counts in stats.items() if name == "score")


def test_each_process_leaves_the_profile_of_what_it_has_run(job: Any) -> None:
    done = job(SCORE, 10, arguments=PROFILED)
    by_process = profiles(done.run)
    ran = {row["Process"].partition("/")[2] for row in done.attempts}
    assert set(by_process) == ran
    assert sum(map(scored, by_process.values())) == 10
    functions, count = top_functions(by_process.values())
    assert count == len(ran)
    [found] = [function for function in functions if function.name == "score"]
    assert (found.calls, found.place.endswith("script.py:4")) == (10, True)


def test_a_process_that_is_killed_at_its_limit_leaves_one_too(job: Any) -> None:
    done = job(SCORE, 20, arguments=PROFILED, run_invocation_timeout=1, run_max_try=1, process_count_per_node=1)
    [killed] = [row for row in done.attempts if row["Error Category"]]
    assert killed["Error Category"] == "time limit"
    path = profiles(done.run)[killed["Process"].partition("/")[2]]
    assert scored(path) >= 1
    assert sum(map(scored, profiles(done.run).values())) <= 19


def test_the_report_shows_where_the_time_went(job: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PRS_DASK_REPORT", "1")
    done = job(SCORE, 6, arguments=PROFILED)
    page = (done.run.run_folder / "report.html").read_text()
    assert 'id="profile"' in page
    assert "script.py:4" in page


MEMRAY = """
class Tracker:
    def __init__(self, path):
        self.file = open(path, "wb")
    def __enter__(self):
        self.file.write(b"begun" * (8 << 20))  # 40 MiB
        self.file.flush()
    def __exit__(self, *how):
        self.file.write(b"ended")
        self.file.close()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: Any) -> dict[str, str]:
    """A memray that writes a lot at once, here and on the workers."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library/memray.py").write_text(MEMRAY)
    monkeypatch.syspath_prepend(tmp_path / "library")
    return {"PYTHONPATH": str(tmp_path / "library")}


def test_what_memray_writes_arrives_whole_however_the_process_ends(job: Any, stand_in: dict[str, str]) -> None:
    done = job(
        SCORE,
        14,
        arguments=("--profiling_module", "memray"),
        environment_variables=stand_in,
        run_invocation_timeout=1,
        run_max_try=1,
        process_count_per_node=1,
    )
    files = profiles(done.run, "memray.bin")
    [killed] = [row["Process"].partition("/")[2] for row in done.attempts if row["Error Category"]]
    assert len(files) >= 2
    for process, path in files.items():
        assert path.read_bytes() == b"begun" * (8 << 20) + b"ended" * (process != killed)


HOLDS = """
import os, time

def hold():
    return bytearray(50 << 20)

def run(mini_batch):
    global held
    held = hold()
    if os.path.basename(mini_batch[0]) == "0002":
        time.sleep(60)
    return mini_batch
"""


def test_memray_tells_what_held_memory_in_processes_that_were_killed_too(job: Any) -> None:
    done = job(
        HOLDS,
        6,
        arguments=("--profiling_module", "memray"),
        run_invocation_timeout=2,
        run_max_try=1,
        process_count_per_node=1,
    )
    [killed] = [row["Process"].partition("/")[2] for row in done.attempts if row["Error Category"]]
    files = profiles(done.run, "memray.bin")
    assert killed in files
    assert len(files) >= 2
    for path in files.values():
        with memray.FileReader(path) as reader:
            assert reader.metadata.peak_memory > 50 << 20
            largest = max(reader.get_high_watermark_allocation_records(), key=lambda record: record.size)
        function, file, line = largest.stack_trace()[0]
        assert (function, Path(file).name, line) == ("hold", "script.py", 5)


def test_memray_that_is_not_installed_is_refused_at_once(submit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("prs_dask.pipeline.missing_modules.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="--profiling_module: found memray, which is not installed"):
        submit(SCORE, 1, arguments=("--profiling_module", "memray"))

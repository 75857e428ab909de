"""Figures of very many small files: listing them, the first ``run()``, a whole job.

What is measured for memory or from a start runs in a process of its own; the kernel's caches are emptied for
the cold figures where this user may do that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep
from tests.benchmarks.ours import SCRIPTS, two_workers

__all__ = ["measure", "small_files"]

Figure = dict[str, Any]
EACH = 1000
"""Files in each folder."""


def small_files(scale: float) -> Figure:
    """1,000,000 small files in 1,000 folders: listed a second, memory, seconds to the first run(), a whole job."""
    folders = max(1, int(1000 * scale))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "items"
        for number in range(folders):
            folder = root / f"{number:04d}"
            folder.mkdir(parents=True)
            for index in range(EACH):
                with open(f"{folder}/{index:04d}.txt", "xb", buffering=0) as file:
                    file.write(b"%d\n" % index)
        os.sync()
        return measure(root, folders * EACH, Path(name))


def measure(root: Path, count: int, folder: Path) -> Figure:
    """All figures of ``count`` files below ``root``; ``folder`` is for what the step runs write."""
    figure: Figure = {"files": count}
    if _empty_caches():
        cold_bare = _seconds(_stat_all, root)
        _empty_caches()
        cold_listed = _seconds(_list_all, root)
        figure["cold_listed_per_second"] = round(count / cold_listed)
        figure["cold_times_scandir"] = round(cold_bare / cold_listed, 2)
        _empty_caches()
        figure["cold_seconds_to_first_run"] = _alone("first_run", root, folder / "cold", "cluster")
    _stat_all(root)
    in_turn = [(_seconds(_stat_all, root), _seconds(_list_all, root)) for _ in range(3)]
    bare, listed = min(one for one, _ in in_turn), min(one for _, one in in_turn)
    figure["listed_per_second"] = round(count / listed)
    figure["scandir_with_stat_per_second"] = round(count / bare)
    figure["times_scandir"] = round(bare / listed, 2)
    figure["listing_growth_mib"] = _alone("growth", root)
    figure["seconds_to_first_run"] = _alone("first_run", root, folder / "ready", "cluster")
    figure["seconds_to_first_run_local"] = _alone("first_run", root, folder / "local", "local")
    few = _alone("whole_job", root / "0000", folder / "few", 10)
    figure["driver_peak_mib_1000_files"] = few["driver_peak_mib"]
    for size in (10, 1000):
        job = _alone("whole_job", root, folder / f"by_{size}", size)
        if job["rows"] != count or job["different_rows"] != count:
            raise AssertionError(f"{count} files, but {job}")
        figure |= {f"by_{size}_{name}": value for name, value in job.items()}
    return figure


def _seconds(work: Any, root: Path) -> float:
    begun = time.perf_counter()
    work(root)
    return time.perf_counter() - begun


def _stat_all(root: Path) -> None:
    for entry in _entries(str(root)):
        entry.stat()


def _list_all(root: Path) -> None:
    for _ in FileDataset.from_files(root).mini_batches(10):
        pass


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _entries(entry.path)
            else:
                yield entry


def _empty_caches() -> bool:
    """Whether the kernel has forgotten what lies on the disks."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def _alone(function: str, *arguments: Any) -> Any:
    """What a function of this module returns in a process of its own."""
    program = "import sys\nfrom tests.benchmarks import many_files\n"
    program += f"if __name__ == '__main__':\n    print(repr(many_files.{function}(*sys.argv[1:])))\n"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(program)
        file.flush()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, file.name, *map(str, arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True)
    import ast

    return ast.literal_eval(done.stdout.splitlines()[-1])


def _peak_mib() -> float:
    """Of this process; not ru_maxrss, which goes on from the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def growth(root: str) -> float:
    """MiB by which memory grows while all files are listed and cut, beyond the first 10,000."""
    before = 0.0
    for number, _ in enumerate(FileDataset.from_files(root).mini_batches(10)):
        if number == 1000:
            before = _peak_mib()
    return round(_peak_mib() - (before or _peak_mib()), 1)


def _step(root: str, folder: Path, script: str, **settings: Any) -> ParallelRunStep:
    config = ParallelRunConfig(
        entry_script=SCRIPTS / script,
        error_threshold=-1,
        output_action="append_row",
        process_count_per_node=2,
        **settings,
    )
    return ParallelRunStep("benchmark", config, [FileDataset.from_files(root)], folder / "output")


def first_run(root: str, folder: str, target: str) -> float:
    """Seconds from submit to the first run(), on a cluster that stands ready or a local target started for it."""
    notes = Path(folder) / "notes"
    notes.parent.mkdir()
    step = _step(root, notes.parent, "note_first.py", environment_variables={"BENCHMARK_NOTES": str(notes)})
    with two_workers() if target == "cluster" else nullcontext("local") as compute_target:
        begun = time.time()
        step_run = step.submit(run_folder=notes.parent / "run", compute_target=compute_target)
        while not notes.exists() or not notes.read_text():
            time.sleep(0.01)
        step_run.cancel()
        step_run.wait_for_completion(raise_on_error=False)
    return round(float(notes.read_text()) - begun, 2)


def whole_job(root: str, folder: str, mini_batch_size: str) -> Figure:
    """All files through a run() that returns their paths, on a local target."""
    place = Path(folder)
    place.mkdir()
    step = _step(root, place, "names.py", mini_batch_size=int(mini_batch_size))
    begun = time.perf_counter()
    step_run = step.submit(run_folder=place / "run", compute_target="local")
    step_run.wait_for_completion()
    seconds, peak = time.perf_counter() - begun, _peak_mib()
    with (place / "output" / "parallel_run_step.txt").open() as rows:
        found = [line.rstrip("\n") for line in rows]
    sizes = [path.stat().st_size for path in (place / "run").rglob("*") if path.is_file()]
    return {
        "seconds": round(seconds, 1),
        "rows": len(found),
        "different_rows": len(set(found)),
        "driver_peak_mib": round(peak, 1),
        "run_folder_files": len(sizes),
        "run_folder_mib": round(sum(sizes) / 2**20, 1),
    }

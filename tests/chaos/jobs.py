"""Plays one plan in a folder: input, cluster, driver, faults, resumes, and a look at what is left.

What is to be judged is in the folder when `play` returns, and nothing of the run lives any more::

    plan.json  poisons.json  data/      what was played, on what
    inits/                              what goes wrong in init() and has not yet
    disk/run/  disk/out/                the run folder, the output
    traces/  deaths.jsonl  late.jsonl   what user code did, when its processes died, how loaded the machine was
    events.jsonl                        drivers and faults, with their times
    driver-<n>.json  driver-<n>.txt     how each driver ended, what it printed
    left.json                           what was left behind
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.disk import Disk
from tests.chaos.faults import DO, free_disk
from tests.chaos.plans import OF_DISKS, Fault, Plan, to_json
from tests.chaos.remains import left_in_cluster, left_of_all, left_of_run
from tests.chaos.scene import Scene
from tests.chaos.watch import Watch
from tests.chaos.workload import HEADER_LINE, Workload, line_of

__all__ = ["play"]

DRIVER_SECONDS = 150.0
"""A driver that has not ended by then hangs."""

MOST_DRIVERS = 5
LEFT_SECONDS = 5.0
ORPHANS_SECONDS = 60.0
"""So long worker processes may live on whose driver or scheduler was killed."""


class _Events:
    """``events.jsonl``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def tell(self, what: str, **details: Any) -> None:
        line = json.dumps({"time": time.monotonic(), "wall": time.time(), "what": what, **details})
        with self._lock, self._path.open("a") as file:
            file.write(line + "\n")


def play(plan: Plan, folder: Path) -> None:
    """Play it; the folder must be new or empty."""
    for name in ("data", "traces", "inits", "tmp", "disk", "shm"):
        (folder / name).mkdir(parents=True)
    for number, harm in enumerate(plan.inits):
        (folder / "inits" / f"{number}-{harm}").touch()
    (folder / "plan.json").write_text(to_json(plan))
    (folder / "poisons.json").write_text(json.dumps([(p.item, p.harm, p.flaky) for p in plan.workload.poisons]))
    make_input(plan.workload, folder / "data")
    names = {fault.name for fault in plan.faults}
    disk = Disk(folder / "disk") if names & OF_DISKS else None
    if disk is not None:
        disk.mount()
    scene = Scene(plan, folder)
    watch = Watch(folder)
    events = _Events(folder / "events.jsonl")
    left: dict[str, Any] = {}
    try:
        scene.start_cluster()
        if "read_only" in names:
            _refused(scene, events)
        _drive(scene, events, left)
        scene.close_cluster()
        left["all"] = left_of_all(scene)
    finally:
        scene.kill_all()
        watch.close()
        if disk is not None:
            disk.keep()
        (folder / "left.json").write_text(json.dumps(left, indent=1))


def make_input(work: Workload, data: Path) -> None:
    """Write the files of a workload."""
    if work.kind == "files":
        for item in range(work.items):
            (data / f"{item:06d}").touch()
        return
    for part in range(work.parts):
        items = work.part_of(part)
        path = data / f"part-{part}"
        if work.kind == "text":
            path.with_suffix(".csv").write_text(HEADER_LINE + "".join(map(line_of, items)))
            continue
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema({"item": pa.int64()})
        with pq.ParquetWriter(path.with_suffix(".parquet"), schema) as writer:
            for first in range(items.start, items.stop, work.size):
                group = list(range(first, min(first + work.size, items.stop)))
                writer.write_table(pa.table({"item": group}, schema))


def _refused(scene: Scene, events: _Events) -> None:
    """A driver that finds a read-only disk under the run folder."""
    fault = next(fault for fault in scene.plan.faults if fault.name == "read_only")
    start = time.monotonic()
    hit = DO["read_only"](scene, fault)
    _run_driver(scene, events, [])
    events.tell("fault", name="read_only", hit=hit, driver=scene.drivers, start=start)
    Disk(scene.folder / "disk").remount("rw")


def _drive(scene: Scene, events: _Events, left: dict[str, Any]) -> None:
    """Drivers one after the other until one has ended by itself."""
    waiting = [fault for fault in scene.plan.faults if fault.name != "read_only"]
    for _ in range(MOST_DRIVERS):
        _run_driver(scene, events, waiting)
        if not _has_to_be_resumed(scene):
            # One that was killed before may have left processes to a cluster that was stopped itself.
            left["run"] = left_of_run(scene, LEFT_SECONDS if scene.drivers == 1 else ORPHANS_SECONDS)
            left["cluster"] = left_in_cluster(scene, ORPHANS_SECONDS)
            return
        if scene.scheduler is not None and _ENDS_SCHEDULER & set(_hits(scene)):
            scene.scheduler.wait(ORPHANS_SECONDS)  # it may take a moment longer than the driver
        if scene.scheduler is not None and scene.scheduler.poll() is not None:
            left.setdefault("orphans", []).extend(left_of_run(scene, ORPHANS_SECONDS))
            scene.close_cluster()
            scene.start_cluster()
        free_disk(scene)
        _forget_what_had_not_begun(scene.folder / "disk")


def _has_to_be_resumed(scene: Scene) -> bool:
    """Was the last driver ended, by a fault that does that?"""
    if not any(name in _DEADLY for name in _hits(scene)):
        return False
    assert scene.driver is not None
    return scene.driver.returncode != 0


def _forget_what_had_not_begun(disk: Path) -> None:
    """A driver that was killed before it had written its settings has begun nothing: there is nothing to resume."""
    if not (disk / "run" / "run.json").exists():
        for name in ("run", "out"):
            shutil.rmtree(disk / name, ignore_errors=True)


_ENDS_SCHEDULER = {"kill_scheduler", "term_scheduler"}
_DEADLY = ("kill_driver", "term_driver", "kill_scheduler", "term_scheduler", "full_disk")


def _hits(scene: Scene) -> list[str]:
    """Names of the faults that hit something while the last driver ran."""
    lines = (scene.folder / "events.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        entry["name"]
        for entry in entries
        if entry["what"] == "fault" and entry["driver"] == scene.drivers and entry["hit"]
    ]


def _run_driver(scene: Scene, events: _Events, waiting: list[Fault]) -> None:
    """One driver from its start to its end, and the faults meanwhile."""
    how = scene.start_driver()
    assert scene.driver is not None
    number, began = scene.drivers, time.monotonic()
    events.tell("driver started", driver=number, pid=scene.driver.pid, how=how)
    over = threading.Event()
    doing = threading.Thread(target=_do_faults, args=(scene, events, waiting, began, over), daemon=True)
    doing.start()
    hung = False
    try:
        scene.driver.wait(DRIVER_SECONDS)
    except subprocess.TimeoutExpired:
        hung = True
        scene.driver.kill()
        scene.driver.wait()
    over.set()
    doing.join()
    events.tell("driver ended", driver=number, code=scene.driver.returncode, hung=hung)


def _do_faults(scene: Scene, events: _Events, waiting: list[Fault], began: float, over: threading.Event) -> None:
    """Each fault when its time has come; those whose time never comes wait for the next driver."""
    total = len(scene.plan.workload.mini_batches())
    while waiting and not over.wait(0.05):
        fault = waiting[0]
        if fault.share is None:
            due = time.monotonic() >= began + fault.delay
        else:
            due = scene.ended_share(total) >= fault.share
        if not due:
            continue
        waiting.pop(0)
        if fault.share is not None and over.wait(fault.delay):
            return
        start = time.monotonic()
        hit = DO[fault.name](scene, fault)
        events.tell("fault", name=fault.name, hit=hit, driver=scene.drivers, start=start)

"""Workers that see none of the driver's folders: rows, logs, and the files that scripts write all arrive.

Each worker lives in a mount namespace of its own, with an empty file system where the driver has its folders. Workers
of one node have temporary files of their own, too; workers of two have host names of their own, and share them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pstats
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, OutputFileDatasetConfig, ParallelRunConfig, ParallelRunStep, StepRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ITEMS = 40
EVERY_SECOND = ("--resource_monitor_interval", "1")

SCRIPT = """
import os, sys, time
from pathlib import Path
from prs_dask import EntryScript
from azureml.core import Run

entry_script = EntryScript()
OUTPUT = Path(sys.argv[sys.argv.index("--into") + 1])


def init():
    global me
    me = f"{entry_script.node_id}-{entry_script.agent_name}"
    assert not Path(DRIVER, "run").exists(), "the worker sees the driver's folders"
    assert OUTPUT == Path(entry_script.output_dir) == Path(os.environ["AZUREML_BI_OUTPUT_PATH"])
    (OUTPUT / f"{me}.started").touch()
    met = Path(DRIVER).with_name("met")
    (met / me).touch()
    while len(list(met.iterdir())) < 2:  # else the first worker might do it all
        time.sleep(0.01)


def run(mini_batch, context):
    name = Path(mini_batch[0]).name
    print(f"seen {name}", flush=True)
    print(f"warned {name}", file=sys.stderr)
    Run.get_context().log("seen", name)
    entry_script.logger.warning("logged %s", name)
    with open(os.path.join(entry_script.log_dir, "seen.txt"), "a") as file:
        file.write(f"{name}\\n")
    with open(OUTPUT / f"{me}.csv", "a") as file:
        file.write(f"{name}\\n")
    (OUTPUT / "by item" / name).mkdir(parents=True, exist_ok=True)
    (OUTPUT / "by item" / name / os.fsdecode(b"caf\\xe9\\n.txt")).write_text(f"{name} {context.attempt}")
    if int(name) % 8 == 3:
        (OUTPUT / f"{name}-{context.attempt}.tried").touch()
        if context.attempt == 1:
            raise ValueError(f"{name} fails the first time")
    if int(name) % 8 == 5 and context.attempt == 1:
        (OUTPUT / f"{name}.died").touch()
        os._exit(3)
    return mini_batch


def shutdown():
    (OUTPUT / f"{me}.ended").write_bytes(os.urandom(3 << 20))
"""


def submitted(
    tmp_path: Path, target: Any, script: str = SCRIPT, arguments: tuple[str, ...] = (), **settings: Any
) -> StepRun:
    """A step run whose folders the workers do not see; its input they do."""
    driver, data, met = tmp_path / "driver", tmp_path / "data", tmp_path / "met"
    for folder in (data, met):
        folder.mkdir()
    for number in range(ITEMS):
        (data / f"{number:03d}").touch()
    (driver / "score.py").write_text(f"DRIVER = {str(driver)!r}\n{script}")
    config = ParallelRunConfig(
        **{
            "entry_script": str(driver / "score.py"),
            "mini_batch_size": 1,
            "error_threshold": 0,
            "output_action": "append_row",
            **settings,
        }
    )
    output = OutputFileDatasetConfig(destination=driver / "out")
    given = [*arguments, "--into", output]
    step = ParallelRunStep("apart", config, FileDataset.from_files(data), output=output, arguments=given)
    return step.submit(run_folder=driver / "run", compute_target=target)


def test_rows_logs_and_all_files_of_the_script_arrive(apart, tmp_path):
    ours = apart(2)
    names = [f"{number:03d}" for number in range(ITEMS)]
    with ours.client():
        run = submitted(tmp_path, ours.address)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed", run.error
    rows = [Path(row).name for row in run.output_file.read_text().splitlines()]
    assert sorted(rows) == names

    attempted = sorted(names + [name for name in names if int(name) % 8 in (3, 5)])
    logs = run.log_dir / "user"
    for kind, word in {"stdout": "seen", "stderr": "warned", "entry_script_log": "logged"}.items():
        text = "".join(path.read_text() for path in (logs / kind).glob("0/*.txt"))
        assert sorted(re.findall(rf"{word} (\d+)", text)) == attempted, kind
    seen = [line for path in logs.glob("entry_script_log/0/*/seen.txt") for line in path.read_text().split()]
    assert sorted(seen) == attempted, "of every attempt"

    out = run.output_dir
    stored = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    by_item = {f"by item/{name}/" + os.fsdecode(b"caf\xe9\n.txt") for name in names}
    tried = {f"{name}-2.tried" for name in names if int(name) % 8 == 3}
    processes = {path.stem for path in out.glob("*.csv")}
    ended = {path.stem for path in out.glob("*.ended")}
    started = {path.stem for path in out.glob("*.started")}
    own = {f"{name}.csv" for name in processes} | {f"{name}.ended" for name in ended}
    assert stored == by_item | tried | own | {f"{name}.started" for name in started} | {"parallel_run_step.txt"}
    assert started == processes | ended, "of those whose mini-batches all died there is nothing"
    assert len(ended) in (1, 2), "the last that died need not have been replaced"
    assert all((out / f"{name}.ended").stat().st_size == 3 << 20 for name in ended)
    for name in names:
        attempt = 2 if int(name) % 8 in (3, 5) else 1
        assert (out / "by item" / name / os.fsdecode(b"caf\xe9\n.txt")).read_text() == f"{name} {attempt}"
    lines = [line for path in out.glob("*.csv") for line in path.read_text().split()]
    assert {line for line in lines} == set(names)
    assert not list(out.glob(".prs-dask*"))


@pytest.mark.parametrize("nodes", [1, 2])
def test_all_that_is_told_of_processes_nodes_and_attempts_arrives(apart, tmp_path, nodes):
    ours = apart(2, nodes=nodes)
    names = [f"{number:03d}" for number in range(ITEMS)]
    attempted = sorted(names + [name for name in names if int(name) % 8 in (3, 5)])
    with ours.client():
        options = ("--profiling_module", "cProfile", *EVERY_SECOND)
        run = submitted(tmp_path, ours.address, arguments=options, node_count=nodes)
        assert run.wait_for_completion(timeout_seconds=90) == "Completed", run.error
    logs = run.log_dir

    def rows(path: str) -> list[dict[str, str]]:
        return [row for file in sorted(logs.glob(path)) for row in csv.DictReader(io.StringIO(file.read_text()))]

    metrics = [json.loads(line) for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert sorted(metric["value"] for metric in metrics) == attempted
    assert len(rows("sys/job_report/processed_mini-batches.csv")) == len(attempted)
    assert len(rows("sys/node/*/process*.txt")) == len(attempted)
    summary = {row["Node"]: row for row in rows("sys/job_report/node_summary.csv")}
    assert set(summary) == {str(node) for node in range(nodes)}
    assert sum(int(row["Items"]) for row in summary.values()) == ITEMS
    processes = sum(int(row["Processes"]) for row in summary.values())
    assert processes in (6, 7), "five have died, and the last of them need not have been replaced"
    events = Counter(row["Event"] for row in rows("sys/node/*/processes.csv"))
    assert events["started"] == events["ended"] == processes
    assert processes - 2 <= events["ready"] <= processes
    told = "".join(path.read_text() for path in (logs / "user/error").glob("*/*.txt"))
    for cause in ("fails the first time", "exit code 3"):
        assert told.count(cause) >= 5
    groups = json.loads((logs / "user/error.json").read_text())
    assert "fails the first time" in json.dumps(groups)
    profiled = [pstats.Stats(str(path)).stats for path in logs.glob("sys/node/*/*.profile")]  # type: ignore[attr-defined]
    assert any(name == "run" for stats in profiled for _, _, name in stats)
    for node in range(nodes):
        told = "".join(path.read_text() for path in (logs / f"user/stdout/{node}").glob("process*.txt"))
        seen = re.findall(r"seen (\d+)", told)
        where = {row["Mini-batch Id"] for row in rows(f"sys/node/{node}/process*.txt")}
        assert len(seen) == int(summary[str(node)]["Attempts"]) >= len(where)
        assert {int(name) for name in seen} == {int(mini_batch) for mini_batch in where}
        times = [row["Utc Time"] for row in rows(f"perf/{node}/node_resource_usage.csv")]
        assert times == sorted(set(times)), "one monitor tells of the node"
        assert times  # at the start and at the end, which may be one moment
        used = rows(f"perf/{node}/processes_resource_usage.csv")
        at_once = Counter((row["Utc Time"], row["Pid"]) for row in used)
        assert set(at_once.values()) == {1}, "no process is told twice"
        pids = {name: {row["Pid"] for row in used if row["Process"] == name} for name in ("worker", "monitor")}
        assert len(pids["worker"]) == len(pids["monitor"]) == 2 // nodes, "those with the same temporary files"
        assert list(logs.glob(f"perf/{node}/os/*/processes_*"))


def test_two_processes_that_store_one_name_with_other_content_end_the_step_run(apart, tmp_path):
    ours = apart(2)
    script = """
import time
from pathlib import Path
from prs_dask import EntryScript

def run(mini_batch):
    (Path(EntryScript().output_dir) / "same.txt").write_text("the same")
    (Path(EntryScript().output_dir) / "results.csv").write_text(EntryScript().agent_name)
    time.sleep(0.05)
    return mini_batch
"""
    with ours.client():
        run = submitted(tmp_path, ours.address, script, output_action="summary_only")
        assert run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Failed"
    assert "'results.csv', stored by process00" in run.error
    assert "EntryScript().agent_name" in run.error
    assert {path.name for path in run.output_dir.iterdir()} in (set(), {"results.csv", "same.txt"})


def test_whoever_is_killed_each_mini_batch_has_stored_its_files_and_added_its_lines_once(apart, tmp_path):
    ours = apart(2)
    script = """
import time
from pathlib import Path
from prs_dask import EntryScript

def run(mini_batch):
    entry_script = EntryScript()
    for path in mini_batch:
        name = Path(path).name
        (Path(entry_script.output_dir) / f"{name}.txt").write_text(name * 100_000)
        with open(Path(entry_script.output_dir) / f"{entry_script.agent_name}.csv", "a") as file:
            file.write(f"{name}\\n")
        time.sleep(0.05)
    return mini_batch
"""
    names = {f"{number:03d}" for number in range(ITEMS)}
    with ours.client():
        run = submitted(tmp_path, ours.address, script, output_action="summary_only")
        for killed, enough in (("worker0", 8), ("worker1", 20)):
            end = time.monotonic() + 60
            while run.summary().succeeded_mini_batches < enough and time.monotonic() < end:
                time.sleep(0.01)
            ours.workers[killed].send_signal(signal.SIGKILL)
            apart.add(ours, f"after {killed}")
        assert run.wait_for_completion(timeout_seconds=90) == "Completed", run.error
    out = run.output_dir
    assert {path.stem for path in out.glob("*.txt")} == names
    assert all((out / f"{name}.txt").read_text() == name * 100_000 for name in names)
    lines = Counter(line for path in out.glob("*.csv") for line in path.read_text().split())
    assert lines == Counter(names)
    assert {path.suffix for path in out.iterdir()} == {".txt", ".csv"}


def test_a_process_that_dies_in_shutdown_behind_what_it_has_stored_fails_the_step_run_which_keeps_the_rest(
    apart, tmp_path
):
    ours = apart(1)
    script = """
import os
from pathlib import Path
from prs_dask import EntryScript

def run(mini_batch):
    for path in mini_batch:
        (Path(EntryScript().output_dir) / f"{Path(path).name}.txt").touch()
    return mini_batch

def shutdown():
    (Path(EntryScript().output_dir) / "last.txt").touch()
    os._exit(3)
"""
    with ours.client():
        run = submitted(tmp_path, ours.address, script, output_action="summary_only")
        assert run.wait_for_completion(timeout_seconds=60, raise_on_error=False) == "Failed"
    assert "did not arrive whole (process000 of node 0)" in run.error
    assert {path.name for path in run.output_dir.iterdir()} == {f"{number:03d}.txt" for number in range(ITEMS)}

"""driver_log.txt tells with what, on what and how long the driver worked."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prs_dask.cancellation import Cancellation
from prs_dask.config import EngineOptions
from prs_dask.logs.tree import LogTree
from prs_dask.pipeline.driver_log import DriverLog
from prs_dask.redaction import salted_hash

RECORD: dict[str, Any] = {
    "run_id": "score-1a2b",
    "name": "score",
    "settings": {"run_max_try": 3, "environment_variables": {"TOKEN": salted_hash("canary", b"salt")}},
    "arguments": ["--password", salted_hash("canary", b"salt")],
}
CLUSTER = {
    "address": "tcp://10.0.0.1:8786",
    "workers": {
        "tcp://10.0.0.2:1": {"host": "10.0.0.2", "nthreads": 4, "memory_limit": 2**30},
        "tcp://10.0.0.2:2": {"host": "10.0.0.2", "nthreads": 4, "memory_limit": 2**30},
        "tcp://10.0.0.3:1": {"host": "10.0.0.3", "nthreads": 1, "memory_limit": None},
    },
}


def client(answer: Any) -> Any:
    def sync(*_: Any, **__: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return SimpleNamespace(scheduler=SimpleNamespace(identity=None), sync=sync)


def written(tmp_path: Path, *, as_json: bool = False) -> str:
    tree = LogTree(tmp_path, as_json=as_json)
    log = DriverLog(tree, time.monotonic() - 0.25)
    log.begins(RECORD, EngineOptions(), ["FileDataset('scans')"], tmp_path / "output")
    log.enter("starting workers")
    log.cluster(client(CLUSTER), Cancellation())
    log.enter("running")
    log.listed(1234)
    log.enter("closing")
    log.ends("Failed", "5 items failed")
    tree.files.close()
    return (tmp_path / "driver_log.txt").read_text()


def test_it_tells_what_a_bug_report_needs(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert "step run score-1a2b of step score" in text
    for package in ("prs_dask", "Python", "dask", "distributed", "pandas", "pyarrow", "fsspec", "psutil"):
        assert f"{package} " in text
    assert "    run_max_try: 3\n    environment_variables: {'TOKEN': '***'}\n" in text
    assert "    task_overhead_timeout: 30.0\n" in text
    assert "arguments: ['--password', '***']" in text
    assert "scheduler tcp://10.0.0.1:8786; 3 workers on 2 hosts, 9 threads, 2.0 GB of memory" in text
    assert "pbkdf2" not in text


def test_it_tells_how_long_each_stage_took(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert re.search(r"Z starting workers \(preparing took \d+ ms\)", text)
    assert "after running began: 1,234 mini-batches" in text
    assert re.search(r"stages: preparing \d+ ms, starting workers \d+ ms, running \d+ ms, closing \d+ ms", text)
    assert text.splitlines()[-1].endswith("Z Failed: 5 items failed")


def test_in_json_all_of_it_are_values(tmp_path: Path) -> None:
    told = {one["event"]: one for one in map(json.loads, written(tmp_path, as_json=True).splitlines())}
    assert told["begin"]["run_id"] == "score-1a2b"
    assert told["settings"]["settings"]["environment_variables"] == {"TOKEN": "***"}
    assert (told["cluster"]["workers"], told["cluster"]["hosts"], told["cluster"]["threads"]) == (3, 2, 9)
    assert told["listed"]["mini_batches"] == 1234
    assert told["stages"]["stages"].keys() == {"preparing", "starting workers", "running", "closing"}
    assert told["stages"]["stages"]["preparing"] >= 0.25
    assert (told["end"]["state"], told["end"]["cause"]) == ("Failed", "5 items failed")


def test_a_cluster_that_does_not_answer_is_no_matter(tmp_path: Path) -> None:
    tree = LogTree(tmp_path)
    DriverLog(tree, time.monotonic()).cluster(client(TimeoutError("slow")), Cancellation())
    assert "it does not tell what it is made of (TimeoutError: slow)" in (tmp_path / "driver_log.txt").read_text()
    tree.files.close()

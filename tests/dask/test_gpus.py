"""GPUs are handed out by the rule of the original, as the processes themselves see it. No GPU is needed for that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

FAKES = Path(__file__).parents[1] / "fakes"
NVML = os.pathsep.join([str(FAKES / "nvml"), str(FAKES.parents[1])])
"""Put first on a worker's path this has a stand-in for the driver."""

PATIENCE = 30.0

MEET = """
from prs_dask import EntryScript

SEEN = os.environ.get("CUDA_VISIBLE_DEVICES", "unset") + ":" + os.environ["AZ_BATCHAI_GPU_COUNT_FOUND"]
MET = Path({met!r})
NAME = EntryScript().agent_name
HOLDS_ON = {dies!r}


def wait_for(count):
    while len(os.listdir(MET)) < count:
        time.sleep(0.01)


def run(mini_batch):
    (MET / NAME).touch()
    wait_for({count})
    if NAME == HOLDS_ON:
        os._exit(1)
    if HOLDS_ON:
        wait_for({count} + 1)
    return [f"{{Path(path).name}} {{NAME}}:{{SEEN}}" for path in mini_batch]
"""
"""Every process says what it found while its module was imported; all of them have to come, and then one dies."""


@pytest.fixture
def seen(job: Any, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Run a job on which so many processes meet, and get what each saw: ``{"process000": "0:2"}``."""

    def run(target: Any, count: int, *, dies: str = "", **settings: Any) -> dict[str, str]:
        met = tmp_path / "met"
        met.mkdir()
        script = MEET.format(met=str(met), count=count, dies=dies)
        made = job(target, 4 * count, more=script, error_threshold=-1, **settings)
        assert made.run.wait_for_completion(timeout_seconds=60) == "Completed", made.run.error
        lines = [line.split(" ")[1] for line in made.run.output_file.read_text().splitlines()]
        assert len(lines) == 4 * count
        run.made = made
        return dict(sorted(line.split(":", 1) for line in lines))

    return run


def test_the_example_of_two_gpus_and_four_processes(seen: Any, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """process000 and process001 have one each, two have none; when process000 has ended the next one gets 0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = seen("local", 4, dies="process000", process_count_per_node=4)
    assert found == {"process001": "1:2", "process002": "unset:2", "process003": "unset:2", "process004": "0:2"}
    logs = seen.made.run.log_dir
    table = (logs / "sys/node/0/processes.csv").read_text()
    assert [f"process{number:03d},started" in table for number in range(6)] == [True] * 5 + [False]
    master = (logs / "sys/master_role.txt").read_text()
    for number, gpu in enumerate(("with GPU 0", "with GPU 1", "without a GPU", "without a GPU", "with GPU 0")):
        [line] = [line for line in master.splitlines() if f"process{number:03d} of node 0 started" in line]
        assert line.endswith(f", {gpu}")


def test_it_holds_over_the_workers_of_a_node_and_for_gpus_with_names(seen: Any, fleet: Any) -> None:
    many = fleet()
    for name in "ab":
        many.add(name, 2, CUDA_VISIBLE_DEVICES="GPU-8a5c,GPU-17")
    with many.client() as client:
        found = seen(client, 4, process_count_per_node=4, surplus_gpu_processes="hide")
    assert found == {"process000": "GPU-8a5c:2", "process001": "GPU-17:2", "process002": ":2", "process003": ":2"}


def test_as_many_processes_as_may_share_the_gpus_that_the_driver_counts(seen: Any, fleet: Any) -> None:
    many = fleet()
    many.add("a", 6, PYTHONPATH=NVML)
    with many.client() as client:
        found = seen(client, 4, processes_per_gpu=2)
    assert list(found.values()) == ["0:2", "1:2", "0:2", "1:2"]


def test_workers_that_were_given_gpus_by_hand_keep_theirs(seen: Any, fleet: Any) -> None:
    many = fleet()
    for name, gpus in (("a", "MIG-41b3"), ("b", "3,-1")):
        many.add(name, 2, CUDA_VISIBLE_DEVICES=gpus)
    with many.client() as client:
        found = seen(client, 2)
    assert sorted(value.partition(":")[0] for value in found.values()) == ["3", "MIG-41b3"]


def test_jobs_of_slurm_on_one_node_that_each_number_their_gpus_from_0_have_them_all(seen: Any, fleet: Any) -> None:
    """Each sees one GPU, and finds that it is 0; that these are two, only the driver can tell."""
    many = fleet()
    for name, first in (("a", "0"), ("b", "1")):
        one = {"FAKE_GPUS": "1", "FAKE_FIRST_GPU": first, "CUDA_VISIBLE_DEVICES": "0"}
        many.add(name, 1, PYTHONPATH=NVML, **one)
    with many.client() as client:
        found = seen(client, 2)
    assert found == {"process000": "0:2", "process001": "0:2"}
    master = (seen.made.run.log_dir / "sys/master_role.txt").read_text()
    assert all(master.count(f", with GPU 0 (GPU-fake-000{number})") == 1 for number in (0, 1))


def test_a_gpu_that_two_workers_call_differently_has_one_process(seen: Any, fleet: Any) -> None:
    many = fleet()
    for name, gpu in (("a", "0"), ("b", "GPU-fake-0000")):
        many.add(name, 1, PYTHONPATH=NVML, CUDA_VISIBLE_DEVICES=gpu)
    with many.client() as client:
        found = seen(client, 2, process_count_per_node=2, surplus_gpu_processes="hide")
    assert sorted(found) == ["process000", "process001"]
    assert sorted(found.values()) in (["0:1", ":1"], [":1", "GPU-fake-0000:1"])


def test_what_a_step_names_beyond_what_a_node_has_is_not_handed_out(seen: Any, fleet: Any) -> None:
    many = fleet()
    many.add("a", 4, PYTHONPATH=NVML)
    with many.client() as client:
        found = seen(client, 2, environment_variables={"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert found == {"process000": "0:2", "process001": "1:2"}
    master = (seen.made.run.log_dir / "sys/master_role.txt").read_text()
    assert "CUDA_VISIBLE_DEVICES names GPU 2, but the driver tells of 2" in master


def test_a_step_may_name_its_gpus_itself(seen: Any, no_leaks: None) -> None:
    found = seen("local", 3, environment_variables={"CUDA_VISIBLE_DEVICES": "4,5,6"})
    assert found == {"process000": "4:3", "process001": "5:3", "process002": "6:3"}


def test_a_gpu_whose_process_outlives_its_worker_goes_to_the_next_one_only_when_that_is_gone(
    job: Any, fleet: Any, tmp_path: Path
) -> None:
    """Its reaper is stopped, so nobody kills it when its worker is killed. The process of the other worker goes on."""
    many = fleet()
    for name in "abc":
        many.add(name, 1, CUDA_VISIBLE_DEVICES="0,1")
    script = """
SEEN = os.environ["CUDA_VISIBLE_DEVICES"]
def run(mini_batch):
    time.sleep(0.02)
    return [f"{Path(path).name} {os.environ['WHERE']} {os.getpid()} {SEEN}" for path in mini_batch]
"""
    with many.client() as client:
        made = job(client, 400, more=script, run_max_try=5)
        made.until(10)
        [idle] = [name for name in "abc" if not many.processes(name)]
        busy = sorted({*"abc"} - {idle})
        gpus = {name: _variable(many.processes(name)[0], "CUDA_VISIBLE_DEVICES") for name in busy}
        assert sorted(gpus.values()) == ["0", "1"]
        killed = busy[0]
        [outlives] = many.processes(killed)
        reaper = outlives.parent()
        assert reaper is not None
        reaper.suspend()
        many.workers[killed].send_signal(signal.SIGKILL)
        done = made.run.summary().succeeded_mini_batches
        made.until(done + 60)
        assert outlives.is_running()
        assert many.processes(idle) == [], "it has to wait"
        reaper.resume()
        end = time.monotonic() + PATIENCE
        while not many.processes(idle) and time.monotonic() < end:
            time.sleep(0.01)
        assert not psutil.pid_exists(outlives.pid)
        assert made.run.wait_for_completion(timeout_seconds=60) == "Completed"
    lines = [line.split(" ") for line in made.run.output_file.read_text().splitlines()]
    assert len({line[0] for line in lines}) == len(lines) == 400
    assert {(line[1], line[3]) for line in lines} == {*gpus.items(), (idle, gpus[killed])}
    master = (made.run.log_dir / "sys/master_role.txt").read_text()
    assert master.count("waits for a GPU that one which was killed still holds") == 1


def test_a_worker_that_was_silent_does_not_keep_the_gpu_of_its_idle_process(job: Any, fleet: Any) -> None:
    """What is left waits for its retry meanwhile; then the other worker gets it, and the GPU."""
    many = fleet()
    for name in "ab":
        many.add(name, 1, CUDA_VISIBLE_DEVICES="0")
    script = """
FAILED = Path(__file__).with_name("failed")
def run(mini_batch):
    if mini_batch[0].endswith("00000") and not FAILED.exists():
        FAILED.touch()
        raise ValueError("not yet")
    return [f"{Path(path).name} {os.environ['WHERE']} {os.getpid()} 0" for path in mini_batch]
"""
    with many.client() as client:
        made = job(client, 4, more=script, retry_backoff=20, error_threshold=-1)
        made.until(3)
        [silent] = [name for name in "ab" if many.processes(name)]
        many.workers[silent].send_signal(signal.SIGSTOP)
        master = made.run.log_dir / "sys/master_role.txt"
        end = time.monotonic() + PATIENCE
        while "has been silent for too long" not in master.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)
        many.workers[silent].send_signal(signal.SIGCONT)
        assert made.run.wait_for_completion(timeout_seconds=45) == "Completed", made.run.error
    assert {row.name: row.where == silent for row in made.rows()} == {
        "00000": False,
        **dict.fromkeys(made.names[1:], True),
    }


def _variable(process: psutil.Process, name: str) -> str:
    return process.environ()[name]

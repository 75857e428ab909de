"""What is tried again, when, and where."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import pytest

STAMPED = """
import os, time

def run(mini_batch):
    with open(os.path.join(FOLDER, os.path.basename(mini_batch[0])), "a") as file:
        file.write(f"{time.time()} {os.getpid()}\\n")
    raise ValueError("always")
"""


BOTH_READY = """
import os, time

def init():
    ready = os.path.join(os.path.dirname(FOLDER), "ready")
    os.makedirs(ready, exist_ok=True)
    open(os.path.join(ready, str(os.getpid())), "w").close()
    until = time.monotonic() + 20
    while len(os.listdir(ready)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
"""
"""No process begins before there is a second one."""


def attempts(folder) -> dict[str, list[tuple[float, int]]]:
    """(time, pid) of each attempt, by mini-batch."""
    found = defaultdict(list)
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            when, pid = line.split()
            found[path.name].append((float(when), int(pid)))
    return found


@pytest.fixture
def stamps(tmp_path):
    folder = tmp_path / "stamps"
    folder.mkdir()
    return folder


def waits(tries: list[tuple[float, int]]) -> list[float]:
    times = [when for when, _ in tries]
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_backoff_is_waited_for_between_the_attempts_of_a_mini_batch_and_holds_up_no_other(job, stamps):
    script = f"FOLDER = {str(stamps)!r}\n{STAMPED}"
    done = job(script, 3, run_max_try=4, retry_backoff=(0.4, 2, 1.0))
    assert done.tries() == dict.fromkeys(range(3), 4)
    found = attempts(stamps)
    for tries in found.values():
        for waited, least in zip(waits(tries), (0.4, 0.8, 1.0), strict=True):
            assert least <= waited < least + 1.5
    firsts = [tries[0][0] for tries in found.values()]
    assert max(firsts) < min(tries[1][0] for tries in found.values()), "the first attempts come before any second"


def test_a_number_is_the_same_wait_every_time(job, stamps):
    job(f"FOLDER = {str(stamps)!r}\n{STAMPED}", 1, run_max_try=3, retry_backoff=0.5)
    assert all(0.5 <= waited < 2 for waited in waits(attempts(stamps)["0000"]))


def test_without_a_backoff_the_next_attempt_follows_at_once_in_another_process(job, stamps):
    job(f"FOLDER = {str(stamps)!r}\n{BOTH_READY}\n{STAMPED}", 8, run_max_try=2)
    found = attempts(stamps).values()
    elsewhere = [waits(tries)[0] for tries in found if len({pid for _, pid in tries}) == 2]
    # On a machine that has other things to do one may wait for its second process in vain, a second at most.
    assert len(elsewhere) >= 6
    assert min(elsewhere) < 0.5


def test_with_one_process_only_the_attempts_are_made_there(job, stamps):
    script = f"FOLDER = {str(stamps)!r}\n{STAMPED}"
    job(script, 3, run_max_try=3, compute_target="local", process_count_per_node=1)
    found = attempts(stamps)
    assert {len(tries) for tries in found.values()} == {3}
    assert len({pid for tries in found.values() for _, pid in tries}) == 1


RAISING = """
import os
import json.decoder
from concurrent.futures import BrokenExecutor

class Busy(ConnectionError):
    pass

class Outer:
    class Inner(Exception):
        pass

KINDS = {
    0: lambda: ValueError("plain"),
    1: lambda: Busy("of the script's own, derived from ConnectionError"),
    2: lambda: ConnectionResetError("derived from ConnectionError, which is derived from OSError"),
    3: lambda: json.decoder.JSONDecodeError("derived from ValueError", "", 0),
    4: lambda: Outer.Inner("nested"),
    5: lambda: BrokenExecutor("of another module"),
}

def run(mini_batch):
    raise KINDS[int(os.path.basename(mini_batch[0]))]()
"""
"""Exceptions by the number of the item."""


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["ValueError"], {0, 3}),
        (["builtins.ConnectionError", "Inner"], {1, 2, 4}),
        (["script.Busy", "json.decoder.JSONDecodeError"], {1, 3}),
        (["json.JSONDecodeError", "valueerror"], set()),
        (["Outer.Inner", "concurrent.futures._base.BrokenExecutor"], {4, 5}),
    ],
    ids=lambda value: ",".join(map(str, value)) or "none",
)
def test_names_stand_for_exceptions_and_those_derived_from_them(job, names, chosen):
    done = job(RAISING, 6, run_max_try=2, retry_on=names)
    assert done.tries() == {number: 2 if number in chosen else 1 for number in range(6)}


def test_those_that_are_not_worth_another_attempt_have_one_and_time_limits_too_where_they_are_named(job):
    script = (
        RAISING
        + """
import time
KINDS[6] = lambda: time.sleep(60)
"""
    )
    settings = {"run_max_try": 2, "run_invocation_timeout": 1}
    done = job(script, 7, no_retry_on=["OSError", "TimeLimit"], retry_on=["Exception"], **settings)
    assert done.tries() == {number: 1 if number in (1, 2, 6) else 2 for number in range(7)}


def test_from_yaml_and_from_the_command_line(command, tmp_path):
    command.script(RAISING)
    command.items(6)
    yaml = command.folder / "step.yml"
    yaml.write_text(
        "name: retried\nentry_script: script.py\ninputs: items\noutput: out 1\noutput_action: append_row\n"
        "error_threshold: -1\nmini_batch_size: 1\nrun_max_try: 2\nretry_on: [Busy]\nretry_backoff: [0.1, 2, 1]\n"
    )
    flags = [
        "--entry-script",
        "script.py",
        "--input",
        "items",
        "--output",
        "out 2",
        "--output-action",
        "append_row",
        "--error-threshold",
        "-1",
    ]
    flags += ["--mini-batch-size", "1", "--run-max-try", "2", "--retry-on", "Busy", "--retry-backoff", "0.1,2,1"]
    for number, arguments in enumerate((["step.yml"], flags)):
        _, _, err = command("run", *arguments, "--run-folder", f"run {number}")
        table = command.folder / f"run {number}/logs/sys/job_report/processed_mini-batches.csv"
        assert table.exists(), err
        tries = Counter(line.split(",")[0] for line in table.read_text().splitlines()[1:])
        assert tries == {str(number): 2 if number == 1 else 1 for number in range(6)}

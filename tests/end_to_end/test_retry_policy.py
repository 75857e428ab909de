"""What is tried again, when, and where."""

from __future__ import annotations

from collections import defaultdict

import pytest

STAMPED = """
import os, time

def run(mini_batch):
    with open(os.path.join(FOLDER, os.path.basename(mini_batch[0])), "a") as file:
        file.write(f"{time.time()} {os.getpid()}\\n")
    raise ValueError("always")
"""


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
    return [later - earlier for earlier, later in zip(times, times[1:], strict=False)]


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
    script = f"FOLDER = {str(stamps)!r}\n{STAMPED}"
    job(script, 6, run_max_try=2)
    for tries in attempts(stamps).values():
        assert waits(tries)[0] < 1.5
        assert len({pid for _, pid in tries}) == 2, "another process, as there are two"


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
        (["builtins.ValueError"], {0, 3}),
        (["ConnectionError"], {1, 2}),
        (["OSError"], {1, 2}),
        (["Busy"], {1}),
        (["script.Busy"], {1}),
        (["JSONDecodeError"], {3}),
        (["json.decoder.JSONDecodeError"], {3}),
        (["json.JSONDecodeError"], set()),
        (["Inner"], {4}),
        (["Outer.Inner"], {4}),
        (["script.Outer.Inner"], {4}),
        (["concurrent.futures._base.BrokenExecutor", "Busy"], {1, 5}),
        (["Exception"], {0, 1, 2, 3, 4, 5}),
        (["valueerror"], set()),
    ],
    ids=lambda value: ",".join(map(str, value)) or "none",
)
def test_names_stand_for_exceptions_and_those_derived_from_them(job, names, chosen):
    """Both settings at once, in two halves of one job each."""
    done = job(RAISING, 6, run_max_try=2, retry_on=names)
    assert done.tries() == {number: 2 if number in chosen else 1 for number in range(6)}

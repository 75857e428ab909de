"""on_failed_mini_batch="bisect": of a mini-batch that fails only its bad items do, whatever they fail by."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

BAD = (3, 17, 18)

POISON = """
import os, signal, time

BAD = (3, 17, 18)

def fails(how):
    if how == "exception":
        raise ValueError("poison")
    if how == "time limit":
        time.sleep(60)
    if how == "process died":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "out of memory":
        hold = bytearray(1 << 30)
        for page in range(0, len(hold), 4096):
            hold[page] = 1
        time.sleep(60)

def run(mini_batch):
    names = [int(os.path.basename(path)) for path in mini_batch]
    if set(names) & set(BAD):
        if HOW == "bad return":
            return None
        fails(HOW)
    return names
"""


def poison(how: str) -> str:
    return f"HOW = {how!r}\n{POISON}"


def failed_items(done):
    lines = done.log("user/failed_items.jsonl").splitlines()
    return [json.loads(line) for line in lines]


def check_parts(done, sizes: dict[int, int]) -> None:
    """The table, with parts: every item of every mini-batch ends once, and the counts are those of the summary."""
    ended, states = defaultdict(list), {}
    for row in done.attempts:
        whole, _, items = row["Mini-batch Id"].partition("[")
        number = int(whole)
        start, stop = map(int, items.rstrip("]").split(":")) if items else (0, sizes[number])
        if row["Status"] == "Failed attempt":
            continue
        ended[number] += range(start, stop)
        states[number] = "Failed" if "Failed" in (row["Status"], states.get(number)) else "Succeeded"
        assert int(row["Total"]) == stop - start
    assert {number: sorted(items) for number, items in ended.items()} == {n: list(range(k)) for n, k in sizes.items()}
    summary, counts = done.run.summary(), Counter(states.values())
    assert (summary.succeeded_mini_batches, summary.failed_mini_batches) == (counts["Succeeded"], counts["Failed"])
    assert summary.items == sum(sizes.values())
    assert summary.attempts == len(done.attempts)


LIMITS = {"time limit": {"run_invocation_timeout": 1}, "out of memory": {"memory_limit_per_process": "300MB"}}


@pytest.mark.parametrize("how", ["exception", "bad return", "time limit", "process died", "out of memory"])
def test_only_the_bad_files_fail_whatever_they_fail_by(job, how):
    done = job(
        poison(how), 40, mini_batch_size=10, on_failed_mini_batch="bisect", run_max_try=1,
        **LIMITS.get(how, {}),
    )  # fmt: skip
    assert done.state == "Completed"
    assert done.items == [item for item in range(40) if item not in BAD]
    assert set(done.categories()) == {how}
    check_parts(done, dict.fromkeys(range(4), 10))
    summary = done.run.summary()
    assert (summary.failed_mini_batches, summary.failed_items, summary.succeeded_items) == (2, 3, 37)
    items = failed_items(done)
    assert {(item["mini_batch"], item["part"], item["item"][-4:]) for item in items} == {
        (0, "0[3:4]", "0003"),
        (1, "1[7:8]", "0017"),
        (1, "1[8:9]", "0018"),
    }
    assert {(failure.id, str(failure.part), failure.items) for failure in done.run.failed_items()} == {
        (0, "0[3:4]", 1),
        (1, "1[7:8]", 1),
        (1, "1[8:9]", 1),
    }

"""Logs of workers that die: what was written is there, once and in order."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NOTING = """
_run, TRACE = run, {trace!r}

def run(mini_batch):
    name = Path(mini_batch[0]).name
    print(f"begun {{name}}", flush=True)
    with open(TRACE, "a") as file:
        file.write(name + "\\n")
    return _run(mini_batch)
"""


@pytest.mark.parametrize("workers", [1, 2], ids=["and its node with it, for a while", "and another is on its node"])
def test_what_was_printed_before_a_worker_was_killed_is_in_the_logs_once(fleet, job, tmp_path, workers):
    trace = tmp_path / "trace"
    ours = fleet(**{f"worker{number}": 1 for number in range(workers)})
    with ours.client():
        submitted = job(ours.address, 300, pause=0.03, more=NOTING.format(trace=str(trace)))
        for number in range(2):
            submitted.until(60 * (number + 1))
            ours.workers[f"worker{number}"].send_signal(signal.SIGKILL)
            ours.add(f"worker{number + workers}")
        submitted.wait()
    printed = Counter(
        line.removeprefix("begun ")
        for path in Path(submitted.run.log_dir, "user/stdout").rglob("*.stdout.txt")
        for line in path.read_text().splitlines()
    )
    noted = Counter(trace.read_text().split())
    assert noted.total() > 300, "no worker was killed in the middle of a mini-batch"
    assert not noted - printed, "what was printed is missing"
    assert (printed - noted).total() <= 2, "doubled, but for what was killed between the two"

"""Second attempts: a mini-batch that hangs in one process ends in another, and of the two one counts."""

from __future__ import annotations

import time

import pytest

HANGS_ONCE = """
import os, time

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number == 7:
        try:
            os.close(os.open({mark!r}, os.O_CREAT | os.O_EXCL))
            print("hangs", flush=True)
            time.sleep({seconds})
            print("has hung", flush=True)
        except FileExistsError:
            {second}
    time.sleep(0.01)
    return [number]
"""


@pytest.fixture
def hangs_once(tmp_path):
    """The script, of which one process hangs for so long; ``second``: what another does with that mini-batch first."""

    def script(seconds: float, second: str = "pass") -> str:
        return HANGS_ONCE.format(mark=str(tmp_path / "mark"), seconds=seconds, second=second)

    return script


@pytest.mark.parametrize("tries", [1, 3])
def test_a_mini_batch_that_hangs_in_one_process_ends_in_another(job, hangs_once, tries):
    begun = time.monotonic()
    done = job(hangs_once(60), 60, run_max_try=tries, speculative_attempts=True)
    assert time.monotonic() - begun < 30
    assert (done.state, done.items) == ("Completed", list(range(60)))
    seventh = [row for row in done.attempts if row["Mini-batch Id"] == "7"]
    assert [(row["Status"], row["Error Category"]) for row in seventh] == [
        ("Overtaken", "overtaken"),
        ("Succeeded", ""),
    ]
    lost, won = seventh
    assert lost["Process"] != won["Process"]
    assert won["Process"] in lost["Error Message"]
    assert [row[name] for row in seventh for name in ("Total", "Succeeded", "Failed")] == ["0", "0", "0", "1", "1", "0"]
    done.check_counts()
    done.check_lives()
    assert done.run.summary().attempts == 61
    assert list(done.run.failed_items()) == []
    assert not (done.run.log_dir / "user/error.txt").exists()
    node, _, process = lost["Process"].partition("/")
    assert "another attempt of mini-batch 7 was faster" in done.lives()[lost["Process"]][-1]["Why"]
    assert done.log(f"user/stdout/{node}/{process}.stdout.txt") == "hangs\n"
    told = done.log("sys/master_role.txt")
    assert "mini-batch 7 is started a second time, on worker" in told
    assert f"mini-batch 7 has succeeded elsewhere: attempt 1 on {lost['Process']}, overtaken" in told

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


def test_without_it_takes_as_long_as_the_time_limit(job, hangs_once):
    done = job(hangs_once(60), 60, run_invocation_timeout=3)
    assert (done.state, done.items) == ("Completed", list(range(60)))
    seventh = [row["Status"] for row in done.attempts if row["Mini-batch Id"] == "7"]
    assert seventh == ["Failed attempt", "Succeeded"]
    assert done.categories() == {"time limit": 1}


def test_a_second_attempt_that_fails_is_not_charged_while_the_first_goes_on(job, hangs_once):
    done = job(hangs_once(5, "raise ValueError('twice')"), 60, run_max_try=1, speculative_attempts=True)
    assert (done.state, done.items) == ("Completed", list(range(60)))
    seventh = [(row["Status"], row["Error Category"]) for row in done.attempts if row["Mini-batch Id"] == "7"]
    assert seventh == [("Failed attempt", "exception"), ("Succeeded", "")]
    assert done.run.summary().failed_mini_batches == 0
    done.check_counts()


def test_two_attempts_that_fail_are_one_try(job, hangs_once):
    settings = {"run_max_try": 1, "error_threshold": 1, "run_invocation_timeout": 4}
    done = job(hangs_once(60, "raise ValueError('twice')"), 60, speculative_attempts=True, **settings)
    assert (done.state, done.items) == ("Completed", [number for number in range(60) if number != 7])
    seventh = [(row["Status"], row["Error Category"]) for row in done.attempts if row["Mini-batch Id"] == "7"]
    assert seventh == [("Failed attempt", "exception"), ("Failed", "time limit")]
    [failed] = done.run.failed_items()
    assert (failed.id, failed.attempts, failed.category) == (7, 1, "time limit")
    done.check_counts()


SLOW_TEXT = """
import os, time

class Slow:
    def __str__(self):
        time.sleep(60)

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    rows = [f"{{number}} {{row}} {{'x' * 1000}}" for row in range(4000 if number == 7 else 1)]
    if number == 7:
        try:
            os.close(os.open({mark!r}, os.O_CREAT | os.O_EXCL))
            rows[3900] = Slow()
        except FileExistsError:
            pass
    time.sleep(0.01)
    return rows
"""


def test_rows_that_the_slower_one_has_sent_in_pieces_are_dropped(job, tmp_path):
    done = job(SLOW_TEXT.format(mark=str(tmp_path / "mark")), 60, speculative_attempts=True)
    assert done.state == "Completed"
    told = [tuple(map(int, row.split()[:2])) for row in done.rows]
    assert [row for number, row in told if number == 7] == list(range(4000))
    assert sorted({number for number, _ in told}) == list(range(60))
    assert len(told) == 4059
    assert [row["Status"] for row in done.attempts if row["Mini-batch Id"] == "7"] == ["Overtaken", "Succeeded"]
    assert not list(done.run.run_folder.rglob("*.rows"))


STORES = """
import os, time
from prs_dask import EntryScript

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    if number == 7 or {every}:
        with open(os.path.join(EntryScript().output_dir, f"item-{{number}}"), "w") as file:
            file.write("a")
            file.flush()
            if number == 7:
                try:
                    os.close(os.open({mark!r}, os.O_CREAT | os.O_EXCL))
                    time.sleep(60)
                except FileExistsError:
                    pass
            file.write("b")
    time.sleep(0.01)
    return [number]
"""


def test_files_of_the_slower_one_stay_out(job, tmp_path):
    done = job(STORES.format(every=False, mark=str(tmp_path / "mark")), 60, speculative_attempts=True)
    assert (done.state, done.items) == ("Completed", list(range(60)))
    assert [row["Status"] for row in done.attempts if row["Mini-batch Id"] == "7"] == ["Overtaken", "Succeeded"]
    assert {path.name: path.read_text() for path in done.run.output_dir.glob("item-*")} == {"item-7": "ab"}


def test_a_script_whose_attempts_store_files_gets_no_second_attempts(job, tmp_path):
    script = STORES.format(every=True, mark=str(tmp_path / "mark"))
    done = job(script, 60, speculative_attempts=True, run_invocation_timeout=4)
    assert (done.state, done.items) == ("Completed", list(range(60)))
    assert [row["Status"] for row in done.attempts if row["Mini-batch Id"] == "7"] == ["Failed attempt", "Succeeded"]
    assert {path.read_text() for path in done.run.output_dir.glob("item-*")} == {"ab"}

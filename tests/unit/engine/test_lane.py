"""A lane with a real worker process and a scheduler whose answers the test writes."""

import itertools
import os
import re
import textwrap
import threading
import time
from concurrent.futures import Future

import psutil
import pytest

from prs_dask.attempts.gpus import Slot
from prs_dask.attempts.records import Category, unpack
from prs_dask.engine.gpu_locks import GpuLocks
from prs_dask.worker_process.family import ProcessFamily
from prs_dask.worker_process.output_files import FIRST, unpack_file_piece


def test_mini_batches_of_a_chunk_are_reported_once_and_in_order(bench, unhurried):
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "a", "b", "c"), workbench.grant(2, "d", first=3))
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == [0, 1, 2, 3]
    assert supervisor.rows == ["a", "b", "c", "d"]
    # A lane that asks ahead may report a chunk in two parts.
    assert list(dict.fromkeys(report["token"] for report in supervisor.reports)) == [1, 2]


def test_a_call_that_is_answered_after_the_end_of_its_chunk_does_not_hold_the_lane(bench, patient):
    """The flush of the first outcome is under way when the second outcome, the chunk's last, comes."""
    workbench = bench()
    late: Future[dict] = Future()
    claims = iter([workbench.grant(1, "a", "sleep_0.2")])

    def answer(call):
        if call["claim"] and not call["keep"]:
            return next(claims, {"stop": True})
        threading.Timer(0.6, late.set_result, [{}]).start()
        return late

    workbench.supervisor.answer = answer
    thread = workbench.work()
    thread.join(20)
    assert not thread.is_alive()
    assert late.done()
    assert [record.mini_batch for record in workbench.supervisor.records] == [0, 1]


def test_a_grant_that_became_void_leaves_nothing_of_it_behind(bench, patient):
    """The answer that says so brings the next chunk too: it goes back, and none of both is run."""
    workbench = bench()
    workbench.work_to_the_end(
        workbench.grant(1, "a"),
        {**workbench.grant(2, "b", "c", first=1), "void": "given up"},
        workbench.grant(3, "b", "c", first=1),
    )
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == [0, 1, 2]
    back = {report["token"]: [] for report in supervisor.reports}
    for report in supervisor.reports:
        back[report["token"]] += report.get("back", [])
    assert back == {1: [], 2: [1, 2], 3: []}


def test_the_next_chunk_is_asked_for_while_the_last_ones_run(bench, unhurried):
    """What the process has been given already goes on under the new token; nothing is run twice or lost."""
    workbench = bench()
    first, second = ["sleep_0.001"] * 20, ["sleep_0.001"] * 10
    asked = []

    def answer(call):
        if not call["claim"]:
            return {}
        if call["keep"]:
            asked.append(call)
            return workbench.grant(2, *second, first=20) if len(asked) == 1 else {}
        return {"stop": True} if asked else workbench.grant(1, *first)

    workbench.supervisor.answer = answer
    workbench.work().join(20)
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == list(range(30))
    assert supervisor.back == []
    kept, reported = set(asked[0]["keep"]), [number for number in range(20) if number not in asked[0]["keep"]]
    assert kept
    by_token = {token: [] for token in (1, 2)}
    for report in supervisor.reports:
        by_token[report["token"]] += [record.mini_batch for record in unpack(report["records"])]
    assert by_token == {1: reported, 2: [*sorted(kept), *range(20, 30)]}


def test_a_process_that_dies_while_the_lane_asks_ahead_gives_the_new_chunk_back(bench, unhurried):
    workbench = bench()
    late = Future()
    asked = []

    def answer(call):
        if not call["claim"]:
            return {}
        if call["keep"]:
            asked.append(call["keep"])
            threading.Timer(0.5, late.set_result, [workbench.grant(2, "x", "y", first=20)]).start()
            return late
        return {"stop": True} if asked else workbench.grant(1, *["sleep_0.001"] * 19, "segfault")

    workbench.supervisor.answer = answer
    workbench.work().join(20)
    supervisor = workbench.supervisor
    assert asked
    assert sorted(supervisor.back)[-2:] == [20, 21]
    died = {record.mini_batch: record.category for record in supervisor.records}
    assert died.pop(19) == Category.PROCESS_DIED
    assert sorted([*died, *[number for number in supervisor.back if number < 20]]) == list(range(19))
    by_token = {number: report["token"] for report in supervisor.reports for number, _ in report.get("errors", ())}
    assert by_token == {19: 2}


def test_only_what_a_dead_process_was_running_is_charged(bench):
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "a", "segfault", "b", "c"))
    supervisor = workbench.supervisor
    outcomes = {record.mini_batch: record.category for record in supervisor.records}
    assert outcomes.pop(1) == Category.PROCESS_DIED
    assert all(category == Category.SUCCEEDED for category in outcomes.values())
    assert sorted([*outcomes, *supervisor.back]) == [0, 2, 3]
    assert "SIGSEGV" in supervisor.errors()[1].message
    assert ("ended", 0, "") in supervisor.told


def test_a_suspect_is_told_to_have_begun_before_its_process_gets_it(bench):
    workbench = bench()
    supervisor = workbench.supervisor
    told_at_claim: list[list[tuple[int, int]]] = []
    answers = iter([workbench.grant(1, "a"), workbench.grant(2, "b", first=1, careful=True)])

    def answer(call):
        told_at_claim.append(list(supervisor.begun))
        return next(answers, {"stop": True}) if call["claim"] and not call["keep"] else {}

    supervisor.answer = answer
    workbench.work().join(20)
    assert supervisor.rows == ["a", "b"]
    assert told_at_claim[0] == told_at_claim[1] == []
    assert supervisor.begun == [(0, 1)]


def test_what_is_under_way_is_known_while_it_is(bench):
    workbench = bench()
    assert workbench.lane.under_way is None
    thread = threading.Thread(
        target=workbench.work_to_the_end, args=(workbench.grant(1, "a", "sleep_1", first=4),), daemon=True
    )
    thread.start()
    seen = set()
    while thread.is_alive():
        seen.add(workbench.lane.under_way)
        time.sleep(0.02)
    assert 5 in seen
    assert seen <= {None, 4, 5}
    workbench.lane.close()
    assert workbench.lane.under_way is None


def test_a_time_limit_is_charged_with_the_stack_and_the_rest_goes_back(bench):
    workbench = bench(run_seconds=0.5)
    workbench.work_to_the_end(workbench.grant(1, "a", "sleep_60", "b"))
    supervisor = workbench.supervisor
    records = {record.mini_batch: record for record in supervisor.records}
    assert records[1].category == Category.TIME_LIMIT
    assert 0.5 <= records[1].elapsed < 1.5
    error = supervisor.errors()[1]
    assert "run_invocation_timeout=0.5 s" in error.message
    assert "in run" in error.traceback
    assert sorted([*records, *supervisor.back]) == [0, 1, 2]


def test_a_stopped_process_is_killed_at_its_limit(bench):
    workbench = bench(run_seconds=0.5)
    workbench.work_to_the_end(workbench.grant(1, "stop"))
    assert [record.category for record in workbench.supervisor.records] == [Category.TIME_LIMIT]


def test_what_a_slow_chunk_has_not_begun_goes_back_when_its_box_is_over(bench):
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "sleep_0.8", "b", "c", box=0.2))
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == [0]
    assert sorted(supervisor.back) == [1, 2]


def test_nothing_is_both_reported_and_given_back(bench):
    names = ["sleep_0.01"] * 200
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, *names, box=0.5))
    supervisor = workbench.supervisor
    reported = [record.mini_batch for record in supervisor.records]
    assert sorted([*reported, *supervisor.back]) == list(range(200))
    assert supervisor.back


def test_a_failed_init_is_told_and_another_process_is_tried(bench, tmp_path):
    flag = tmp_path / "flag"
    script = f"""
        from pathlib import Path

        def init():
            if not Path({str(flag)!r}).exists():
                Path({str(flag)!r}).touch()
                raise RuntimeError("no model")

        def run(mini_batch):
            return mini_batch
        """
    workbench = bench(script)
    workbench.work_to_the_end(workbench.grant(1, "a"))
    supervisor = workbench.supervisor
    assert [(event, process) for event, process, _ in supervisor.told] == [("failed", 0), ("ready", 1)]
    assert "no model" in supervisor.told[0][2]
    assert [error.message for error in supervisor.load_errors] == ["no model"]
    assert supervisor.rows == ["a"]


def test_an_init_that_hangs_is_killed_at_its_limit(bench, tmp_path):
    script = """
        import time

        def init():
            time.sleep(60)

        def run(mini_batch):
            return mini_batch
        """
    workbench = bench(script, init_seconds=3.0)  # the import is within it
    thread = workbench.work()
    end = time.monotonic() + 20
    while not workbench.supervisor.load_errors and time.monotonic() < end:
        time.sleep(0.02)
    workbench.supervisor.stopping = "kill"
    thread.join(10)
    assert not thread.is_alive()
    assert "init() took longer than 3 s" in workbench.supervisor.load_errors[0].message


def test_a_kill_ends_the_lane_within_a_second_although_the_process_hangs(bench):
    workbench = bench()
    workbench.supervisor.answer = lambda call: workbench.grant(1, "sleep_60")
    thread = workbench.work()
    end = time.monotonic() + 10
    while not workbench.supervisor.told and time.monotonic() < end:
        time.sleep(0.01)
    workbench.supervisor.stopping = "kill"
    thread.join(2)
    assert not thread.is_alive()


def test_rows_of_many_pieces_are_reported_with_their_length(bench, unhurried):
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "big_5000000", "b"))
    supervisor = workbench.supervisor
    pieces = b"".join(data for report in supervisor.reports for _, data in report.get("pieces", ()))
    pieced = dict(pair for report in supervisor.reports for pair in report.get("pieced", ()))
    record = next(record for record in supervisor.records if record.mini_batch == 0)
    assert record.length == 5_000_001
    assert pieced == {0: len(pieces)}
    assert len(pieces) + len(b"".join(report["rows"] for report in supervisor.reports)) == 5_000_001 + 2


def test_an_answer_that_takes_long_does_not_stop_the_clock_of_run(bench):
    """A flush is never answered while run() hangs: the limit holds all the same."""
    workbench = bench(run_seconds=0.5)
    never: Future[dict] = Future()
    claims = iter([workbench.grant(1, "a", "sleep_60")])
    workbench.supervisor.answer = lambda call: next(claims, {"stop": True}) if call["claim"] else never
    thread = workbench.work()
    end = time.monotonic() + 10
    while ("ended", 0, "") not in workbench.supervisor.told and time.monotonic() < end:
        time.sleep(0.02)
    never.set_result({})
    thread.join(10)
    assert not thread.is_alive()
    records = {record.mini_batch: record for record in workbench.supervisor.records}
    assert records[1].category == Category.TIME_LIMIT
    assert records[1].elapsed < 2


READY_AND_GONE = """
    import os, threading, time

    def init():
        threading.Timer(0.05, {how}).start()

    def run(mini_batch):
        return mini_batch
    """


@pytest.mark.parametrize(
    ("how", "words", "from_outside"),
    [
        ("os._exit, [3]", "left with exit code 3 before it ended its first mini-batch", False),
        ("os.kill, [os.getpid(), 15]", "was killed by SIGTERM before it ended its first mini-batch", True),
    ],
)
def test_a_process_that_dies_between_init_and_its_first_mini_batch_has_failed(bench, how, words, from_outside):
    workbench = bench(READY_AND_GONE.format(how=how))
    late: Future[dict] = Future()
    claims = iter([late])
    workbench.supervisor.answer = lambda _: next(claims, {"stop": True})
    thread = workbench.work()
    threading.Timer(1.0, late.set_result, [{"stop": True}]).start()
    thread.join(20)
    supervisor = workbench.supervisor
    [(failed, how)] = [
        (told, how) for told, how in zip(supervisor.told, supervisor.how, strict=True) if "failed" in told
    ]
    assert failed[1] == 0
    assert words in failed[2]
    assert how == {"from_outside": from_outside, "was_ready": True}
    assert words in supervisor.load_errors[0].message


@pytest.mark.parametrize(
    ("what", "words", "from_outside"),
    [
        ("os.kill(os.getpid(), 9)", "the process was killed by SIGKILL from outside during init()", True),
        ("os.kill(os.getpid(), 11)", "the process was killed by SIGSEGV during init()", False),
        ("os._exit(4)", "the process left with exit code 4 during init()", False),
        ("hog()", "the process used", False),
    ],
)
def test_how_a_process_ended_in_init_is_told(bench, what, words, from_outside):
    script = f"""
        import os, time

        def hog():
            kept = []
            while True:
                kept.append(b"x" * (8 << 20))

        def init():
            {what}

        def run(mini_batch):
            return mini_batch
        """
    workbench = bench(script)
    supervisor = workbench.supervisor
    supervisor.memory_limit = 200 << 20
    thread = workbench.work()
    end = time.monotonic() + 20
    while not supervisor.told and time.monotonic() < end:
        time.sleep(0.02)
    supervisor.stopping = "kill"
    thread.join(20)
    assert words in supervisor.told[0][2]
    assert supervisor.how[0] == {"too_long": False, "from_outside": from_outside}


def test_a_failure_is_told_with_the_end_of_its_trace(bench):
    script = """
        def deep(n):
            if n == 0:
                raise RuntimeError("at the bottom")
            deep(n - 1)

        def init():
            deep(3)

        def run(mini_batch):
            return mini_batch
        """
    workbench = bench(script)
    thread = workbench.work()
    end = time.monotonic() + 20
    while not workbench.supervisor.told and time.monotonic() < end:
        time.sleep(0.02)
    workbench.supervisor.stopping = "kill"
    thread.join(20)
    first, *trace = workbench.supervisor.told[0][2].splitlines()
    assert first.startswith("RuntimeError: at the bottom (score.py:")
    assert "in deep" in "".join(trace)


def test_too_much_memory_is_charged_with_size_and_limit(bench):
    script = """
        def run(mini_batch):
            kept = []
            while mini_batch[0] == "hog":
                kept.append(b"x" * (8 << 20))
            return mini_batch
        """
    workbench = bench(script)
    workbench.supervisor.memory_limit = 200 << 20
    workbench.work_to_the_end(workbench.grant(1, "a", "hog", "b"))
    supervisor = workbench.supervisor
    assert {record.mini_batch: record.category for record in supervisor.records}[1] == Category.OUT_OF_MEMORY
    message = supervisor.errors()[1].message
    assert re.search(r"used \d+ MiB, more than the 200 MiB it may have \(memory_limit_per_process\)", message)


def test_what_the_kernel_kills_is_out_of_memory_too(bench, monkeypatch):
    counts = itertools.count()
    monkeypatch.setattr("prs_dask.worker_process.family.kernel_kills", lambda: next(counts))
    workbench = bench("import os\ndef run(mini_batch): os.kill(os.getpid(), 9)")
    workbench.work_to_the_end(workbench.grant(1, "a"))
    assert [record.category for record in workbench.supervisor.records] == [Category.OUT_OF_MEMORY]
    assert "by the kernel, because memory was short" in workbench.supervisor.errors()[0].message


UNDYING = """
    import os, time

    def run(mini_batch):
        if mini_batch[0].endswith("stuck"):
            pid = PID
            if pid:
                with open(UNDYING, "w") as file:
                    file.write(f"{pid}\\n")
            time.sleep(60)
        return list(mini_batch)
    """


@pytest.mark.parametrize("pid", ["os.getpid()", "os.fork()"], ids=["the worker process", "a child of it"])
def test_a_process_that_cannot_be_killed_does_not_stop_the_lane(bench, undying, pid):
    """Its reaper is left to wait for it; the next process has another one."""
    workbench = bench(UNDYING.replace("PID", pid, 1).replace("UNDYING", repr(str(undying))), run_seconds=0.4)
    workbench.work_to_the_end(workbench.grant(1, "stuck"), workbench.grant(2, "a", "b", first=1))
    stuck = psutil.Process(int(undying.read_text()))
    supervisor = workbench.supervisor
    records = [(record.mini_batch, record.category) for record in supervisor.records]
    assert records == [(0, Category.TIME_LIMIT), (1, Category.SUCCEEDED), (2, Category.SUCCEEDED)]
    assert "1 of its processes could not be killed yet" in supervisor.errors()[0].message
    assert stuck.is_running()
    [family] = supervisor.abandoned
    assert not family.is_usable
    undying.unlink()
    family.close()
    assert not stuck.is_running()


def test_a_process_above_its_memory_that_cannot_be_killed_does_not_stop_the_lane_either(bench, undying):
    grows = f"""
        import os, time
        def run(mini_batch):
            if mini_batch[0].endswith("grows"):
                with open({str(undying)!r}, "w") as file:
                    file.write(f"{{os.getpid()}}\\n")
                kept = b"x" * (300 << 20)
                time.sleep(60)
            return list(mini_batch)
        """
    workbench = bench(grows)
    workbench.supervisor.memory_limit = 200 << 20
    workbench.work_to_the_end(workbench.grant(1, "grows"), workbench.grant(2, "a", first=1))
    supervisor = workbench.supervisor
    records = [(record.mini_batch, record.category) for record in supervisor.records]
    assert records == [(0, Category.OUT_OF_MEMORY), (1, Category.SUCCEEDED)]
    assert len(supervisor.abandoned) == 1


def test_a_gpu_that_a_process_which_cannot_be_killed_holds_is_waited_for_without_haste(bench, undying):
    """The lane asks now and then, and tells what is held; the process that it starts later has the GPU at once."""
    script = UNDYING.replace("PID", "os.fork()", 1).replace("UNDYING", repr(str(undying)))
    script = "import os\nSEEN = os.environ['GPU']\n" + textwrap.dedent(script).replace("list(mini_batch)", "[SEEN]")
    workbench = bench(script, run_seconds=0.4)
    supervisor = workbench.supervisor
    slot, asked = ("MIG-a/1", 0), []
    call = supervisor.call

    def answer(name, **arguments):
        if name != "may_start":
            return call(name, **arguments)
        asked.append(list(map(tuple, arguments["busy"])))
        if asked[-1]:
            if len(asked) == 4:  # the kernel lets go of it
                psutil.Process(int(undying.read_text())).kill()
            return {"wait": 0.05}
        return {**call(name, **arguments), "gpus": 1, "slot": slot, "visible": "0"}

    supervisor.call = answer
    supervisor.environment = lambda name, process, gpus: {"PATH": "/usr/bin:/bin", "GPU": gpus.visible}
    workbench.work_to_the_end(workbench.grant(1, "stuck"), workbench.grant(2, "a", first=1))
    assert asked[:4] == [[], [slot], [slot], [slot]], "the reaper gives up 0.3 s after the kill; the process lives on"
    assert supervisor.rows == ["0"]
    assert [one.get("why") for one in supervisor.events if one["event"] == "started"] == ["with GPU 0 (MIG-a/1)"] * 2
    assert supervisor.gpu_locks.busy() == [slot], "the idle process has it"


def test_a_slot_that_somebody_has_taken_meanwhile_is_told_and_nothing_is_started(bench):
    workbench = bench()
    supervisor, asked = workbench.supervisor, []
    held = GpuLocks(supervisor.folder.parent).take(Slot("0", 0))
    call = supervisor.call

    def answer(name, **arguments):
        if name != "may_start":
            return call(name, **arguments)
        asked.append(list(map(tuple, arguments["busy"])))
        return {**call(name, **arguments), "gpus": 2, "slot": ("0", 0) if len(asked) == 1 else ("1", 0)}

    supervisor.call = answer
    workbench.work_to_the_end(workbench.grant(1, "a"))
    os.close(held)
    assert asked == [[("0", 0)]] * 2
    assert [(one["event"], one["process"]) for one in supervisor.events] == [("started", 1), ("ready", 1)]


def test_what_ran_while_its_supervisor_was_stopped_is_not_charged(bench, monkeypatch):
    real = ProcessFamily.wait

    def wait(family, timeout):
        ended = real(family, timeout)
        return ended and ended._replace(unattended=True)

    monkeypatch.setattr(ProcessFamily, "wait", wait)
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "a", "segfault", "b"))
    supervisor = workbench.supervisor
    assert {record.category for record in supervisor.records} <= {Category.SUCCEEDED}
    assert sorted([*(record.mini_batch for record in supervisor.records), *supervisor.back]) == [0, 1, 2]


SHUTDOWN = """
    import atexit, os, time

    def run(mini_batch):
        return mini_batch

    def the_end():
        {how}

    {where}
    """


@pytest.mark.parametrize(
    ("how", "where", "words"),
    [
        ("time.sleep(60)", "shutdown = the_end", "shutdown() took longer than 0.5 s (--shutdown_timeout)"),
        ("time.sleep(60)", "atexit.register(the_end)", "registered with atexit) took longer than 0.5 s"),
        ("raise ValueError('no')", "shutdown = the_end", "no"),
        ("pass", "shutdown = the_end", None),
        ("os._exit(3)", "shutdown = the_end", "the process left with exit code 3 in shutdown()"),
    ],
)
def test_a_shutdown_that_goes_wrong_is_logged_and_holds_nobody_up(bench, how, where, words):
    workbench = bench(SHUTDOWN.format(how=how, where=where))
    workbench.work_to_the_end(workbench.grant(1, "a"))
    begun = time.monotonic()
    workbench.lane.stop(orderly=True, seconds=0.5)
    assert time.monotonic() - begun < 3
    told = [error.message for error in workbench.supervisor.load_errors]
    assert len(told) == (words is not None)
    assert all(words in message for message in told)
    assert workbench.lane.process is None


def test_an_idle_process_of_a_worker_that_was_given_up_ends_in_order_and_its_gpu_is_free(bench, tmp_path):
    """Whoever waits for it need not wait for the end of the step run."""
    over = tmp_path / "over"
    workbench = bench(SHUTDOWN.format(how=f"open({str(over)!r}, 'w').close()", where="shutdown = the_end"))
    supervisor, lane = workbench.supervisor, workbench.lane
    supervisor.gpus = {"gpus": 1, "slot": ("0", 0), "visible": "0"}
    workbench.work_to_the_end(workbench.grant(1, "a"))
    lane.end_if_forgotten()
    assert lane.process is not None
    assert supervisor.gpu_locks.busy() == [("0", 0)]
    supervisor.given_up += 1
    lane.end_if_forgotten()
    assert (lane.process, supervisor.gpu_locks.busy()) == (None, [])
    assert over.exists()
    assert supervisor.told[-1][:2] == ("ended", 0)
    assert supervisor.load_errors == []
    workbench.work_to_the_end(workbench.grant(2, "a"))
    lane.end_if_forgotten()
    assert lane.process is not None, "the scheduler knows of it"
    supervisor.given_up += 1
    supervisor.stopping = "orderly"
    lane.end_if_forgotten()
    assert lane.process is not None, "whoever ends the step run ends it"
    events, whys = lives(supervisor)
    assert events == {0: ["started", "ready", "ended"], 1: ["started", "ready"]}
    assert whys[0] == "its worker had been given up meanwhile, and its place may be another's"


def test_what_is_run_elsewhere_is_ended_at_once_and_charged_to_nobody(bench):
    workbench = bench()
    supervisor, lane = workbench.supervisor, workbench.lane
    answers = iter([workbench.grant(1, "sleep_60")])
    supervisor.answer = lambda call: next(answers, {"stop": True}) if call["claim"] else {}
    thread = workbench.work()
    until = time.monotonic() + 20
    while lane.under_way is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    lane.drop()
    thread.join(20)
    assert not thread.is_alive()
    assert (supervisor.records, supervisor.back) == ([], [0])
    _, whys = lives(supervisor)
    assert whys[0].startswith("its worker had been given up meanwhile, and what it ran is run elsewhere")


def test_an_idle_process_that_was_killed_because_nobody_was_heard_of_has_not_failed_in_shutdown(bench):
    workbench = bench(SHUTDOWN.format(how="pass", where="shutdown = the_end"))
    workbench.work_to_the_end(workbench.grant(1, "a"))
    workbench.lane.retreat()
    workbench.lane.stop(orderly=True, seconds=5)
    assert workbench.supervisor.load_errors == []
    _, whys = lives(workbench.supervisor)
    assert whys[0] == "its worker had not heard of the scheduler for too long; it was killed"


def lives(supervisor):
    """By process: its events, and why it ended."""
    found: dict = {}
    for event in supervisor.events:
        found.setdefault(event["process"], []).append(event["event"])
    return found, {event["process"]: event["why"] for event in supervisor.events if event.get("why")}


def test_a_life_is_told_in_order_and_has_one_end(bench):
    script = """
        import os, time

        def init():
            time.sleep(0.2)

        def run(mini_batch):
            if mini_batch[0] == "die":
                os._exit(3)
            return mini_batch
        """
    workbench = bench(script)
    workbench.work_to_the_end(workbench.grant(1, "a", "die"), workbench.grant(2, "b", first=2))
    workbench.lane.stop(orderly=True, seconds=5)
    workbench.lane.close()
    supervisor = workbench.supervisor
    events, whys = lives(supervisor)
    assert events == {0: ["started", "ready", "ended"], 1: ["started", "ready", "ended"]}
    assert whys == {0: "it left with exit code 3 while run() was under way", 1: "the step run is over"}
    pids = [event["pid"] for event in supervisor.events if event["event"] == "started"]
    assert len({*pids, 0}) == 3
    assert all(0.2 <= event["seconds"] < 5 for event in supervisor.events if event["event"] == "ready")


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("segfault", {}, "it was killed by SIGSEGV while run() was under way"),
        ("sleep_60", {"run_seconds": 0.4}, "run() took longer than run_invocation_timeout=0.4 s; it was killed"),
    ],
)
def test_why_a_process_ended_is_its_true_cause(bench, name, limits, words):
    workbench = bench(**limits)
    workbench.work_to_the_end(workbench.grant(1, name))
    events, whys = lives(workbench.supervisor)
    assert events[0] == ["started", "ready", "ended"]
    assert whys == {0: words}


def test_a_process_that_cannot_load_has_failed_and_has_no_other_end(bench, tmp_path):
    script = f"""
        from pathlib import Path

        if not Path({str(tmp_path / "flag")!r}).exists():
            Path({str(tmp_path / "flag")!r}).touch()
            raise RuntimeError("no model")

        def run(mini_batch):
            return mini_batch
        """
    workbench = bench(script)
    workbench.work_to_the_end(workbench.grant(1, "a"))
    workbench.lane.stop(orderly=False, seconds=5)
    events, whys = lives(workbench.supervisor)
    assert events == {0: ["started", "failed"], 1: ["started", "ready", "ended"]}
    assert whys[0].startswith("RuntimeError: no model (score.py:")
    assert whys[1] == "the step run is over; it was killed"


def test_a_process_whose_folders_cannot_be_made_has_failed_to_start(bench):
    workbench = bench()
    (workbench.supervisor.folder / "process000").touch()  # as on a full disk: an OSError
    workbench.work_to_the_end(workbench.grant(1, "a"))
    events, whys = lives(workbench.supervisor)
    assert events[0] == ["failed"]
    assert whys[0].startswith("StartFailed: the process could not be started: ")
    assert [record.mini_batch for record in workbench.supervisor.records] == [0]


def test_too_much_memory_is_why_a_process_ended(bench):
    script = """
        def run(mini_batch):
            kept = []
            while True:
                kept.append(b"x" * (8 << 20))
        """
    workbench = bench(script)
    workbench.supervisor.memory_limit = 200 << 20
    workbench.work_to_the_end(workbench.grant(1, "a"))
    _, whys = lives(workbench.supervisor)
    assert re.fullmatch(
        r"it used \d+ MiB while run\(\) was under way, more than the 200 MiB it may have \(memory_limit_per_process\);"
        " it was killed with its children",
        whys[0],
    )


def test_a_process_whose_work_was_given_to_others_says_so(bench, patient):
    workbench = bench()
    workbench.work_to_the_end(workbench.grant(1, "a"), {"void": "given up"})
    events, whys = lives(workbench.supervisor)
    assert events[0] == ["started", "ready", "ended"]
    assert "what it ran is run elsewhere" in whys[0]


def test_a_process_that_is_killed_while_it_starts_has_an_end(bench):
    workbench = bench("import time\ndef init(): time.sleep(60)\ndef run(mini_batch): return mini_batch\n")
    thread = workbench.work()
    end = time.monotonic() + 20
    while not workbench.supervisor.events and time.monotonic() < end:
        time.sleep(0.02)
    workbench.supervisor.stopping = "kill"
    thread.join(10)
    events, whys = lives(workbench.supervisor)
    assert events == {0: ["started", "ended"]}
    assert whys == {0: "the step run is over; it was not ready yet"}


STORING = """
import os, time
from pathlib import Path
from prs_dask import EntryScript

def run(mini_batch):
    for path in mini_batch:
        name = Path(path).name
        (Path(EntryScript().output_dir) / name).write_bytes(name.encode() * 300_000)
        if name == "raise":
            raise ValueError(name)
    return list(mini_batch)

def shutdown():
    (Path(EntryScript().output_dir) / "last").write_text("at the end")
"""


def stored(reports):
    """By mini-batch and name: what has come, and under which token."""
    files, tokens = {}, {}
    for report in reports:
        for number, payload in report.get("files", ()):
            if not payload:
                continue  # while it looks for more
            flags, offset, name, data = unpack_file_piece(payload)
            key = (number, name.decode())
            assert (key not in files) == bool(flags & FIRST)
            assert not offset
            files[key] = files.get(key, b"") + data
            tokens.setdefault(number, set()).add(report["token"])
    return files, tokens


def test_files_come_before_the_outcome_of_the_mini_batch_that_stored_them_under_its_grant(bench, unhurried):
    workbench = bench(STORING)
    workbench.work_to_the_end(
        workbench.grant(1, "first", "raise", "second"), workbench.grant(2, "third", "fourth", first=3)
    )
    reports = workbench.supervisor.reports
    files, tokens = stored(reports)
    names = {0: "first", 2: "second", 3: "third", 4: "fourth"}
    assert files == {(number, name): name.encode() * 300_000 for number, name in names.items()}
    assert all(len(several) == 1 for several in tokens.values())
    outcomes = {record.mini_batch: place for place, one in enumerate(reports) for record in unpack(one["records"])}
    for place, report in enumerate(reports):
        assert all(outcomes[number] >= place for number, _ in report.get("files", ()))


def test_what_is_stored_in_shutdown_comes_at_the_end_and_is_missed_until_all_is_there(bench, unhurried):
    workbench = bench(STORING)
    workbench.work_to_the_end(workbench.grant(1, "first"))
    workbench.lane.stop(orderly=True, seconds=10.0)
    begun, *pieces, ended = workbench.supervisor.last_files
    assert [(unpack_file_piece(piece)[2:], over) for piece, over in pieces] == [((b"last", b"at the end"), False)]
    assert (begun, ended) == ((b"", False), (b"", True))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("raise ValueError('no')", [(b"", False), (b"", True)]),
        ("os._exit(3)", [(b"", False)]),
        ("time.sleep(60)", [(b"", False)]),
    ],
)
def test_a_process_that_does_not_come_to_the_end_of_its_shutdown_is_missed_if_it_has_stored_anything(
    bench, unhurried, end, told
):
    for first, expected in (("first", told), (None, [])):
        workbench = bench(STORING.partition("def shutdown")[0] + f"def shutdown():\n    {end}\n")
        workbench.work_to_the_end(workbench.grant(1, *[first] if first else []))
        workbench.lane.stop(orderly=True, seconds=1.0)
        assert workbench.supervisor.last_files == expected


def test_a_process_that_dies_behind_what_it_has_stored_in_shutdown_is_missed(bench, unhurried):
    workbench = bench(STORING + "    os._exit(3)\n")
    workbench.work_to_the_end(workbench.grant(1))
    workbench.lane.stop(orderly=True, seconds=10.0)
    assert workbench.supervisor.last_files == [(b"", False)]


def test_where_the_output_folder_is_shared_files_are_written_there_and_none_is_sent(bench, unhurried, tmp_path):
    workbench = bench(STORING)
    shared = tmp_path / "shared"
    shared.mkdir()
    workbench.supervisor.shared_output = str(shared)
    workbench.work_to_the_end(workbench.grant(1, "first"))
    workbench.lane.stop(orderly=True, seconds=10.0)
    assert not any("files" in report for report in workbench.supervisor.reports)
    assert workbench.supervisor.last_files == []
    assert {path.name for path in shared.iterdir()} == {"first", "last"}


ADDING = """
import os, time
from pathlib import Path
from prs_dask import EntryScript

def run(mini_batch):
    doing, _, argument = Path(mini_batch[0]).name.partition("_")
    if doing == "sleep":
        time.sleep(float(argument))
    if doing == "add":
        with open(Path(EntryScript().output_dir) / "all", "a") as file:
            file.write(argument)
    return list(mini_batch)
"""


def test_a_process_whose_files_are_dropped_ends_uncharged_and_the_next_begins_anew(bench, monkeypatch):
    """It has just begun what is given back, and believes its file to be stored: the next addition would be torn."""
    monkeypatch.setattr("prs_dask.worker_process.phase.PhasePage.revoke", lambda *_: None)
    workbench = bench(ADDING)
    workbench.work_to_the_end(
        workbench.grant(1, "a", "b"),
        workbench.grant(2, "sleep_0.5", "add_x", first=2, box=0.1),
        workbench.grant(3, "sleep_0.5", "c", "add_y", first=4),
        workbench.grant(4, "add_y", first=6),
    )
    supervisor = workbench.supervisor
    assert 3 in supervisor.back
    _, whys = lives(supervisor)
    assert "files that it had sent do not count" in whys[0]
    assert not supervisor.errors()
    files, _ = stored(supervisor.reports)  # none begins in the middle
    assert files == {(6, "all"): b"y"}


def test_a_process_whose_files_the_scheduler_refuses_ends_and_what_it_has_added_to_them_goes_back(bench, unhurried):
    workbench = bench(ADDING)
    supervisor, claims = workbench.supervisor, []

    def answer(call):
        filed = (call["report"] or {}).get("filed", [])
        refused = {"files_refused": True} if 0 in filed else {}
        if not call["claim"] or call["keep"]:
            return refused
        claims.append(call)
        grants = {1: workbench.grant(1, "add_x"), 2: workbench.grant(2, "add_y", first=1)}
        return {**refused, **grants.get(len(claims), {"stop": True})}

    supervisor.answer = answer
    workbench.work().join(20)
    events, whys = lives(supervisor)
    assert events[0] == ["started", "ready", "ended"]
    assert "files that it had sent do not count" in whys[0]
    assert supervisor.back == [1]
    assert not supervisor.errors()
    assert supervisor.reports[0]["filed"] == [0]


def test_a_refusal_that_comes_when_the_process_has_died_holds_for_what_it_had_added_meanwhile(bench, patient):
    workbench = bench(
        ADDING.replace('if doing == "add":', 'if doing == "exit":\n        os._exit(1)\n    if doing == "add":')
    )
    supervisor, claims, late = workbench.supervisor, [], Future()

    def refuse():
        while not any(event["event"] == "ended" for event in supervisor.events):
            time.sleep(0.01)
        late.set_result({"files_refused": True})

    def answer(call):
        if 0 in (call["report"] or {}).get("filed", []):
            threading.Thread(target=refuse).start()
            return late
        if not call["claim"] or call["keep"]:
            return {}
        claims.append(call)
        return workbench.grant(1, "add_x", "sleep_0.5", "add_y", "exit") if len(claims) == 1 else {"stop": True}

    supervisor.answer = answer
    workbench.work().join(20)
    assert late.done()
    assert 2 in supervisor.back
    assert 2 not in [record.mini_batch for record in supervisor.records]
    assert list(supervisor.errors()) == [3]


@pytest.mark.parametrize(
    ("shutdown", "told"),
    [
        ("pass", []),
        ("(folder / 'new').write_text('n')", [(b"new", b"n")]),
        ("(folder / 'all').open('a').write('y')", None),
    ],
)
def test_a_process_whose_files_are_dropped_at_its_end_is_missed_only_where_it_goes_on_with_them(
    bench, monkeypatch, shutdown, told
):
    """It has begun what is given back, which has been run elsewhere."""
    monkeypatch.setattr("prs_dask.engine.lane.AHEAD_SECONDS", 10.0)
    monkeypatch.setattr("prs_dask.worker_process.phase.PhasePage.revoke", lambda *_: None)
    script = ADDING.replace(
        'if doing == "add":', 'if doing == "late":\n        time.sleep(1)\n    if doing in ("add", "late"):'
    )
    workbench = bench(f"{script}\ndef shutdown():\n    folder = Path(EntryScript().output_dir)\n    {shutdown}\n")
    workbench.work_to_the_end(
        workbench.grant(1, "add_a", "b"), workbench.grant(2, "sleep_0.5", "late_x", first=2, box=0.1)
    )
    assert 3 in workbench.supervisor.back
    workbench.lane.stop(orderly=True, seconds=10.0)
    begun, *pieces = workbench.supervisor.last_files
    assert begun == (b"", False)
    if told is None:
        assert not any(ended for _, ended in pieces)
    else:
        *pieces, ended = pieces
        assert ended == (b"", True)
        assert [unpack_file_piece(piece)[2:] for piece, _ in pieces if piece] == told


def test_what_a_process_leaves_in_folders_of_its_own_goes_with_it_and_its_logs_stay_to_be_sent(bench, unhurried):
    workbench = bench(STORING + "    Path('in the working folder').touch()\n")
    workbench.work_to_the_end(workbench.grant(1, "first"))
    folder = workbench.supervisor.folder / "process000"
    assert os.listdir(folder / "output") == ["first"]
    workbench.lane.stop(orderly=True, seconds=10.0)
    assert not (folder / "output").exists()
    assert not (folder / "work").exists()
    assert (folder / "logs").is_dir()

"""What becomes of one mini-batch: every kind of result, every way of leaving run(), in real processes."""

from __future__ import annotations

import os
import time

import pytest

from prs_dask.attempts.records import Category
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.mini_batches import TextMiniBatch
from prs_dask.output.row_format import RowFormat
from prs_dask.worker_process.frames import FrameKind


def test_a_mini_batch_is_a_list_of_its_paths(start):
    child = start("def run(m): return [type(m).__name__, *m]").ready()
    assert child.run("/a b", "/ü").rows == "list\n/a b\n/ü\n".encode()


@pytest.mark.parametrize(
    ("expression", "rows", "results"),
    [
        ("['x', 1, 2.5]", b"x\n1\n2.5\n", 3),
        ("('x',)", b"x\n", 1),
        ("[]", b"", 0),
        ("(c for c in 'abc')", b"a\nb\nc\n", 3),
        ("__import__('numpy').arange(3)", b"0\n1\n2\n", 3),
        ("__import__('pandas').DataFrame({'a': [1, 2], 'b': ['x', 'y']})", b"1 x\n2 y\n", 2),
        ("__import__('pandas').Series([7, 8])", b"7\n8\n", 2),
    ],
)
def test_a_result_becomes_rows_and_is_counted(start, expression, rows, results):
    outcome = start(f"def run(m): return {expression}").ready().run("a", "b")
    assert outcome.error is None
    assert outcome.rows == rows
    assert outcome.header._replace(started=0, elapsed=0, read=0, run=0, cpu=0) == (
        (Category.SUCCEEDED, 2, results, len(rows), 0, 0, 0, 0, 0)
    )


def test_the_header_line_is_told_apart_from_the_rows(start):
    script = "import pandas as pd\ndef run(m): return pd.DataFrame({'a': [1], 'b': [2]})"
    child = start(script, row_format=RowFormat(header=True)).ready()
    child.work(["a"])
    kind, _, payload = child.frame()
    assert (kind, bytes(payload)) == (FrameKind.HEADER, b"a b\n")
    assert child.outcome().rows == b"1 2\n"


def test_summary_only_counts_and_writes_nothing(start):
    outcome = start("def run(m): return m", row_format=None).ready().run("a", "b", "c")
    assert (outcome.rows, outcome.header.results, outcome.header.length) == (b"", 3, 0)


@pytest.mark.parametrize("expression", ["None", "3", "{'a': 1}", "'text'", "object()"])
def test_what_is_no_result_fails_the_attempt_and_names_its_type(start, expression):
    child = start(f"def run(m): return {expression} if m == ['bad'] else m").ready()
    outcome = child.run("bad")
    assert outcome.header.category == Category.BAD_RETURN
    assert (outcome.header.items, outcome.header.results) == (1, 0)
    assert type(eval(expression)).__name__.removesuffix("Type") in outcome.error.message
    assert child.run("good").rows == b"good\n"


def test_a_result_that_has_no_text_fails_the_attempt(start):
    child = start("""
        class Odd:
            def __str__(self): raise ValueError("no text")
        def run(m): return ["fine", Odd()] if m == ["bad"] else m
    """).ready()
    outcome = child.run("bad")
    assert (outcome.header.category, outcome.error.type) == (Category.BAD_RETURN, "ValueError")
    assert outcome.error.where == "score.py:3 in __str__"
    assert child.run("good").rows == b"good\n"


LEAVING = {
    "raise ValueError('text')": ("ValueError", "text"),
    "raise SystemExit(3)": ("SystemExit", "sys.exit(3)"),
    "import sys; sys.exit('why')": ("SystemExit", "'why'"),
    "raise KeyboardInterrupt": ("KeyboardInterrupt", ""),
    "raise GeneratorExit": ("GeneratorExit", ""),
    "raise StopIteration(5)": ("StopIteration", "5"),
    "import asyncio; raise asyncio.CancelledError": ("CancelledError", ""),
    "raise Mute": ("Mute", "cannot be shown"),
    "raise OSError('x' * 100_000_000)": ("OSError", "characters left out"),
    "raise Unpicklable(lambda: 0)": ("Unpicklable", "lambda"),
    "raise ExceptionGroup('both', [ValueError('one'), KeyError('two')])": ("ExceptionGroup", "both"),
    "a = ValueError('a'); b = KeyError('b'); a.__cause__ = b; b.__cause__ = a; raise a": ("ValueError", "a"),
    "raise ValueError('\\ud800 \\x00')": ("ValueError", "\ud800 \x00"),
    "def f(): return f()\n    f()": ("RecursionError", "recursion"),
    "raise MemoryError": ("MemoryError", ""),
    "bytearray(1 << 62)": ("MemoryError", ""),
    "import threading, _thread, time; _thread.interrupt_main(); time.sleep(9)": ("KeyboardInterrupt", ""),
    "return (1 // 0 for _ in m)": ("ZeroDivisionError", "zero"),
    "import sys; sys.setrecursionlimit(60); raise ValueError('low')": ("ValueError", "low"),
    "raise Quoter": ("Quoter", "ok"),
}


@pytest.mark.parametrize("statement", LEAVING)
def test_leaving_run_other_than_by_return_is_a_failed_attempt_and_the_process_goes_on(start, statement):
    child = start(f"""
class Mute(BaseException):
    def __str__(self): raise SystemExit
    __repr__ = __str__
class Unpicklable(Exception):
    def __reduce__(self): raise TypeError
class Text(str):
    def __getitem__(self, key): raise RuntimeError
    def __len__(self): raise RuntimeError
class Quoter(Exception):
    def __str__(self): return Text("ok")
def run(m):
    if m == ["good"]: return m
    {statement}
""").ready()
    outcome = child.run("bad", "bad")
    kind, message = LEAVING[statement]
    assert outcome.header.category == Category.EXCEPTION
    assert (outcome.header.items, outcome.header.results, outcome.header.length) == (2, 0, 0)
    assert outcome.error.type == kind
    assert message in outcome.error.message
    assert len(outcome.error.message.encode("utf-8", "surrogatepass")) <= 65536
    assert len(outcome.error.traceback) < 100_000
    assert "score.py" in outcome.error.where
    assert "/prs_dask/" not in outcome.error.traceback
    assert child.run("good").rows == b"good\n"
    assert child.quit() == (0, None)


def test_a_failed_command_keeps_what_it_had_printed(start):
    child = start("""
        import subprocess
        def run(m):
            try:
                subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=True, capture_output=True)
            except subprocess.CalledProcessError as error:
                raise RuntimeError("tool failed") from error
    """).ready()
    error = child.run().error
    assert error.type == "RuntimeError"
    assert "out\n" in error.process_output
    assert "err\n" in error.process_output
    assert "direct cause" in error.traceback


def test_running_out_of_memory_is_survived(start):
    child = start("""
        import resource
        def run(m):
            if m == ["good"]: return m
            now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), resource.RLIM_INFINITY))
            kept = []
            while True: kept.append(" " * 100_000)
    """).ready()
    assert child.run("bad").error.type == "MemoryError"
    assert child.run("good").rows == b"good\n"


def test_a_mini_batch_that_cannot_be_read_is_a_load_error_and_the_next_one_runs(start, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n3,4\n")
    script = "def run(frame): return frame"
    child = start(script, readers=(ReadSpec("delimited"), ReadSpec("delimited"))).ready()
    child.work(TextMiniBatch(0, str(tmp_path / "gone.csv"), 4, 12, 2), TextMiniBatch(1, str(table), 4, 12))
    outcome = child.outcome()
    assert (outcome.header.category, outcome.header.items) == (Category.LOAD_ERROR, 2)
    assert outcome.header.run == 0
    assert "gone.csv" in outcome.error.message
    outcome = child.outcome()
    assert outcome.error is None
    assert (outcome.rows, outcome.header.items) == (b"1 2\n3 4\n", 2)


def test_a_block_behind_a_cut_that_was_not_safe_has_a_category_of_its_own(start, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text('a,b\n1,"x\ny",3\n4,5\n')
    child = start("def run(frame): return frame", readers=(ReadSpec("delimited", multi_line=False),)).ready()
    child.work(TextMiniBatch(0, str(table), 4, 9), TextMiniBatch(0, str(table), 14, 18))
    assert [child.outcome().header.category for _ in range(2)] == [Category.UNSAFE_CUT] * 2


@pytest.mark.parametrize(
    "signature", ["m, mini_batch_context", "m, context=None", "*args", "m, mini_batch_context, debug=False"]
)
def test_a_run_that_takes_two_positionals_gets_the_context(start, signature):
    name = signature.split(", ")[1].split("=")[0] if "," in signature else "args[1]"
    child = start(
        f"def run({signature}):\n    c = {name}\n"
        "    return [c.minibatch_index, c.dataset, c.partition_key_value, c.attempt]",
        input_names=("images",),
    ).ready()
    assert child.run("a", attempt=3).rows == b"100\nimages\n{}\n3\n"


def test_results_above_a_piece_leave_in_several_frames(start):
    child = start("def run(m): return [str(i) * 1000 for i in range(3_000)] if m == ['big'] else m").ready()
    child.work(["big"], ["small"])
    outcome = child.outcome()
    assert outcome.rows == b"".join(str(i).encode() * 1000 + b"\n" for i in range(3_000))
    assert outcome.header.length == len(outcome.rows)
    assert child.outcome().rows == b"small\n"


def test_a_result_that_fails_after_some_pieces_is_a_failed_attempt(start):
    child = start("""
        class Odd:
            def __str__(self): raise ValueError("late")
        def run(m): return ["x" * 1000] * 5000 + [Odd()]
    """).ready()
    outcome = child.run()
    assert (outcome.header.category, outcome.header.length, outcome.rows) == (Category.BAD_RETURN, 0, b"")


def test_times_tell_reading_running_and_processor_apart(start):
    child = start("""
        import time
        def run(m):
            end = time.process_time() + 0.05
            while time.process_time() < end: pass
            time.sleep(0.1)
            return (time.sleep(0.05) or x for x in m)
    """).ready()
    header = child.run("a").header
    assert 0.2 <= header.run <= header.elapsed < 5
    assert 0.05 <= header.cpu < 0.15
    assert header.read < 0.1
    assert abs(header.started - time.time()) < 10


def test_a_child_forked_in_run_that_returns_too_tells_nobody(start):
    child = start("""
        import os, sys
        def run(m):
            if m == ["plain"]: return m
            pid = os.fork()
            if pid == 0:
                if m == ["raises"]: raise ValueError("in the child")
                if m == ["exits"]: sys.exit(7)
                return ["from the child"]
            return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    """).ready()
    assert child.run("returns").rows == b"0\n"
    assert child.run("raises").rows == b"1\n"
    assert child.run("exits").rows == b"7\n"
    assert child.run("plain").rows == b"plain\n"
    assert "in the child" in child.stderr()
    assert child.page.read().sequence == -1 or child.page.read().sequence == 3


def test_multiprocessing_works_in_user_code(start):
    child = start(
        """
        import multiprocessing, helper
        def run(m):
            with multiprocessing.get_context(m[0]).Pool(1) as pool:
                return pool.map(helper.double, [1, 2])
        """,
        files={"helper.py": "def double(x): return 2 * x"},
    ).ready()
    assert child.run("fork").rows == b"2\n4\n"
    assert child.run("spawn").rows == b"2\n4\n"


def test_a_subprocess_of_user_code_gets_no_descriptor_of_the_protocol(start):
    child = start("""
        import os, subprocess
        def run(m):
            return subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True
                                 ).stdout.splitlines()
    """).ready()
    rows = child.run().rows.decode()
    assert "socket" not in rows
    assert "prs-phase" not in rows
    assert os.path.basename(child.folder / "stacks") not in rows.replace("pytest", "")


STORING = """
    import os
    from prs_dask import EntryScript
    from prs_dask.worker_process import attempts
    from prs_dask.worker_process.output_files import OutputFiles

    order = []
    def noted(name, act):
        return lambda *arguments: (order.append(name or str(int(arguments[1]))), act(*arguments))[1]

    def store(name):
        with open(os.path.join(EntryScript().output_dir, name), "w") as file:
            file.write(name)
"""


def test_files_count_as_sent_when_their_outcome_has_left_and_not_before(start):
    """An exception of a signal handler, between the two, makes the outcome an error: the driver drops the files."""
    child = start(
        f"""{STORING}
    attempts.send, OutputFiles.sent = noted("", attempts.send), noted("sent", OutputFiles.sent)
    def run(m):
        store("a")
        return [*order]
    """,
        sends_output=True,
    ).ready()
    assert child.run("a").error is None
    order = [str(int(FrameKind.FILE)), str(int(FrameKind.OUTCOME)), "sent"]
    assert child.run("b").rows.decode().split()[-3:] == order


def test_what_goes_wrong_when_files_of_a_failed_attempt_are_removed_ends_nothing(start):
    child = start(
        f"""{STORING}
    def failed(self):
        raise TimeoutError("of an alarm")
    OutputFiles.failed = failed
    def run(m):
        if m == ["bad"]:
            store("bad")
            raise ValueError("its own")
        return m
    """,
        sends_output=True,
    ).ready()
    assert child.run("bad").error.message == "its own"
    assert child.run("good").rows == b"good\n"

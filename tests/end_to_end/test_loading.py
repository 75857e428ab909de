"""Import and init(): what fails there is counted, never looped, and never charged to a mini-batch."""

import pytest

SCRIPT_TAIL = "\ndef run(mini_batch): return [__import__('os').path.basename(mini_batch[0])]\n"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import a_module_nobody_has\n", "No module named 'a_module_nobody_has'"),
        ("raise ValueError('at import')\n", "at import"),
        ("import sys; sys.exit(4)\n", "SystemExit"),
        ("import os; os._exit(5)\n", "exit code 5"),
        ("import ctypes; ctypes.string_at(0)\n", "SIGSEGV"),
        ("def init(): raise RuntimeError('in init')\n", "in init"),
        ("def init(): raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("def init():\n    import os\n    os._exit(6)\n", "exit code 6"),
        ("def init():\n    import os\n    os.abort()\n", "SIGABRT"),
        ("def init(needed): pass\n", "needed"),
        ("def init(): open('/nowhere/\\udcff')\n", "No such file"),
    ],
)
def test_a_script_that_never_loads_is_tried_exactly_three_times_for_each_process(job, script, told):
    done = job(script + SCRIPT_TAIL, 5)
    assert done.state == "Failed"
    assert told in done.run.error
    assert done.attempts == []
    assert done.run.summary().attempts == 0
    starts = done.log("sys/master_role.txt").count("could not start")
    assert starts in (6, 7), "3 x process_count_per_node failures, and one more that was starting meanwhile"
    assert told in done.log("user/error.txt")
    if "exit code" not in told and "SIG" not in told and "needed" not in script:
        assert "script.py:" in done.run.error
    assert done.run.summary().total_seconds < 15


def test_an_init_that_fails_now_and_then_costs_no_attempt(job, tmp_path):
    script = f"""
import os
FILE = {str(tmp_path / "tries")!r}
def init():
    with open(FILE, "ab") as file:
        file.write(b"x")
        if file.tell() <= 4: raise RuntimeError("not yet")
def run(mini_batch): return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 20)
    assert done.state == "Completed"
    assert done.items == list(range(20))
    assert done.run.summary().attempts == 20
    assert "not yet" in done.log("user/error.txt")


def test_one_process_that_cannot_load_leaves_the_work_to_the_other(job, tmp_path):
    script = f"""
import os, time
from prs_dask import EntryScript
def init():
    try:
        os.mkdir({str(tmp_path / "taken")!r})
    except FileExistsError:
        if EntryScript().agent_name != os.listdir({str(tmp_path / "taken")!r})[0]:
            raise RuntimeError("there is one already")
    os.mkdir(os.path.join({str(tmp_path / "taken")!r}, EntryScript().agent_name))
def run(mini_batch):
    time.sleep(0.02)
    return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 40)
    assert done.state == "Completed"
    assert done.items == list(range(40))
    assert len({row["Process"] for row in done.attempts}) == 1


def test_an_init_that_hangs_is_killed_at_its_limit_and_told_with_its_stack(job):
    script = (
        """
import time
def init(): waiting_for_godot()
def waiting_for_godot(): time.sleep(1000)
"""
        + SCRIPT_TAIL
    )
    done = job(script, 5, arguments=["--init_timeout", "2.5"])
    assert done.state == "Failed"
    assert "init()" in done.run.error
    assert "init_timeout" in done.run.error
    assert "waiting_for_godot" in done.logs("user/error/*/*.txt")


def test_an_init_that_holds_the_gil_is_killed_too(job):
    script = "import re\ndef init(): re.match(r'(a+)+$', 'a' * 64 + 'b')\n" + SCRIPT_TAIL
    done = job(script, 5, arguments=["--init_timeout=0.5"])
    assert done.state == "Failed"
    assert done.run.summary().total_seconds < 10


def test_a_slow_init_is_no_run_time(job):
    script = "import time\ndef init(): time.sleep(1.2)\n" + SCRIPT_TAIL
    done = job(script, 8, run_invocation_timeout=0.5)
    assert done.state == "Completed"
    assert done.run.summary().attempts == 8


def test_init_is_called_once_in_a_process_before_run_and_shutdown_once_at_the_end(job, tmp_path):
    script = f"""
import os
FILE = {str(tmp_path / "calls")!r}
def note(what):
    with open(FILE, "a") as file: file.write(f"{{os.getpid()}} {{what}}\\n")
def init(): note("init")
def run(mini_batch):
    note("run")
    return [os.path.basename(mini_batch[0])]
def shutdown(): note("shutdown")
"""
    done = job(script, 30)
    calls: dict[str, list[str]] = {}
    for line in (tmp_path / "calls").read_text().splitlines():
        pid, what = line.split()
        calls.setdefault(pid, []).append(what)
    assert done.state == "Completed"
    for life in calls.values():
        assert life[0] == "init"
        assert life[-1] == "shutdown"
        assert set(life[1:-1]) <= {"run"}
    assert sum(life.count("run") for life in calls.values()) == 30


def test_a_replaced_process_starts_over_with_init(job):
    script = """
import os
STARTED = []
def init(): STARTED.append(os.getpid())
def run(mini_batch, context):
    assert STARTED == [os.getpid()]
    if context.attempt == 1 and int(os.path.basename(mini_batch[0])) % 5 == 0: os._exit(1)
    return [os.path.basename(mini_batch[0])]
"""
    done = job(script, 20)
    assert done.items == list(range(20))
    assert done.run.summary().attempts == 24


def test_a_script_without_source_directory_says_which_import_it_misses(job, tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 1\n")
    done = job("import beside\n" + SCRIPT_TAIL, 3)
    assert done.state == "Failed"
    assert "beside" in done.run.error


def test_a_source_directory_travels_whole(job, tmp_path):
    source = tmp_path / "source"
    (source / "package").mkdir(parents=True)
    (source / "package" / "__init__.py").write_text("VALUE = 7\n")
    (source / "labels.txt").write_text("label")
    (source / "main.py").write_text(
        "import os, package\n"
        "def run(mini_batch):\n"
        "    beside = os.path.join(os.path.dirname(__file__), 'labels.txt')\n"
        "    return [f'{package.VALUE} {open(beside).read()}']\n"
    )
    done = job("", 3, source_directory=source, entry_script="main.py")
    assert set(done.rows) == {"7 label"}


def test_arguments_and_environment_are_there_before_import(job):
    script = """
import os, sys
ARGUMENTS, VALUE = sys.argv[1:], os.environ["MY_VALUE"]
def run(mini_batch): return [repr((ARGUMENTS, VALUE, os.path.basename(sys.argv[0])))]
"""
    done = job(
        script, 1, arguments=["--threshold", 0.5, "--", "*"], environment_variables={"MY_VALUE": "a secret word"}
    )
    assert done.rows == [repr((["--threshold", "0.5", "--", "*"], "a secret word", "script.py"))]
    kept = b"".join(path.read_bytes() for path in done.run.run_folder.rglob("*") if path.is_file())
    assert b"a secret word" not in kept


def test_objects_are_entry_scripts_too(job):
    class Script:
        def __init__(self, factor):
            self.factor = factor

        def run(self, mini_batch):
            import os

            return [int(os.path.basename(path)) * self.factor for path in mini_batch]

    done = job("", 10, entry_script=Script(3))
    assert done.items == [3 * number for number in range(10)]

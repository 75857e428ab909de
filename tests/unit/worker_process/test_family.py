"""A worker process dies with all its descendants, wherever they hide, and its end is told rightly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from prs_dask.worker_process.family import FIRST_KEPT, Ended, ProcessFamily, describe_status

PATIENCE = 10.0
ROOT = Path(__file__).parents[3]


class Started:
    """A family with a process that runs a script, and the file it writes to."""

    def __init__(self, family: ProcessFamily, folder: Path, script: str) -> None:
        self.family = family
        self.folder = folder
        self.output = folder / "stdout"
        with open(self.output, "ab") as stdout, open(folder / "stderr", "ab") as stderr:
            self.pid = family.start(
                [sys.executable, "-c", textwrap.dedent(script)],
                {"NAME": "value", "PATH": os.environ["PATH"]},
                str(folder),
                stdout.fileno(),
                stderr.fileno(),
                [],
            )

    def text(self, ending: str = "\n") -> str:
        """What it has written, once that ends so."""
        end = time.monotonic() + PATIENCE
        while not (text := self.output.read_text()).endswith(ending):
            assert time.monotonic() < end, (text, (self.folder / "stderr").read_text())
            time.sleep(0.005)
        return text

    def pids(self) -> list[psutil.Process]:
        """The processes whose pids it has written, one a line, the last of them 0."""
        found = [int(line) for line in self.text("\n0\n").split()]
        return [psutil.Process(pid) for pid in found if pid]


Start = Callable[[str], Started]


@pytest.fixture
def family(tmp_path: Path, no_leaks: None) -> Iterator[ProcessFamily]:
    made = ProcessFamily()
    yield made
    made.close()


@pytest.fixture
def start(family: ProcessFamily, tmp_path: Path) -> Start:
    return lambda script: Started(family, tmp_path, script)


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=3)[1]


HIDERS = {
    "a plain child": """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        """,
    "a child in a session of its own": """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(child.pid, flush=True)
        """,
    "a daemon, forked twice": """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                time.sleep(60)
            os._exit(0)
        os.wait()
        time.sleep(0.1)
        """,
    "one that ignores every signal": """
        import os, signal, time
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            time.sleep(60)
            os._exit(0)
        print(pid, flush=True)
        time.sleep(0.1)
        """,
    "one that is stopped": """
        import os, signal, time
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, os.WUNTRACED)
        """,
    "a chain of ten, each in its own session": """
        import os, time
        for generation in range(10):
            if os.fork():
                break
            os.setsid()
            print(os.getpid(), flush=True)
        time.sleep(0.3)
        """,
}
END = """
print(0, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("script", HIDERS.values(), ids=HIDERS.keys())
def test_a_kill_reaches(script: str, start: Start):
    started = start(textwrap.dedent(script) + END)
    processes = [*started.pids(), psutil.Process(started.pid)]
    assert len(processes) >= 2
    started.family.kill()
    assert started.family.wait(PATIENCE) == Ended(signal.SIGKILL, 0)
    assert gone(processes)


@pytest.mark.parametrize("script", HIDERS.values(), ids=HIDERS.keys())
def test_what_outlives_a_process_that_leaves_by_itself_is_killed(script: str, start: Start):
    started = start(textwrap.dedent(script) + "\nprint(0, flush=True)\ntime.sleep(0.3)\nos._exit(3)".replace(
        "os._exit", "import os; os._exit"))  # fmt: skip
    processes = started.pids()
    ended = started.family.wait(PATIENCE)
    assert ended is not None
    assert (os.waitstatus_to_exitcode(ended.status), ended.survivors) == (3, 0)
    assert gone(processes)


def test_children_that_are_born_while_they_are_killed_die_too(start: Start):
    """Each forks another one as soon as it lives."""
    started = start(
        """
        import os, time
        print(os.getpid(), flush=True)
        print(0, flush=True)
        for _ in range(200):
            if os.fork():
                os._exit(0) if _ else time.sleep(60)
            os.setsid()
            time.sleep(0.002)
        time.sleep(60)
        """
    )
    started.pids()
    time.sleep(0.05)
    reaper = psutil.Process(started.pid).parent()
    started.family.kill()
    ended = started.family.wait(PATIENCE)
    assert ended is not None
    assert ended.survivors == 0
    assert reaper is not None
    assert reaper.children(recursive=True) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(0)", "left with exit code 0"),
        ("import os; os._exit(7)", "left with exit code 7"),
        ("raise SystemExit(5)", "left with exit code 5"),
        ("1 / 0", "left with exit code 1"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL from outside"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)", "was killed by signal 37"),
    ],
)
def test_the_end_is_named(code: str, words: str, start: Start):
    ended = start(code).family.wait(PATIENCE)
    assert ended is not None
    assert describe_status(ended.status).startswith(words)


def test_one_family_has_one_process_after_the_other(family: ProcessFamily, tmp_path: Path):
    pids = set()
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        started = Started(family, folder, "print('here', flush=True); import time; time.sleep(60)")
        assert started.text() == "here\n"
        pids.add(started.pid)
        family.kill()
        ended = family.wait(PATIENCE)
        assert ended is not None
        assert os.WTERMSIG(ended.status) == signal.SIGKILL
    assert len(pids) == 5


def test_the_process_has_only_its_own_descriptors(family: ProcessFamily, tmp_path: Path):
    """Also where the supervisor has others that may be inherited."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    kept = os.open(tmp_path / "kept", os.O_RDWR | os.O_CREAT)
    script = """
    import os
    names = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    open_ones = []
    for name in names:
        try:
            os.fstat(name)
        except OSError:
            continue
        open_ones.append(name)
    print(*open_ones, flush=True)
    """
    with open(tmp_path / "out", "wb") as out:
        family.start(
            [sys.executable, "-c", textwrap.dedent(script)], {}, str(tmp_path), out.fileno(), out.fileno(), [kept, kept]
        )
    family.wait(PATIENCE)
    for descriptor in (read, write, kept):
        os.close(descriptor)
    assert (tmp_path / "out").read_text().split() == ["0", "1", "2", str(FIRST_KEPT), str(FIRST_KEPT + 1)]


def test_what_guards_its_end_is_held_by_the_reaper_until_all_of_them_are_dead(family: ProcessFamily, tmp_path: Path):
    """Also where the processes themselves have closed it; and what the next family has is its own."""
    close = f"import os, sys; os.close({FIRST_KEPT + 1}); print('closed', flush=True); "

    def start(name: str, then: str) -> int:
        guard, other = os.pipe()
        with open(tmp_path / name, "wb") as out:
            argv = [sys.executable, "-c", close + then]
            family.start(argv, {}, ".", out.fileno(), out.fileno(), [0, guard], guards=1)
        os.close(guard)
        wait_for(lambda: (tmp_path / name).read_text())
        return other

    first = start("first", "import time; time.sleep(60)")
    with pytest.raises(BlockingIOError):  # somebody could still read
        write_all(first)
    family.kill()
    assert family.wait(PATIENCE) is not None
    with pytest.raises(BrokenPipeError):
        write_all(first)
    second = start("second", "sys.exit()")
    assert family.wait(PATIENCE) is not None
    with pytest.raises(BrokenPipeError):
        write_all(second)
    for descriptor in (first, second):
        os.close(descriptor)


def test_it_is_held_too_as_long_as_one_lives_that_cannot_be_killed(undying: Path, tmp_path: Path, no_leaks: None):
    family = ProcessFamily()  # with the reaper that cannot kill
    script = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "60"])  # it has no descriptor of ours
with open({str(undying)!r}, "w") as file:
    print(child.pid, file=file)
time.sleep(60)
"""
    guard, other = os.pipe()
    with open(tmp_path / "out", "wb") as out:
        family.start(
            [sys.executable, "-c", script], {"PATH": "/usr/bin:/bin"}, ".", out.fileno(), out.fileno(), [guard], 1
        )
    os.close(guard)
    wait_for(lambda: undying.exists() and undying.read_text())
    family.kill()
    ended = family.wait(PATIENCE)
    assert ended is not None
    assert ended.survivors == 1
    with pytest.raises(BlockingIOError):
        write_all(other)
    psutil.Process(int(undying.read_text())).kill()  # the kernel lets go of it

    def is_free() -> bool:
        try:
            os.write(other, b"x")
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True
        return False

    wait_for(is_free)
    os.close(other)
    family.close()


def write_all(pipe: int) -> None:
    os.set_blocking(pipe, False)
    while True:
        os.write(pipe, bytes(4096))


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_surroundings_are_as_told(start: Start, tmp_path: Path):
    started = start(
        """
        import os, signal, sys
        print(os.environ["NAME"], os.getcwd(), os.getpid() == os.getpgid(0) == os.getsid(0), repr(sys.stdin.read()))
        ignored = [s.name for s in signal.Signals if signal.getsignal(s) == signal.SIG_IGN]
        print(ignored, signal.pthread_sigmask(signal.SIG_BLOCK, []), open("/proc/self/oom_score_adj").read().strip())
        """
    )
    started.family.wait(PATIENCE)
    assert started.output.read_text().splitlines() == [
        f"value {tmp_path} True ''",
        "['SIGPIPE', 'SIGXFSZ'] set() 1000",  # these two are the interpreter's own doing
    ]


@pytest.mark.parametrize(
    ("argv", "folder", "words"),
    [
        (["/nowhere/python"], ".", "No such file"),
        ([sys.executable, "-c", ""], "nowhere", "nowhere"),
        (["/etc/passwd"], ".", "Permission denied"),
    ],
)
def test_a_start_that_fails_says_why_and_the_family_goes_on(argv, folder, words, family, tmp_path):
    with open(os.devnull, "wb") as null:
        with pytest.raises(OSError, match=words):
            family.start(argv, {}, str(tmp_path / folder), null.fileno(), null.fileno(), [])
        family.start([sys.executable, "-c", "raise SystemExit(4)"], {}, ".", null.fileno(), null.fileno(), [])
    ended = family.wait(PATIENCE)
    assert ended is not None
    assert os.waitstatus_to_exitcode(ended.status) == 4


def test_arguments_and_environment_larger_than_a_socket_buffer_arrive(family, tmp_path):
    long = "x" * 100_000
    script = "import os, sys; print(len(sys.argv[1]), len(os.environ['A']), len(os.environ['Z']))"
    with open(tmp_path / "out", "wb") as out:
        family.start(
            [sys.executable, "-c", script, long],
            {"A": long, "Z": "z" * 120_000},
            str(tmp_path), out.fileno(), out.fileno(), [],
        )  # fmt: skip
    family.wait(PATIENCE)
    assert (tmp_path / "out").read_text() == "100000 100000 120000\n"


def test_bytes_that_are_no_text_arrive_in_environment_and_folder(family, tmp_path):
    folder = os.fsdecode(bytes(tmp_path) + b"/\xff\xfe")
    os.mkdir(folder)
    with open(tmp_path / "out", "wb") as out:
        script = "import os; print(os.environb[b'ODD'] == b'\\xff', os.getcwdb().endswith(b'\\xff\\xfe'))"
        family.start(
            [sys.executable, "-c", script], {"ODD": os.fsdecode(b"\xff")}, folder, out.fileno(), out.fileno(), []
        )
    family.wait(PATIENCE)
    assert (tmp_path / "out").read_text() == "True True\n"


def test_a_signal_reaches_the_process_and_one_too_late_does_no_harm(start: Start):
    started = start(
        """
        import signal, sys, time
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    started.text()
    started.family.signal(signal.SIGUSR1)
    ended = started.family.wait(PATIENCE)
    assert ended is not None
    assert os.waitstatus_to_exitcode(ended.status) == 9
    started.family.signal(signal.SIGUSR1)
    started.family.kill()
    assert started.family.wait(PATIENCE) == Ended(-1, 0)


def test_a_wait_that_is_too_short_ends_with_none(start: Start):
    started = start("import time; time.sleep(60)")
    begun = time.monotonic()
    assert started.family.wait(0.1) is None
    assert 0.1 <= time.monotonic() - begun < 1


def test_the_end_makes_the_control_socket_readable(start: Start):
    import select

    started = start("import time; time.sleep(0.2)")
    assert select.select([started.family.control], [], [], 0)[0] == []
    assert select.select([started.family.control], [], [], PATIENCE)[0]


def test_close_kills_what_lives_and_leaves_no_reaper(start: Start):
    started = start("import time; time.sleep(60)")
    process = psutil.Process(started.pid)
    reaper = process.parent()
    assert reaper is not None
    started.family.close()
    assert gone([process])
    assert not reaper.is_running()


SUPERVISOR = """
import os, signal, sys, time
from prs_dask.worker_process.family import ProcessFamily

script = {script!r}
family = ProcessFamily()
out = os.open({output!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
print(family.start([sys.executable, "-c", script], {{}}, "/tmp", out, out, []), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("script", HIDERS.values(), ids=HIDERS.keys())
def test_when_the_supervisor_is_killed_the_family_dies_too(script: str, tmp_path: Path, no_leaks: None):
    output = tmp_path / "out"
    program = SUPERVISOR.format(script=textwrap.dedent(script) + END, output=str(output))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as supervisor:
        assert supervisor.stdout is not None
        leader = psutil.Process(int(supervisor.stdout.readline()))
        reaper = leader.parent()
        assert reaper is not None
        end = time.monotonic() + PATIENCE
        while not output.read_text().endswith("\n0\n") and time.monotonic() < end:
            time.sleep(0.01)
        hidden = [psutil.Process(int(line)) for line in output.read_text().split() if line != "0"]
        assert hidden
        supervisor.kill()
    assert gone([leader, reaper, *hidden])


def test_a_killed_reaper_is_noticed_and_the_process_dies(start: Start):
    started = start("import time; time.sleep(60)")
    process = psutil.Process(started.pid)
    reaper = process.parent()
    assert reaper is not None
    reaper.kill()
    assert gone([process])
    ended = started.family.wait(PATIENCE)
    assert ended == Ended(-1, 0)
    assert describe_status(-1) == "is gone, nobody knows how"


def test_a_supervisor_that_is_stopped_for_too_long_has_no_worker_process(tmp_path, no_leaks):
    script = """
        import os, sys
        from prs_dask.worker_process.family import ProcessFamily

        family = ProcessFamily(unattended_seconds=0.9)
        null = os.open(os.devnull, os.O_WRONLY)
        print(family.start([sys.executable, "-c", "import time; time.sleep(60)"], {}, "/", null, null, []), flush=True)
        print(family.wait(60).unattended, flush=True)
        print(family.start([sys.executable, "-c", "import time; time.sleep(60)"], {}, "/", null, null, []), flush=True)
        print(family.wait(2), flush=True)
        family.close()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as supervisor:
        worker_process = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        worker_process.wait(PATIENCE)
        assert time.monotonic() - begun > 0.5
        supervisor.send_signal(signal.SIGCONT)
        assert supervisor.stdout.readline() == "True\n"
        assert psutil.pid_exists(int(supervisor.stdout.readline()))  # it goes on with another one
        assert supervisor.stdout.readline() == "None\n"

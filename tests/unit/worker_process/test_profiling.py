"""Profiles, in real worker processes: what they measure, and when they are written."""

from __future__ import annotations

import pstats
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace as Space

import pytest

from prs_dask.entry_script.host import ScriptHost
from prs_dask.errors import EntryScriptError
from prs_dask.worker_process import profiling
from prs_dask.worker_process.phase import Phase
from prs_dask.worker_process.profiling import TimeProfile, profile_of

SCRIPT = """
    import time

    def score(path):
        return path.upper()

    def run(mini_batch):
        if mini_batch == ["hang"]:
            time.sleep(60)
        return [score(path) for path in mini_batch]
"""


def path_of(child) -> Path:
    return Path(child.setup.log_folder) / "process007.profile"


def calls(path) -> dict[str, int]:
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    return {name: counts[1] for (_, _, name), counts in stats.items()}


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_leaves_the_profile_of_all_it_has_run(start):
    child = start(SCRIPT, profiling_module="cProfile").ready()
    for _ in range(3):
        assert child.run("a", "b").rows == b"A\nB\n"
    child.quit()
    assert calls(path_of(child))["score"] == 6
    assert calls(path_of(child))["run"] == 3


def test_without_being_asked_there_is_none(start):
    child = start(SCRIPT).ready()
    child.run()
    child.quit()
    assert not path_of(child).exists()


def test_one_that_is_killed_leaves_what_was_written_between_mini_batches(start):
    child = start(SCRIPT, profiling_module="cProfile").ready()
    child.run("a", "b", "c")
    child.work(["hang"])
    child.phase(Phase.RUN)
    child.process.send_signal(signal.SIGKILL)
    child.ended()
    assert calls(path_of(child))["score"] == 3


def test_it_is_not_written_within_the_limits_of_a_mini_batch(start):
    child = start(
        """
        import builtins, os, time
        from cProfile import Profile

        def slowly(self, path, dump_stats=Profile.dump_stats):
            time.sleep(0.5)
            dump_stats(self, path)

        Profile.dump_stats = slowly

        def run(mini_batch):
            return mini_batch
        """,
        profiling_module="cProfile",
    ).ready()
    child.work(["a"], ["b"])
    first = child.outcome()
    reading = child.phase(Phase.IDLE)
    assert reading.sequence == -1
    second = child.outcome()
    assert second.header.started - first.header.started > 0.45
    assert second.header.elapsed < 0.3
    assert second.header.cpu < 0.3


def test_what_a_generator_does_is_measured_too(start):
    child = start(
        """
        def score(path): return path

        def run(mini_batch):
            for path in mini_batch:
                yield score(path)
        """,
        profiling_module="cProfile",
    ).ready()
    assert child.run("a", "b").rows == b"a\nb\n"
    child.quit()
    assert calls(path_of(child))["score"] == 2


def test_errors_are_told_as_without_a_profile(start):
    script = "def run(mini_batch):\n    raise ValueError('no')\n"
    with_one, without = (start(script, profiling_module=module).ready().run() for module in ("cProfile", None))
    assert with_one.error is not None
    assert without.error is not None
    assert with_one.error[:2] == without.error[:2]
    assert with_one.error.where == without.error.where
    assert "profiling.py" not in with_one.error.traceback


def test_a_context_is_handed_over(start):
    script = "def run(mini_batch, context):\n    return [context.minibatch_index]\n"
    child = start(script, profiling_module="cProfile").ready()
    assert child.run("a").rows == b"100\n"


def test_a_profile_that_cannot_be_written_costs_nothing_but_itself(start):
    child = start(SCRIPT, profiling_module="cProfile").ready()
    (path_of(child).with_name("process007.profile.new")).mkdir()
    assert child.run("a").error is None
    assert child.run("a").error is None
    child.quit()
    assert child.stderr().count("no more profile of this process: IsADirectoryError") == 1


@pytest.fixture
def time_profile(tmp_path):
    told = []
    profile = TimeProfile(str(tmp_path / "a.profile"), told.append)
    host = ScriptHost()
    host.run_function = lambda mini_batch: mini_batch
    profile.follow(host)
    return Space(profile=profile, run=host.run_function, told=told, path=tmp_path / "a.profile")


def test_it_is_written_every_few_seconds_at_most(time_profile, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(profiling, "time", Space(monotonic=lambda: now))
    assert not time_profile.profile.is_due
    written = 0
    for _ in range(100):
        time_profile.run(["a"])
        if time_profile.profile.is_due:
            time_profile.profile.save()
            written += 1
        now += 0.1
    assert written == 2
    assert time_profile.path.exists()


def test_the_longer_a_process_has_run_the_seldomer_it_is_written_up_to_a_minute(time_profile, monkeypatch):
    begun = now = time.monotonic()
    monkeypatch.setattr(profiling, "time", Space(monotonic=lambda: now))
    written = []
    while now < begun + 3600:
        time_profile.run(["a"])
        if time_profile.profile.is_due:
            time_profile.profile.save()
            written.append(now - begun)
        now += 1.0
    pauses = [later - earlier for earlier, later in pairwise(written)]
    assert all(4 < pause <= max(6, after / 10 + 2, 5) for pause, after in zip(pauses, written, strict=False))
    assert max(pauses) <= 61
    assert len(written) < 90


def test_where_the_script_has_a_profiler_of_its_own_there_is_none_of_ours(time_profile, monkeypatch):
    def taken():
        raise ValueError("Another profiling tool is already active")

    time_profile.profile._profiler = Space(enable=taken, disable=lambda: None)
    assert time_profile.run(["a"]) == ["a"]
    assert time_profile.run(["a"]) == ["a"]
    assert not time_profile.profile.is_due or time_profile.profile.save() is None
    assert time_profile.told == [
        "no more profile of this process: ValueError: Another profiling tool is already active"
    ]


def test_memray_that_is_missing_is_said_in_words(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "memray", None)
    with pytest.raises(
        EntryScriptError, match=r"memray, which is not installed where.*pip install 'prs-dask\[memray\]'"
    ):
        profile_of("memray", str(tmp_path), "process000")


class Tracker:
    """memray's, as far as it is used."""

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        self.path.write_text("entered")

    def __exit__(self, *how):
        self.path.write_text("left")
        raise RuntimeError("nobody is to hear of it")


def test_memray_follows_a_process_from_the_beginning_to_the_end(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "memray", Space(Tracker=Tracker))
    profile = profile_of("memray", str(tmp_path), "process000")
    path = tmp_path / "process000.memray.bin"
    assert path.read_text() == "entered"
    assert not profile.is_due
    profile.end()
    assert path.read_text() == "left"


def test_one_that_has_given_up_is_not_due_again(tmp_path):
    told = []
    profile = TimeProfile(str(tmp_path / "a.profile"), told.append)

    def cannot():
        raise ValueError("another profiling tool is already active")

    profile._profiler = Space(enable=cannot, disable=lambda: None)
    host = Space(run_function=lambda batch: batch)
    profile.follow(host)
    for _ in range(2):
        assert host.run_function(["a"]) == ["a"]
        assert not profile.is_due
    assert len(told) == 1

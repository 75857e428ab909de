"""One fetcher a node, whichever supervisor has started it; nothing of it outlives the last of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from prs_dask.datasets import ReadSpec
from prs_dask.engine.fetch_ahead import FetchAhead
from prs_dask.mini_batches import FileMiniBatch, encode
from prs_dask.stores.options import StorageOptions
from prs_dask.worker_process.frames import FetcherSetup

SECRET = "c4n4ry-of-the-options"


@pytest.fixture
def folder(tmp_path, no_leaks):
    deep = tmp_path.joinpath(*["a-long-name-for-a-folder"] * 6)  # more than a socket's address can hold
    deep.mkdir(parents=True)
    return deep


@pytest.fixture
def objects(tmp_path):
    """A store: a folder that fsspec reads."""
    (tmp_path / "objects").mkdir()
    for number in range(100):
        (tmp_path / "objects" / str(number)).write_text(f"content {number}")
    return tmp_path / "objects"


@pytest.fixture
def supervisor(folder) -> Iterator[Callable[[], FetchAhead]]:
    made = []

    def make() -> FetchAhead:
        readers = (ReadSpec("files", mode="download", storage=StorageOptions({"auto_mkdir": SECRET})),)
        setup = FetcherSetup(readers, str(folder / "cache"), None, tuple(filter(None, sys.path)))
        made.append(FetchAhead(folder, setup, {"PATH": "/usr/bin:/bin"}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def expect(fetching, objects, *numbers):
    fetching.expect([encode(FileMiniBatch(0, (f"file://{objects}/{number}",))) for number in numbers])


def fetched(folder):
    # os.walk passes over folders that are renamed meanwhile, as the cache does; glob would raise.
    names = [name for _, _, names in os.walk(folder / "cache") for name in names]
    return sorted(int(name) for name in names if name.isdecimal())


def expect_until_fetched(fetching, objects, folder, number):
    """Hints are lost while there is no fetcher."""

    def come():
        expect(fetching, objects, number)
        time.sleep(0.05)
        return number in fetched(folder)

    wait_for(come)


def fetchers():
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("worker_process.fetcher" in word for word in process.cmdline()):
                found.append(process)
    return found


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_expected_comes_into_the_cache(supervisor, objects, folder):
    fetching = supervisor()
    expect(fetching, objects, 1, 2)
    expect(fetching, objects, 3)
    wait_for(lambda: fetched(folder) == [1, 2, 3])


def test_supervisors_of_a_node_share_one_and_another_takes_over(supervisor, objects, folder):
    first, second = supervisor(), supervisor()
    expect(first, objects, 1)
    expect(second, objects, 2)
    wait_for(lambda: fetched(folder) == [1, 2])
    assert len(fetchers()) == 1
    owner, other = (first, second) if first._family is not None else (second, first)
    owner.close()
    wait_for(lambda: not fetchers())
    expect_until_fetched(other, objects, folder, 3)
    assert len(fetchers()) == 1


def test_one_that_was_killed_is_replaced(supervisor, objects, folder):
    fetching = supervisor()
    expect(fetching, objects, 1)
    wait_for(lambda: fetched(folder) == [1])
    [process] = fetchers()
    process.kill()
    process.wait()
    expect_until_fetched(fetching, objects, folder, 2)


def test_one_that_hangs_holds_nobody_up(supervisor, objects, folder):
    fetching = supervisor()
    expect(fetching, objects, 1)
    wait_for(lambda: fetched(folder) == [1])
    fetchers()[0].send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    for _ in range(2000):
        expect(fetching, objects, *range(50))
    assert time.monotonic() - begun < 5
    fetching.close()
    assert time.monotonic() - begun < 25
    assert not fetchers()


def test_what_cannot_be_fetched_is_passed_over_in_silence(supervisor, objects, folder, capfd):
    fetching = supervisor()
    fetching.expect([encode(FileMiniBatch(0, (f"file://{objects}/missing", "no-store://x", f"file://{objects}/4")))])
    wait_for(lambda: fetched(folder) == [4])
    assert capfd.readouterr() == ("", "")


def test_options_stand_in_no_argument_variable_or_file(supervisor, objects, folder):
    fetching = supervisor()
    expect(fetching, objects, 1)
    wait_for(lambda: fetched(folder) == [1])
    for process in psutil.Process().children(recursive=True):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{name}", "rb") as file:
                assert SECRET.encode() not in file.read()
    wait_for(lambda: not any((folder / "cache" / "new").iterdir()))  # a download's own folder goes behind it
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_it_dies_with_the_process_that_started_it(supervisor, objects, folder):
    def be_killed():
        fetching = supervisor()
        expect(fetching, objects, 1)
        wait_for(lambda: fetched(folder) == [1])
        os.kill(os.getpid(), signal.SIGKILL)

    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=be_killed)
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    process.close()

    def alive():
        return [
            one
            for one in psutil.process_iter(["cmdline"])
            if any(str(folder) in word for word in one.info["cmdline"] or ())
            or ("worker_process.fetcher" in " ".join(one.info["cmdline"] or ()) and _in_folder(one, folder))
        ]

    wait_for(lambda: not alive())


def _in_folder(process, folder):
    with suppress(psutil.Error):
        return process.cwd() == str(folder)
    return False

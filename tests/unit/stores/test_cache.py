"""The node's cache: right bytes, one download, bounded, whoever dies or writes to it."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from prs_dask.errors import ReadError
from prs_dask.stores import cache as module
from prs_dask.stores import shelves
from prs_dask.stores.cache import NodeCache
from prs_dask.stores.file_info import FileInfo

CONTEXT = multiprocessing.get_context("fork")


def stands(folder):
    """Names of the files that the cache has, whole or in part."""
    return sorted(path.name for path in [*folder.glob("*/files/*/*"), *folder.glob("new/*/file")])


def bytes_in(folder):
    return sum(path.stat().st_size for path in [*folder.glob("*/files/*/*"), *folder.glob("new/*/file")])


def used_in(cache):
    with cache._new_locks() as own, cache._ledger.open(own) as counts:
        return counts.used


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_file_is_downloaded_once_and_called_as_in_its_url(new_cache, store):
    cache = new_cache()
    path = cache.hold(store.file("scan.png"), store.download(store.file("scan.png")))
    assert os.path.basename(path) == "scan.png"
    assert cache.hold(store.file("scan.png"), store.download(store.file("scan.png"))) == path
    assert new_cache().hold(store.file("scan.png"), store.download(store.file("scan.png"))) == path
    assert store.downloads == ["scan.png"]


def test_equal_names_and_other_versions_never_meet(new_cache, store):
    cache = new_cache()
    paths = {
        cache.hold(FileInfo(url, store.size, version), store.download(FileInfo(url, store.size, version)))
        for url in ("fake://a/x.csv", "fake://b/x.csv")
        for version in "12"
    }
    assert len(paths) == 4
    assert {os.path.basename(path) for path in paths} == {"x.csv"}


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 300 + ".csv", "new\nline", " ", "a.b.entry", "raw\udcff", "*?[x]"])
def test_odd_names_are_kept_as_far_as_the_disk_takes_them(new_cache, tmp_path, name):
    file = FileInfo("fake://box/" + name, 3, "1")
    path = new_cache().hold(file, lambda target: target.write_bytes(b"abc") and None)
    assert Path(path).read_bytes() == b"abc"
    assert os.path.basename(path) == name or len(os.fsencode(name)) > 255


def test_a_file_whose_size_is_not_known_is_taken_as_it_comes(new_cache, store, folder):
    file = FileInfo("fake://box/a")
    assert Path(new_cache(50).hold(file, store.download(file))).stat().st_size == store.size


def test_a_file_that_was_changed_since_it_was_listed_is_a_read_error(new_cache, store, folder):
    file = store.file("a")._replace(size=99)
    with pytest.raises(ReadError, match=r"fake://box/a: found 100 bytes, 99 when it was listed"):
        new_cache().hold(file, store.download(file))
    assert stands(folder) == []


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), PermissionError("403"), KeyboardInterrupt()])
def test_what_the_store_raises_comes_through_and_leaves_nothing(new_cache, store, folder, error):
    def fail(_):
        raise error

    store.hook = fail
    cache = new_cache()
    with pytest.raises(type(error)):
        store.hold(cache, "a")
    assert stands(folder) == []
    store.hook = lambda _: None
    assert store.hold(cache, "a") == store.content("a")


# -------------------------------------------------------------------- several processes


def _hold(folder, store, name, ready, results):
    cache = NodeCache(folder, 1 << 30)
    ready.wait()
    results.put(store.hold(cache, name))
    cache.close()


def test_whoever_wants_a_file_at_once_shares_one_download(new_cache, store, start, folder):
    new_cache()
    store.seconds = 0.2
    ready, results = CONTEXT.Event(), CONTEXT.SimpleQueue()
    processes = [start(_hold, folder, store, "a", ready, results) for _ in range(4)]
    ready.set()
    assert [results.get() for _ in processes] == [store.content("a")] * 4
    assert store.downloads == ["a"]
    results.close()


def test_threads_of_a_process_share_one_download(new_cache, store):
    cache, found = new_cache(), []
    store.seconds = 0.1
    threads = [threading.Thread(target=lambda: found.append(store.hold(cache, "a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [store.content("a")] * 4
    assert store.downloads == ["a"]


def _die_at(folder, store, stage, number):
    def hook(reached):
        if reached == stage:
            os.kill(os.getpid(), number)

    store.hook = hook
    cache = NodeCache(folder, 1 << 30)
    store.hold(cache, "a")
    if stage == "held":
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("stage", ["begun", "half", "written", "held"])
def test_a_killed_downloader_or_reader_costs_nobody_else_anything(new_cache, store, start, folder, stage):
    cache = new_cache(250)
    process = start(_die_at, folder, store, stage, signal.SIGKILL)
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    assert store.hold(cache, "a") == store.content("a")
    cache.let_go()
    for name in "bcdef":  # what the dead one left behind is cleared when its room is needed
        assert store.hold(cache, name) == store.content(name)
        cache.let_go()
        assert bytes_in(folder) <= 350
    assert not list(folder.glob("new/*"))


def test_a_downloader_that_stands_still_is_overtaken(new_cache, store, start, folder, monkeypatch):
    monkeypatch.setattr(module, "STANDSTILL_SECONDS", 0.3)
    cache = new_cache()
    process = start(_die_at, folder, store, "half", signal.SIGSTOP)
    wait_for(lambda: store.downloads)
    begun = time.monotonic()
    assert store.hold(cache, "a") == store.content("a")
    assert 0.25 < time.monotonic() - begun < 20
    os.kill(process.pid, signal.SIGCONT)
    process.join(10)
    assert process.exitcode == 0
    assert store.hold(cache, "a") == store.content("a")
    assert stands(folder) == ["a"]


def test_a_slow_download_that_goes_on_is_waited_for(new_cache, store, start, folder, monkeypatch):
    monkeypatch.setattr(module, "STANDSTILL_SECONDS", 1.5)
    cache = new_cache()
    store.seconds = 3.0
    ready, results = CONTEXT.Event(), CONTEXT.SimpleQueue()
    ready.set()
    start(_hold, folder, store, "a", ready, results)
    wait_for(lambda: store.downloads)
    assert store.hold(cache, "a") == store.content("a")
    assert store.downloads == ["a"]
    results.get()
    results.close()


def _fail_slowly(folder, store):
    def hook(reached):
        if reached == "written":
            raise FileNotFoundError("gone meanwhile")

    store.hook = hook
    store.fetch_ahead(NodeCache(folder), "a")


def test_who_waits_for_a_download_that_fails_meets_the_cause_himself(new_cache, store, start, folder):
    cache = new_cache()
    store.seconds = 0.3
    start(_fail_slowly, folder, store)
    wait_for(lambda: store.downloads)

    def hook(_):
        raise PermissionError("403 for fake://box/a")

    store.hook = hook
    with pytest.raises(PermissionError, match="403"):
        store.hold(cache, "a")


# -------------------------------------------------------------------- user code


def _damage(path, how):
    match how:
        case "deleted":
            os.unlink(path)
        case "folder deleted":
            shutil.rmtree(os.path.dirname(path))
        case "truncated":
            os.truncate(path, 0)
        case "overwritten":
            size = os.path.getsize(path)
            with open(path, "r+b") as file:
                file.write(b"!" * size)
        case "replaced":
            with open(path + "2", "wb") as file:
                file.write(b"!" * os.path.getsize(path))
            os.rename(path + "2", path)
        case "a link":
            os.unlink(path)
            os.symlink("/etc/passwd", path)
        case "a folder":
            os.unlink(path)
            os.mkdir(path)
            Path(path, "x").touch()
        case "its folder is a file":
            shutil.rmtree(os.path.dirname(path))
            Path(os.path.dirname(path)).touch()
        case "the cache deleted":
            shutil.rmtree(Path(path).parents[3])


@pytest.mark.parametrize(
    "how",
    [
        "deleted",
        "folder deleted",
        "truncated",
        "overwritten",
        "replaced",
        "a link",
        "a folder",
        "its folder is a file",
        "the cache deleted",
    ],
)
def test_what_user_code_does_to_a_file_is_undone_for_the_next_attempt(new_cache, store, how):
    cache, other = new_cache(), new_cache()
    path = cache.hold(store.file("a"), store.download(store.file("a")))
    _damage(path, how)
    assert store.hold(other, "a") == store.content("a")
    cache.let_go()
    assert store.hold(cache, "a") == store.content("a")
    assert store.downloads == ["a", "a"]


def test_user_code_that_closes_all_descriptors_costs_the_locks_only(new_cache, store):
    cache = new_cache()
    store.hold(cache, "a")
    os.close(cache._held._descriptor)
    cache.let_go()
    assert store.hold(cache, "a") == store.content("a")
    with cache._new_locks() as own:
        assert not cache._remove(own, module._key(store.file("a")))


# -------------------------------------------------------------------- room


def test_what_is_unused_for_the_longest_goes_first_and_what_is_held_stays(new_cache, store, folder):
    cache, reader = new_cache(330), new_cache()
    store.hold(reader, "held")
    for name in "abcde":
        store.hold(cache, name)
        cache.let_go()
        time.sleep(0.01)
        if name != "a":
            store.hold(cache, "a")
            cache.let_go()
            time.sleep(0.01)
    assert stands(folder) == ["a", "e", "held"]
    assert store.downloads == ["held", *"abcde"]


def test_a_file_larger_than_the_bound_is_brought_and_everything_unused_goes(new_cache, store, folder):
    cache = new_cache(150)
    store.hold(cache, "small")
    cache.let_go()
    store.size = 1000
    assert store.hold(cache, "large") == store.content("large")
    assert stands(folder) == ["large"]
    assert not store.fetch_ahead(cache, "other")


def test_what_is_needed_is_brought_although_all_that_is_held_fills_the_bound(new_cache, store, folder):
    cache = new_cache(250)
    for name in "abcd":
        assert store.hold(cache, name) == store.content(name)
    assert stands(folder) == [*"abcd"]
    cache.let_go()
    store.hold(cache, "e")
    assert len(stands(folder)) == 2


def test_fetching_ahead_takes_the_room_of_used_files_only(new_cache, store, folder):
    cache = new_cache(300)
    store.hold(cache, "used")
    cache.let_go()
    assert [store.fetch_ahead(cache, name) for name in "abcd"] == [True, True, True, False]
    assert stands(folder) == [*"abc"]
    assert store.hold(cache, "d") == store.content("d")
    assert stands(folder) == [*"bcd"]


def test_the_first_bound_counts_for_all(new_cache, store, folder):
    new_cache(200)
    cache = new_cache(1 << 30)
    for name in "abc":
        store.hold(cache, name)
        cache.let_go()
    assert len(stands(folder)) <= 2


def test_without_a_bound_half_of_the_free_disk_may_be_used(new_cache, folder):
    cache = new_cache(None)
    with cache._new_locks() as own, cache._ledger.open(own) as counts:
        assert counts.bound == pytest.approx(shutil.disk_usage(folder).free / 2, rel=0.1)


def test_on_a_full_disk_everything_unused_makes_room(new_cache, store, folder):
    cache, full = new_cache(), []

    def hook(reached):
        if reached == "half" and not full:
            full.append(stands(folder))
            raise OSError(errno.ENOSPC, "No space left on device")

    store.hold(cache, "a")
    cache.let_go()
    store.hook = hook
    assert store.hold(cache, "b") == store.content("b")
    assert full == [["a", "file"]]
    assert stands(folder) == ["b"]
    assert used_in(cache) == 100


def test_a_disk_that_stays_full_is_told_with_what_to_do(new_cache, store, folder):
    def hook(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store.hook = hook
    cache = new_cache()
    with pytest.raises(OSError, match=r"no space left on this node's disk for fake://box/a of 100 bytes.*free some"):
        store.hold(cache, "a")
    assert used_in(cache) == 0


def _use_at_random(folder, store, seed):
    chance = random.Random(seed)
    cache = NodeCache(folder, 1000)
    while True:
        names = chance.sample([f"f{number}" for number in range(40)], 3)
        for name in names:
            if chance.random() < 0.3:
                store.fetch_ahead(cache, name)
        for name in names:
            assert store.hold(cache, name) == store.content(name)
        cache.let_go()


def test_processes_killed_at_any_moment_leave_a_cache_that_is_right_and_bounded(new_cache, store, start, folder):
    cache = new_cache(1000)
    chance = random.Random(5)
    processes = [start(_use_at_random, folder, store, seed) for seed in range(3)]
    for seed in range(25):
        time.sleep(chance.uniform(0.02, 0.08))
        victim = processes.pop(chance.randrange(len(processes)))
        assert victim.is_alive(), "a process has found wrong bytes"
        os.kill(victim.pid, signal.SIGKILL)
        processes.append(start(_use_at_random, folder, store, 100 + seed))
    for process in processes:
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    for number in range(40):
        assert store.hold(cache, f"f{number}") == store.content(f"f{number}")
        cache.let_go()
    assert not list(folder.glob("new/*"))
    there = bytes_in(folder)
    assert there <= 1000
    assert there <= used_in(cache) <= 1000


CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "pwrite", "utime")


def _dies_at(number):
    """This process is killed before its so many-th change of a file or folder from now on."""
    left = [number]

    def counting(call):
        def counted(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    for name in CHANGES:
        setattr(os, name, counting(getattr(os, name)))


@pytest.mark.timeout(120)
def test_who_dies_between_any_two_steps_of_making_room_leaves_nothing_broken(tmp_path, store):
    number, died = 0, True
    while died:
        number += 1
        folder = tmp_path / str(number)
        cache = NodeCache(folder, 350)
        for name in "abc":
            store.hold(cache, name)
        cache.let_go()
        store.hold(cache, "c")  # in use
        child = os.fork()
        if child == 0:
            other = NodeCache(folder, 350)
            _dies_at(number)
            other.hold(store.file("d"), store.download(store.file("d")))
            os._exit(0)
        died = os.waitpid(child, 0)[1] == signal.SIGKILL
        assert Path(folder, *stands_at(folder, "c")).read_bytes() == store.content("c")
        there = bytes_in(folder)
        assert there <= 350
        assert used_in(cache) >= there
        for name in "dabe":
            assert store.hold(cache, name) == store.content(name)
            cache.let_go()
        assert not list(folder.glob("new/*"))
        assert bytes_in(folder) <= used_in(cache) <= 350
        told = [*folder.glob("*/used/*"), *folder.glob("*/waiting/*")]
        assert {path.name for path in told} >= {path.name for path in folder.glob("*/files/*")}
        cache.close()
    assert number > 15


def stands_at(folder, name):
    [path] = folder.glob(f"*/files/*/{name}")
    return path.relative_to(folder).parts


def test_among_very_many_files_a_sample_is_compared_and_none_in_use_goes(new_cache, store, folder, monkeypatch):
    monkeypatch.setattr(shelves, "SAMPLE", 20)
    monkeypatch.setattr(module, "AT_ONCE", 5)
    store.size = 10
    cache, reader = new_cache(3000), new_cache()
    for number in range(300):
        store.hold(reader if number % 3 == 0 else cache, f"f{number}")
        cache.let_go()
    looked = []
    find = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looked.append(path) or find(path))
    for number in range(300, 310):
        store.hold(cache, f"f{number}")
        cache.let_go()
    left = set(stands(folder))
    assert {f"f{number}" for number in range(0, 300, 3)} <= left
    assert len(left) <= 300
    assert len(looked) < 300, "it has looked at all of them"
    old = len(left & {f"f{number}" for number in range(150)}) - 50
    new = len(left & {f"f{number}" for number in range(150, 300)}) - 50
    assert old <= new


def test_where_thousands_are_in_use_not_all_are_looked_at_again_and_again(new_cache, store, folder, monkeypatch):
    monkeypatch.setattr(shelves, "SAMPLE", 10)
    monkeypatch.setattr(module, "LOOK_AT", 20)
    store.size = 10
    cache = new_cache(1000)
    for number in range(150):
        store.hold(cache, f"f{number}")
    assert len(stands(folder)) == 150
    assert not store.fetch_ahead(new_cache(), "g")


def test_what_a_download_had_set_aside_is_taken_off_once(new_cache, store, folder, monkeypatch):
    """Whoever clears up has seen its folder, and it ends before he looks whether its owner lives."""
    cache = new_cache(350)
    for name in "abc":
        store.hold(cache, name)
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["key.100.gone"] if str(path).endswith("new") else listed(path))
    cache.let_go()
    store.hold(cache, "d")
    assert used_in(cache) == bytes_in(folder)


def test_whoever_removes_holds_up_nobody_for_whom_there_is_room(new_cache, store, folder):
    cache = new_cache(1000)
    with cache._new_locks() as own:
        own.take_waiting("room")
        assert store.hold(cache, "a") == store.content("a")

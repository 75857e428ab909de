"""What worker processes write reaches the scheduler once, also where its answer is lost or the supervisor is killed."""

import asyncio
import contextlib
import multiprocessing
import os
import signal

import pytest

from prs_dask.engine import changing_file, log_shipping, shipper
from prs_dask.engine.log_folder import LogFolder
from prs_dask.engine.log_shipping import SpoolFile
from prs_dask.engine.sent_notes import write_note
from prs_dask.engine.shipper import Shipper, profile_files, spool_files
from prs_dask.engine.spool import NodeFolder


class Scheduler:
    """As much of the plugin as takes pieces: a call that has come before adds nothing."""

    def __init__(self):
        self.numbers = {}
        self.calls = []
        self.streams = {}
        self.told = []
        self.files = {}
        self.coming = {}

    async def __call__(self, call, sender, number, pieces):
        assert call == "logs"
        self.calls.append((sender, number))
        if number > self.numbers.get(sender, 0):
            self.numbers[sender] = number
            for piece in pieces:
                if "name" in piece:
                    self.take(piece)
                    continue
                key = (piece["stream"], piece["process"])
                self.streams[key] = self.streams.get(key, b"") + piece["data"]
                self.told += [piece] if piece["stream"] == "process" else []
        return {}

    def take(self, piece):
        key = (piece["process"], piece["name"])
        before = b"" if piece.get("whole") else self.coming.get(key, self.files.get(key, b""))
        into = self.coming if piece.get("more") else self.files
        self.coming.pop(key, None)
        into[key] = before + piece["data"]


@pytest.fixture
def scheduler():
    return Scheduler()


def write(folder, process, **streams):
    """Append to the files of a process as it would."""
    name = f"process{process:03d}"
    files = spool_files(folder, name, 0, process)
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with file.path.open("ab") as stream:
            stream.write(streams.get(file.stream, b""))
    return files


def test_all_files_and_news_come_once_and_in_order(scheduler, tmp_path):
    async def main():
        ours = Shipper(scheduler, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=b"a", stderr=b"e"))
        ours.watch(write(tmp_path, 2, log=b"l"))
        ours.tell({"stream": "process", "process": 1, "event": "ready"})
        await ours.ship()
        write(tmp_path, 1, stdout=b"b")
        await ours.ship()
        await ours.ship(last=True)

    asyncio.run(main())
    streams = {key: data for key, data in scheduler.streams.items() if data}
    assert streams == {("stdout", 1): b"ab", ("stderr", 1): b"e", ("log", 2): b"l"}
    assert [news["event"] for news in scheduler.told] == ["ready"]
    assert [number for _, number in scheduler.calls] == list(range(1, len(scheduler.calls) + 1))


def test_the_files_of_a_process_that_has_ended_are_shipped_to_their_end_and_removed(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    monkeypatch.setattr(shipper, "PIECES_A_ROUND", 2)

    async def main():
        ours = Shipper(scheduler, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=bytes(range(100))))
        ours.watch(write(tmp_path, 2, stdout=bytes(range(100))))
        ours.process_closed(1)
        for number in range(1, 7):
            await ours.ship()
            for process in (1, 2):
                assert scheduler.streams["stdout", process] == bytes(range(100))[: 20 * number]
        assert not list((tmp_path / "process001").rglob("*.txt*"))
        assert list((tmp_path / "process002").rglob("*.txt*"))

    asyncio.run(main())


def memray(folder, process, size):
    """The files of a process with memory's profile among them."""
    files = write(folder, process, stdout=b"printed\n")
    files += profile_files(folder, f"process{process:03d}", 0, process, ("memray",))
    files[-1].path.write_bytes(b"m" * size)
    return files


def test_large_files_of_processes_that_have_ended_hold_up_nothing_and_come_whole(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    monkeypatch.setattr(shipper, "PIECES_A_ROUND", 4)

    async def main():
        ours = Shipper(scheduler, tmp_path)
        for process in (1, 2):
            ours.watch(memray(tmp_path, process, 100))
            ours.process_closed(process)
        ours.watch(write(tmp_path, 3))
        for number in range(7):
            calls = len(scheduler.calls)
            write(tmp_path, 3, stdout=b"%d" % number)
            await ours.ship()
            assert scheduler.streams["stdout", 3].endswith(b"%d" % number)
            assert len(scheduler.calls) - calls <= 4 + 3

    asyncio.run(main())
    assert scheduler.streams["memray", 1] == scheduler.streams["memray", 2] == b"m" * 100
    assert not list(tmp_path.glob("process00[12]/**/*.*"))


def test_in_the_last_round_large_files_come_behind_all_others(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    order = []

    async def noting(call, sender, number, pieces):
        order.extend(piece["stream"] for piece in pieces)
        return await scheduler(call, sender, number, pieces)

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(memray(tmp_path, 1, 200))
        ours.watch(write(tmp_path, 2, stdout=b"s" * 200))
        await ours.ship(last=True)

    asyncio.run(main())
    assert order == ["stdout"] * 21 + ["memray"] * 20
    assert scheduler.streams["memray", 1] == b"m" * 200


def test_a_flood_does_not_hold_up_the_others(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    order = []

    async def noting(call, sender, number, pieces):
        order.append(pieces[0]["process"])
        return {}

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=b"x" * 50))
        ours.watch(write(tmp_path, 2, stdout=b"y" * 5))
        await ours.ship()

    asyncio.run(main())
    assert order == [1, 2, 1, 1, 1, 1]


class Noting:
    """A scheduler that keeps the faults that it is told of."""

    def __init__(self, scheduler):
        self.scheduler, self.faults, self.events = scheduler, [], []

    async def __call__(self, call, pieces, **arguments):
        self.faults += [piece["text"] for piece in pieces if piece.get("kind") == "fault"]
        self.events += [piece["event"] for piece in pieces if piece.get("kind") == "process"]
        return await self.scheduler(call, pieces=[piece for piece in pieces if "stream" in piece], **arguments)


def failing(monkeypatch, of, method, times, error):
    """Have a method fail so many times, and then be as before."""
    right, left = getattr(of, method), [times]

    def wrong(self, *arguments, **how):
        if left[0] > 0:
            left[0] -= 1
            raise error
        return right(self, *arguments, **how)

    monkeypatch.setattr(of, method, wrong)


def test_what_cannot_be_read_is_told_once_and_the_others_are_shipped(scheduler, tmp_path):
    noting = Noting(scheduler)

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=b"a", stderr=b"e"))
        ours.watch([], folder_of(tmp_path))
        replaced = own_log(tmp_path, "replaced", b"file")
        await ours.ship()
        replaced.unlink()
        (replaced / "within").mkdir(parents=True)
        for name in ("stdout.txt", "logs/metrics.jsonl"):
            path = tmp_path / "process001" / name
            path.unlink()
            path.mkdir()
        for _ in range(3):
            await ours.ship()
        with (tmp_path / "process001" / "stderr.txt").open("ab") as stream:
            stream.write(b"rror")
        ours.process_closed(1)
        await ours.ship()

    asyncio.run(main())
    assert scheduler.streams["stderr", 1] == b"error"
    assert len(noting.faults) == 2
    assert "stdout.txt is not shipped: Is a directory" in noting.faults[0]


@pytest.mark.parametrize("error", [RecursionError("too deep"), OSError(5, "Input/output error"), MemoryError()])
def test_a_log_dir_that_cannot_be_looked_at_is_told_once_and_all_else_is_shipped(
    scheduler, tmp_path, monkeypatch, error
):
    failing(monkeypatch, LogFolder, "with_news", 1000, error)
    noting = Noting(scheduler)

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(write(tmp_path, 1), folder_of(tmp_path))
        for number in range(6):
            ours.tell({"kind": "process", "event": number})
            write(tmp_path, 1, stdout=b"%d" % number)
            await ours.ship()

    asyncio.run(main())
    assert scheduler.streams["stdout", 1] == b"012345"
    assert noting.events == list(range(6))
    [fault] = noting.faults
    assert "logs/files is not shipped" in fault


def test_news_stay_where_their_call_fails(scheduler, tmp_path):
    noting, left = Noting(scheduler), [1]

    async def failing_once(call, **arguments):
        if left:
            raise MemoryError(left.pop())
        return await noting(call, **arguments)

    async def main():
        ours = Shipper(failing_once, tmp_path)
        ours.tell({"kind": "process", "event": "ready"})
        with pytest.raises(MemoryError):
            await ours.ship()
        ours.tell({"kind": "process", "event": "ended"})
        await ours.ship()
        await ours.ship()

    asyncio.run(main())
    assert noting.events == ["ready", "ended"]


def test_what_cannot_be_read_when_its_process_has_ended_is_tried_again_before_it_is_removed(
    scheduler, tmp_path, monkeypatch
):
    failing(monkeypatch, SpoolFile, "next_piece", shipper.TRIES - 1, OSError(5, "Input/output error"))
    noting = Noting(scheduler)

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=b"a")[:1])
        ours.process_closed(1)
        for _ in range(shipper.TRIES - 1):
            await ours.ship()
            assert (tmp_path / "process001/stdout.txt").exists()
        await ours.ship()

    asyncio.run(main())
    assert scheduler.streams["stdout", 1] == b"a"
    assert noting.faults == []
    assert not (tmp_path / "process001/stdout.txt").exists()


@pytest.mark.parametrize("last", [True, False])
def test_what_cannot_be_read_at_all_is_told_and_then_removed(scheduler, tmp_path, monkeypatch, last):
    monkeypatch.setattr(shipper, "TRY_SECONDS", 0.01)
    failing(monkeypatch, SpoolFile, "next_piece", 1000, OSError(5, "Input/output error"))
    noting = Noting(scheduler)

    async def main():
        ours = Shipper(noting, tmp_path)
        ours.watch(write(tmp_path, 1, stdout=b"a")[:1])
        ours.process_closed(1)
        for _ in range(1 if last else shipper.TRIES + 1):
            await ours.ship(last=last)

    asyncio.run(main())
    [fault] = noting.faults
    assert fault.endswith("process001/stdout.txt is not shipped: Input/output error")
    assert not (tmp_path / "process001/stdout.txt").exists()


class Killed(BaseException):
    """Where a supervisor is killed."""


@pytest.mark.parametrize("came", [True, False], ids=["the call had come", "it had not"])
@pytest.mark.parametrize("after", range(7))
def test_whenever_a_supervisor_is_killed_another_sends_the_rest_once(
    scheduler, tmp_path, monkeypatch, no_leaks, after, came
):
    """Killed in its so many-th call, before or after the scheduler has it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    other = NodeFolder("run", "node")
    dead = NodeFolder("run", "node")
    files = write(dead.own, 1, stdout=b"0123456789abcdefghijXYZ", stderr=b"e" * 15)
    files += write(dead.own, 12, log=b"l" * 25)

    async def until_killed(call, **arguments):
        if scheduler.numbers.get(dead.own.name, 0) == after:
            if came:
                await scheduler(call, **arguments)
            raise Killed
        return await scheduler(call, **arguments)

    async def main():
        ours = Shipper(until_killed, dead.own)
        ours.watch(files)
        with pytest.raises(Killed):
            await ours.ship()
        dead._own_lock.close()  # what the kernel does
        write(dead.own, 1, stdout=b" last words")
        await Shipper.adopt(scheduler, other, 0)
        assert dead.own.exists()  # its processes may still write
        await Shipper.adopt(scheduler, other, 0)

    asyncio.run(main())
    assert scheduler.streams == {
        ("stdout", 1): b"0123456789abcdefghijXYZ last words",
        ("stderr", 1): b"e" * 15,
        ("log", 12): b"l" * 25,
    }
    assert not dead.own.exists()
    dead._lock.close()
    other.close()


@pytest.mark.parametrize("killed_in", ["the call that tells", "the next call"])
@pytest.mark.parametrize("came", [True, False], ids=["the call had come", "it had not"])
def test_what_was_told_and_what_was_removed_counts_among_the_calls_of_a_supervisor_that_was_killed(
    scheduler, tmp_path, monkeypatch, no_leaks, came, killed_in
):
    """Neither leaves a note beside a file that lives on."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other, dead = NodeFolder("run", "node"), NodeFolder("run", "node")
    until = 5 if killed_in == "the next call" else 4

    async def until_killed(call, number, **arguments):
        if number == until:
            if came:
                await scheduler(call, number=number, **arguments)
            raise Killed
        return await scheduler(call, number=number, **arguments)

    async def main():
        ours = Shipper(until_killed, dead.own)
        ours.watch(write(dead.own, 1, stdout=b"a"))
        ours.watch(write(dead.own, 2, stdout=b"b"))
        await ours.ship()
        write(dead.own, 2, stdout=b"last of two")
        ours.process_closed(2)
        await ours.ship()
        ours.tell({"stream": "process", "process": 1, "event": "failed"})
        write(dead.own, 1, stdout=b" more")
        with pytest.raises(Killed):
            await ours.ship()
        dead._own_lock.close()
        write(dead.own, 1, stdout=b" last words", stderr=b"e")
        await Shipper.adopt(scheduler, other, 0, last=True)

    asyncio.run(main())
    assert scheduler.streams["stdout", 1] == b"a more last words"
    assert scheduler.streams["stdout", 2] == b"blast of two"
    assert scheduler.streams["stderr", 1] == b"e"
    dead._lock.close()
    other.close()


@pytest.mark.parametrize("again", range(1, 4))
def test_one_who_adopts_may_be_killed_too(scheduler, tmp_path, monkeypatch, no_leaks, again):
    """The first of them is killed between the note of a call and that of what it sends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    last, other, dead = NodeFolder("run", "node"), NodeFolder("run", "node"), NodeFolder("run", "node")
    files = write(dead.own, 1, stdout=b"a")
    own_log(dead.own, "below", b"").with_name("link").symlink_to("below")

    async def killed_later(call, **arguments):
        if len(scheduler.calls) == again:
            raise Killed
        return await scheduler(call, **arguments)

    async def main():
        ours = Shipper(scheduler, dead.own)
        ours.watch(files)
        await ours.ship()
        write(dead.own, 1, stdout=b" more")
        write_note(dead.own / shipper.CALL, 2)
        dead._own_lock.close()
        with contextlib.suppress(Killed):
            await Shipper.adopt(killed_later, other, 0, last=True)
        other._adopted.popitem()[1].close()
        await Shipper.adopt(scheduler, last, 0, last=True)

    asyncio.run(main())
    assert scheduler.streams["stdout", 1] == b"a more"
    dead._lock.close()
    other.close()
    last.close()


@pytest.mark.parametrize("came", [True, False], ids=["the call had come", "it had not"])
def test_a_flood_comes_once_where_a_supervisor_is_killed_in_the_call_that_left_its_middle_out(
    scheduler, tmp_path, monkeypatch, no_leaks, came
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, size in {"PIECE_BYTES": 200, "BACKLOG_BYTES": 1000, "HEAD_BYTES": 200, "TAIL_BYTES": 100}.items():
        monkeypatch.setattr(log_shipping, name, size)
    other, dead = NodeFolder("run", "node"), NodeFolder("run", "node")
    files = write(dead.own, 1, stdout=b"".join(b"line %04d\n" % number for number in range(500)))

    async def until_killed(call, **arguments):
        if came:
            await scheduler(call, **arguments)
        raise Killed

    async def main():
        ours = Shipper(until_killed, dead.own)
        ours.watch(files)
        with pytest.raises(Killed):
            await ours.ship()
        dead._own_lock.close()
        write(dead.own, 1, stdout=b"last words")
        await Shipper.adopt(scheduler, other, 0, last=True)

    asyncio.run(main())
    lines = scheduler.streams["stdout", 1].splitlines()
    told = [f"line {number:04d}".encode() for number in (*range(20), *range(491, 500))]
    assert lines == [*told[:20], b"[prs_dask: 4710 bytes left out here]", *told[20:], b"last words"]
    dead._lock.close()
    other.close()


def own_log(folder, name, data, mode="ab"):
    """Write to a file of the script's own in the log_dir of process 1."""
    path = folder / "process001" / "logs" / "files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as stream:
        stream.write(data)
    return path


def folder_of(folder, process=1):
    return LogFolder(folder / f"process{process:03d}", 0, process)


def test_files_of_the_scripts_own_are_found_sent_and_when_their_process_has_ended_removed(scheduler, tmp_path):
    async def main():
        ours = Shipper(scheduler, tmp_path)
        ours.watch([], folder_of(tmp_path))
        await ours.ship()
        own_log(tmp_path, "a.txt", b"one ")
        await ours.ship()
        own_log(tmp_path, "a.txt", b"two")
        own_log(tmp_path, "below/b.txt", b"b").with_name("link").symlink_to("b.txt")
        await ours.ship()
        ours.process_closed(1)
        own_log(tmp_path, "last.txt", b"last")
        await ours.ship()
        await ours.ship(last=True)

    asyncio.run(main())
    assert scheduler.files == {(1, b"a.txt"): b"one two", (1, b"below/b.txt"): b"b", (1, b"last.txt"): b"last"}
    assert scheduler.streams["log", 1] == b"[prs_dask: log_dir: below/link is not sent: it is a link]\n"
    assert not (tmp_path / "process001" / "logs" / "files").exists()


@pytest.mark.parametrize("came", [True, False], ids=["the call had come", "it had not"])
@pytest.mark.parametrize("after", range(7))
def test_whenever_a_supervisor_is_killed_files_of_the_scripts_own_are_whole_in_the_end(
    scheduler, tmp_path, monkeypatch, no_leaks, after, came
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    monkeypatch.setattr(changing_file, "REWRITTEN_BYTES_A_SECOND", 1 << 60)
    other, dead = NodeFolder("run", "node"), NodeFolder("run", "node")
    own_log(dead.own, "grows", b"0123456789abc")
    own_log(dead.own, "rewritten", b"old")

    async def until_killed(call, **arguments):
        if scheduler.numbers.get(dead.own.name, 0) == after:
            if came:
                await scheduler(call, **arguments)
            raise Killed
        return await scheduler(call, **arguments)

    async def main():
        ours = Shipper(until_killed, dead.own)
        ours.watch([], folder_of(dead.own))
        with contextlib.suppress(Killed):
            await ours.ship()
            own_log(dead.own, "grows", b"defghijklmnop")
            own_log(dead.own, "rewritten", b"new and longer than a piece", "wb")
            await ours.ship()
        dead._own_lock.close()
        own_log(dead.own, "grows", b" last words")
        await Shipper.adopt(scheduler, other, 0, last=True)

    asyncio.run(main())
    final = (b"new and longer than a piece", b"old") if after < 3 else (b"new and longer than a piece",)
    assert scheduler.files[1, b"rewritten"] in final
    assert scheduler.files[1, b"grows"] in (b"0123456789abc last words", b"0123456789abcdefghijklmnop last words")
    dead._lock.close()
    other.close()


def hold(folder):
    node = NodeFolder("run", "node")
    folder.send(str(node.own))
    signal.pause()


def test_a_living_supervisors_folder_is_no_orphan_and_a_killed_ones_is_found_by_one_alone(
    tmp_path, monkeypatch, no_leaks
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = NodeFolder("run", "node"), NodeFolder("run", "node")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(theirs,))
    process.start()
    held = ours.recv()
    assert first.orphans(at_once=True) == []
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = [str(path) for folder in (first, second) for path in folder.orphans(at_once=True)]
    assert found == [held]
    for end in (ours, theirs):
        end.close()
    process.close()
    first.close()
    second.close()


def test_the_next_supervisor_of_a_node_finds_what_all_before_it_have_left(scheduler, tmp_path, monkeypatch, no_leaks):
    """Where a node has one worker, nobody holds its folder between its death and its successor."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = NodeFolder("run", "node")
    write(dead.own, 3, stdout=b"so far")
    dead._own_lock.close()
    dead._lock.close()
    after = NodeFolder("run", "node")
    asyncio.run(Shipper.adopt(scheduler, after, 0, last=True))
    assert scheduler.streams["stdout", 3] == b"so far"
    after.close()


def orphan(**streams):
    """The folder of a supervisor that was killed."""
    dead = NodeFolder("run", "node")
    write(dead.own, 1, **streams)
    write(dead.own, 2, stdout=b"of another process")
    dead._own_lock.close()
    dead._lock.close()
    return dead.own


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("no more")])
@pytest.mark.parametrize("failing_method", ["resume", "next_piece"])
@pytest.mark.parametrize("times", [1, 2])
def test_what_cannot_be_read_at_first_of_what_is_adopted_is_tried_again(
    scheduler, tmp_path, monkeypatch, no_leaks, failing_method, error, times
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(shipper, "TRY_SECONDS", 0.01)
    ours, noting = NodeFolder("run", "node"), Noting(scheduler)
    dead = orphan(stdout=b"a", stderr=b"e", log=b"l")
    failing(monkeypatch, SpoolFile, failing_method, times, error)
    asyncio.run(Shipper.adopt(noting, ours, 0, last=True))
    streams = {("stdout", 1): b"a", ("stderr", 1): b"e", ("log", 1): b"l", ("stdout", 2): b"of another process"}
    assert scheduler.streams == streams
    assert noting.faults == []
    assert not dead.exists()
    ours.close()


def test_one_bad_file_of_what_is_adopted_is_told_and_the_others_come(scheduler, tmp_path, monkeypatch, no_leaks):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(shipper, "TRY_SECONDS", 0.01)
    ours, noting = NodeFolder("run", "node"), Noting(scheduler)
    dead = orphan(stderr=b"e")
    (dead / "process001/stdout.txt").unlink()
    (dead / "process001/stdout.txt").mkdir()
    asyncio.run(Shipper.adopt(noting, ours, 0, last=True))
    assert scheduler.streams == {("stderr", 1): b"e", ("stdout", 2): b"of another process"}
    [fault] = noting.faults
    assert "stdout.txt is not shipped: Is a directory" in fault
    assert not dead.exists()
    ours.close()


def test_what_could_not_be_adopted_is_found_again_and_what_was_holds_nothing_open(
    scheduler, tmp_path, monkeypatch, no_leaks
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = NodeFolder("run", "node")
    folders = [orphan(stdout=b"a"), orphan(stdout=b"b")]
    came = []

    async def fails_for_one(call, sender, **arguments):
        if sender == folders[0].name and len(came) < 3:
            came.append(sender)
            raise MemoryError("no more")
        return await scheduler(call, sender=sender, **arguments)

    async def main():
        with pytest.raises(ExceptionGroup):
            await Shipper.adopt(fails_for_one, ours, 0, last=True)
        assert [folder.exists() for folder in folders] == [True, False]
        for _ in range(2):
            with pytest.raises(ExceptionGroup):
                await Shipper.adopt(fails_for_one, ours, 0)
        await Shipper.adopt(fails_for_one, ours, 0)

    asyncio.run(main())
    assert sorted(scheduler.streams["stdout", 1]) == sorted(b"ab")
    assert not folders[0].exists()
    assert not ours._adopted
    assert not ours._suspects
    ours.close()


def test_where_the_number_of_a_call_could_not_be_noted_the_files_tell_it(scheduler, tmp_path, monkeypatch, no_leaks):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours, dead = NodeFolder("run", "node"), NodeFolder("run", "node")

    async def main():
        theirs = Shipper(scheduler, dead.own)
        theirs.watch(write(dead.own, 1, stdout=b"a", stderr=b"e"))
        await theirs.ship()
        write_note(dead.own / shipper.CALL, 1)  # the note of the second one failed: the disk was full
        write(dead.own, 1, stdout=b" more")
        dead._own_lock.close()
        await Shipper.adopt(scheduler, ours, 0, last=True)

    asyncio.run(main())
    assert scheduler.streams == {("stdout", 1): b"a more", ("stderr", 1): b"e"}
    dead._lock.close()
    ours.close()

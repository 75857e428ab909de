"""Files of a slow store: fetched while run() works, once a node, every row once whoever is killed, nothing left."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import LocalCluster

from prs_dask.datasets import FileDataset, ReadSpec
from prs_dask.mini_batches import FileMiniBatch, MiniBatch

READ = """
import os, time

def run(mini_batch):
    rows = []
    for path in mini_batch:
        assert path.startswith("/"), path
        with open(path) as file:
            rows.append(file.read())
        assert rows[-1] == os.path.basename(path).partition(".")[0], (rows, path)
    time.sleep({seconds})
    return rows
"""


class SlowServer:
    """Files ``<number>.txt`` that hold their number; each takes a while, and is counted."""

    def __init__(self) -> None:
        self.seconds = 0.1
        self.served: Counter[str] = Counter()
        self.hang: set[str] = set()
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                outer.served[self.path] += 1
                if self.path in outer.hang:
                    outer.ended.wait(60)
                outer.ended.wait(outer.seconds)
                self.answer(with_body=True)

            def answer(self, *, with_body: bool) -> None:
                body = self.path.strip("/").partition(".")[0].encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

            def handle(self) -> None:
                with suppress(OSError):  # whoever asked has been killed
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{number:04d}.txt"

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True, kw_only=True)
class Served(FileDataset):
    """Its files, without asking the server for a listing."""

    urls: tuple[str, ...] = ()

    def check(self) -> None:
        """There is nothing to look at."""

    def reader(self) -> ReadSpec:
        return ReadSpec("files", mode="download")

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        for first in range(0, len(self.urls), mini_batch_size):
            yield FileMiniBatch(input_index, self.urls[first : first + mini_batch_size])


@pytest.fixture
def server() -> Iterator[SlowServer]:
    server = SlowServer()
    yield server
    server.close()


def served(server: SlowServer, count: int) -> Served:
    return Served(paths=("/data",), urls=tuple(map(server.url, range(count))))


def with_word(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    """Those in whose command lines this stands; reapers are their parents."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            one = process.parent() if word == "reaper.py" else process
            if one is not None and any(word in part for part in one.cmdline()):
                found.append(one)
    return found


def node_folders(run_id: str) -> list[Path]:
    return list(Path(tempfile.gettempdir(), f"prs-dask-{os.getuid()}").glob(f"{run_id}-*"))


def seconds_of_reading(done: Any) -> float:
    """Of all attempts but the first of each process, which loads the store's packages."""
    first: set[str] = set()
    seconds = 0.0
    for row in sorted(done.attempts, key=lambda row: int(row["Mini-batch Id"])):
        if row["Process"] in first:
            seconds += float(row["Elapsed Seconds"]) - float(row["Run Method Seconds"])
        first.add(row["Process"])
    return seconds


def test_files_come_while_run_works(job: Callable[..., Any], server: SlowServer) -> None:
    """40 mini-batches of 200 ms on two processes take 4 s; downloads of 100 ms before each would add 2 s."""
    done = job(READ.format(seconds=0.2), inputs=served(server, 40), mini_batch_size=1)
    assert done.items == list(range(40))
    assert set(server.served.values()) == {1}
    assert seconds_of_reading(done) < 0.5 * 38 * 0.1
    assert not node_folders(done.run.id)


def test_a_file_in_many_mini_batches_of_several_processes_is_downloaded_once(
    job: Callable[..., Any], server: SlowServer
) -> None:
    urls = [server.url(number % 10) for number in range(60)]
    done = job(READ.format(seconds=0.01), inputs=Served(paths=("/data",), urls=tuple(urls)), mini_batch_size=3)
    assert done.items == sorted([*range(10)] * 6)
    assert set(server.served.values()) == {1}


def test_a_small_cache_slows_down_and_changes_nothing(job: Callable[..., Any], server: SlowServer) -> None:
    server.seconds = 0.01
    done = job(READ.format(seconds=0.01), inputs=served(server, 60), mini_batch_size=4, input_cache_size=12)
    assert done.items == list(range(60))


def test_a_retry_gets_the_right_bytes_whatever_the_first_attempt_did_to_them(
    job: Callable[..., Any], server: SlowServer
) -> None:
    script = """
        import os, shutil
        from prs_dask import EntryScript

        def run(mini_batch, context):
            rows = [open(path).read() for path in mini_batch]
            if context.attempt == 1:
                for place, path in enumerate(mini_batch):
                    if place == 0:
                        open(path, "w").write("nothing right")
                    elif place == 1:
                        os.unlink(path)
                    else:
                        shutil.rmtree(os.path.dirname(path))
                raise ValueError("once more")
            return rows
        """
    done = job(script, inputs=served(server, 12), mini_batch_size=3)
    assert done.items == list(range(12))
    assert set(server.served.values()) == {2}


def test_a_store_that_hangs_is_charged_as_reading_and_costs_the_others_nothing(
    job: Callable[..., Any], server: SlowServer
) -> None:
    server.hang = {"/0003.txt"}
    done = job(
        READ.format(seconds=0.05),
        inputs=served(server, 12),
        mini_batch_size=1,
        run_max_try=1,
        arguments=["--task_overhead_timeout", "3"],
    )
    assert done.items == [number for number in range(12) if number != 3]
    assert done.categories() == {"time limit": 1}
    assert "reading the mini-batch took longer than --task_overhead_timeout=3 s" in done.log("user/error.txt")


def test_nobody_waits_behind_a_slow_one_while_another_process_is_idle(
    job: Callable[..., Any], server: SlowServer
) -> None:
    """The process that runs number 4 holds another; that goes back when nothing else is left."""
    script = """
        import os, time

        def run(mini_batch):
            name = open(mini_batch[0]).read()
            time.sleep(5 if name == "0004" else 0.5)
            return [name]
        """
    server.seconds = 0.01
    done = job(script, inputs=served(server, 8), mini_batch_size=1)
    assert done.items == list(range(8))
    assert done.attempts[-1]["Mini-batch Id"] == "4", "the last one to end"


@pytest.mark.timeout(120)
def test_a_worker_that_joins_late_gets_what_was_claimed_ahead(
    submit: Callable[..., Any], server: SlowServer, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    """Two processes run the first and the last, for long; the process of the first holds another."""
    script = f"""
        import os, time

        def run(mini_batch):
            name = open(mini_batch[0]).read()
            while name in ("0000", "0007") and not os.path.exists({str(tmp_path / "over")!r}):
                time.sleep(0.05)
            time.sleep(0.2)
            return [name]
        """
    server.seconds = 0.01
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        run = submit(
            script,
            inputs=served(server, 8),
            mini_batch_size=1,
            run_invocation_timeout=100,
            process_count_per_node=3,
            compute_target=cluster.scheduler_address,
        )
        try:
            wait(lambda: run.summary().succeeded_mini_batches == 5, 40, "all but three")
            cluster.scale(3)
            wait(lambda: run.summary().succeeded_mini_batches == 6, 30, "the one that was held")
        finally:
            (tmp_path / "over").touch()
            run.wait_for_completion(timeout_seconds=60)
    assert sorted(run.output_file.read_text().split()) == [f"{number:04d}" for number in range(8)]


@pytest.mark.timeout(180)
def test_every_row_once_whoever_is_killed(
    submit: Callable[..., Any], server: SlowServer, living: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    """Worker processes, fetchers, reapers and Dask workers are killed while 300 files of a slow store are read."""
    server.seconds = 0.03
    chance = random.Random(11)
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, silence_logs=50) as cluster:
        run = submit(
            READ.format(seconds=0.05),
            inputs=served(server, 300),
            mini_batch_size=1,
            run_max_try=20,
            process_count_per_node=4,
            compute_target=cluster.scheduler_address,
        )
        killed: Counter[str] = Counter()
        while run.get_status() == "Running" and sum(killed.values()) < 16:
            time.sleep(0.25)
            kind = chance.choice(["worker_process.main", "worker_process.fetcher", "reaper.py", "worker"])
            if kind == "worker" and killed["worker"] < 2:
                nanny = chance.choice([*cluster.workers.values()])
                victims = [psutil.Process(nanny.pid)] if nanny.pid else []
            else:
                victims = with_word(living(run.id), kind)
            if victims:
                killed[kind] += 1
                with suppress(psutil.NoSuchProcess):
                    chance.choice(victims).send_signal(signal.SIGKILL)
        state = run.wait_for_completion(timeout_seconds=120, raise_on_error=False)
        assert state == "Completed", run.error
        assert set(killed) == {"worker_process.main", "worker_process.fetcher", "reaper.py", "worker"}
        rows = run.output_file.read_text().splitlines()
        assert sorted(map(int, rows)) == list(range(300))
        wait(lambda: not living(run.id), 10, "the end of all processes")
    wait(lambda: not node_folders(run.id), 5, "the end of the node's folder")

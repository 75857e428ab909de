"""Figures of inputs: scanning and reading text, listing very many files."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.ours import SCRIPTS, two_workers

__all__ = ["plan_as_lines", "plan_in_a_store", "read_csv", "scan_quotes", "small_files"]

Figure = dict[str, Any]
MIB = 1 << 20
WORDS = ("alpha", "beta", "gamma", "delta")

LINES: dict[str, Callable[[int, random.Random], str]] = {
    "no_quotes": lambda n, r: f"{n},{r.randrange(10**6)},{r.random():.6f},name {n},2024-01-02,{r.choice(WORDS)}\n",
    "few_quotes": lambda n, r: f"{n},name {n},{r.random():.4f},some text\n" + '1,"a, b",2,x\n' * (n % 50 == 0),
    "every_field_quoted": lambda n, r: f'"{n}","name {n}","{r.random():.4f}","some text, with comma {n}"\n',
    "quoted_newlines": lambda n, r: f'{n},name {n},{r.random():.4f},"some text\nthat goes on {n}"\n',
    "literal_quotes": lambda n, r: f'{n},pipe of {n % 9}" and more,{r.random():.4f},some text\n',
    "numbers": lambda n, r: ",".join(f"{r.gauss(0, 1):.6f}" for _ in range(10)) + "\n",
    "text": lambda n, r: f'{n},"customer {n}","some longer text, with a comma and {n} in it",{r.choice(WORDS)}\n',
}


def _table(folder: str, kind: str, size: int) -> Path:
    """A file of about ``size`` bytes with a header."""
    rng = random.Random(7)
    lines = [LINES[kind](number, rng) for number in range(20_000)]
    columns = lines[1].replace('"', "").count(",") + 1 if kind not in ("every_field_quoted", "text") else 4
    block = "".join(lines).encode()
    path = Path(folder) / f"{kind}.csv"
    with path.open("wb") as file:
        file.write(",".join(f"c{n}" for n in range(columns)).encode() + b"\n")
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path


def scan_quotes(scale: float) -> Figure:
    """Planning a CSV of 1 GB, which is one scan for quotes: MB a second of one core, by what stands in it."""
    from prs_dask.datasets import TabularDataset

    kinds = ("no_quotes", "few_quotes", "every_field_quoted", "quoted_newlines", "literal_quotes")
    figure: Figure = {"megabytes": round(1000 * scale)}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = _table(folder, kind, int(1e9 * scale))
            dataset = TabularDataset.from_delimited_files(path)
            dataset.plan(MIB, n=1)
            begun = time.process_time()
            count = sum(1 for _ in dataset.mini_batches(MIB))
            seconds = time.process_time() - begun
            figure[kind] = round(path.stat().st_size / 1e6 / seconds)
            figure["mini_batches"] = count
    return figure


def plan_as_lines(scale: float) -> Figure:
    """Planning with support_multi_line=False: bytes read of a file of 1 GB, and seconds."""
    from prs_dask.datasets import TabularDataset
    from prs_dask.datasets.text_file import PlainText

    read_at, read = PlainText.read_at, [0]

    def counting(text: PlainText, offset: int, size: int) -> bytes:
        data = read_at(text, offset, size)
        read[0] += len(data)
        return data

    with tempfile.TemporaryDirectory() as folder:
        path = _table(folder, "no_quotes", int(1e9 * scale))
        dataset = TabularDataset.from_delimited_files(path, support_multi_line=False)
        PlainText.read_at = counting  # type: ignore[method-assign]
        begun = time.perf_counter()
        count = sum(1 for _ in dataset.mini_batches(MIB))
        seconds = time.perf_counter() - begun
        PlainText.read_at = read_at  # type: ignore[method-assign]
        size = path.stat().st_size
    return {
        "mini_batches": count,
        "megabytes": round(size / 1e6),
        "megabytes_read": round(read[0] / 1e6, 1),
        "percent_read": round(100 * read[0] / size, 2),
        "seconds": round(seconds, 3),
    }


def plan_in_a_store(scale: float) -> Figure:
    """200 MB of CSV in a store that answers after 50 ms: seconds to plan, with one request at a time and many."""
    from unittest.mock import patch

    from prs_dask.datasets import TabularDataset, read_ahead

    figure: Figure = {"megabytes": round(200 * scale)}
    with tempfile.TemporaryDirectory() as folder:
        one = _table(folder, "text", int(2e8 * scale))
        many = _table(folder, "few_quotes", int(1e7 * scale)).rename(Path(folder, "many-00.csv"))
        for number in range(1, 20):
            os.link(many, Path(folder, f"many-{number:02}.csv"))
        command = [sys.executable, "-m", "tests.benchmarks.slow_store", folder, "0.05"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            options = {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{int(server.stdout.readline())}"}
            for name, paths in (("one_file", one.name), ("twenty_files", "many-*.csv")):
                for kind, multi_line in (("scanned", True), ("lines", False)):
                    dataset = TabularDataset.from_delimited_files(
                        f"s3://bucket/{paths}", storage_options=options, support_multi_line=multi_line
                    )
                    dataset.plan(MIB, n=1)
                    for how, most in (("in_turn", 1), ("ahead", read_ahead.MOST_AT_ONCE)):
                        with patch.multiple(read_ahead, FIRST_AT_ONCE=min(2, most), MOST_AT_ONCE=most):
                            begun = time.perf_counter()
                            list(dataset.mini_batches(MIB))
                            figure[f"{name}_{kind}_{how}"] = round(time.perf_counter() - begun, 2)
            server.communicate()
    return figure


def read_csv(scale: float) -> Figure:
    """A CSV of 200 MB in blocks of 1 MB: MB a second of one core, and against pandas.read_csv on the same blocks."""
    import pandas as pd

    from prs_dask.datasets import TabularDataset
    from prs_dask.datasets.reading import read

    figure: Figure = {}
    for kind in ("no_quotes", "numbers", "text"):
        with tempfile.TemporaryDirectory() as folder:
            path = _table(folder, kind, int(2e8 * scale))
            dataset = TabularDataset.from_delimited_files(path)
            spec, plan = dataset.reader(), dataset.plan(MIB)
            names = list(pd.read_csv(path, nrows=1))
            ours = theirs = 0.0
            with path.open("rb") as file:
                for batch in plan:  # in turn, so that both meet the same load
                    begun = time.process_time()
                    read(batch, spec)
                    between = time.process_time()
                    file.seek(batch.start)
                    pd.read_csv(io.BytesIO(file.read(batch.stop - batch.start)), names=names, header=None)
                    ours += between - begun
                    theirs += time.process_time() - between
            size = path.stat().st_size / 1e6
        figure |= {kind: round(size / ours), f"{kind}_pandas": round(size / theirs)}
        figure[f"{kind}_times"] = round(theirs / ours, 2)
    return figure


def small_files(scale: float) -> Figure:
    """1,000,000 small files in 1,000 folders: files listed a second, memory, seconds to the first run()."""
    folders, each = int(1000 * scale) or 1, 1000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "items"
        for number in range(folders):
            folder = root / f"{number:04d}"
            folder.mkdir(parents=True)
            for index in range(each):
                os.close(os.open(f"{folder}/{index:04d}.txt", os.O_CREAT | os.O_WRONLY))
        _in_turn(root)  # the kernel's cache is warm for all
        bare, listed = min(_in_turn(root) for _ in range(2))
        growth = float(_alone("print(growth(sys.argv[1]))", str(root)))
        first = float(_alone("print(first_run(sys.argv[1], sys.argv[2]))", str(root), name))
        begun = time.perf_counter()
    return {
        "files": folders * each,
        "listed_per_second": round(folders * each / listed),
        "scandir_with_stat_per_second": round(folders * each / bare),
        "times_scandir": round(bare / listed, 2),
        "memory_growth_mib": round(growth, 1),
        "seconds_to_first_run": round(first, 2),
        "removed_in": round(time.perf_counter() - begun, 1),
    }


def _in_turn(root: Path) -> tuple[float, float]:
    """Seconds of a bare recursive scandir with stat, and of the dataset's listing and cutting."""
    from prs_dask import FileDataset

    begun = time.perf_counter()
    for entry in _entries(str(root)):
        entry.stat()
    between = time.perf_counter()
    for _ in FileDataset.from_files(root).mini_batches(10):
        pass
    return between - begun, time.perf_counter() - between


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _entries(entry.path)
            else:
                yield entry


def _alone(code: str, *arguments: str) -> str:
    """What a line of code prints in a process of its own."""
    program = "import sys\nfrom tests.benchmarks.inputs import first_run, growth\n"
    program += f"if __name__ == '__main__':\n    {code}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(program)
        file.flush()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [sys.executable, file.name, *arguments], check=True, stdout=subprocess.PIPE, env=environment, text=True
        )
    return done.stdout.splitlines()[-1]


def growth(root: str) -> float:
    """MiB by which memory grows while all files are listed and cut, beyond the first 10,000."""
    from prs_dask import FileDataset

    def peak() -> int:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    before = 0
    for number, _ in enumerate(FileDataset.from_files(root).mini_batches(10)):
        if number == 1000:
            before = peak()
    return (peak() - before) / 1024


def first_run(root: str, folder: str) -> float:
    """Seconds from submit to the first run(), on a cluster that stands ready."""
    from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

    notes = Path(folder) / "notes"
    config = ParallelRunConfig(
        entry_script=SCRIPTS / "note_first.py",
        error_threshold=-1,
        output_action="append_row",
        process_count_per_node=2,
        environment_variables={"BENCHMARK_NOTES": str(notes)},
    )
    step = ParallelRunStep("benchmark", config, [FileDataset.from_files(root)], Path(folder) / "output")
    with two_workers() as client:
        begun = time.time()
        step_run = step.submit(run_folder=Path(folder) / "run", compute_target=client)
        while not notes.exists() or not notes.read_text():
            time.sleep(0.01)
        step_run.cancel()
        step_run.wait_for_completion(raise_on_error=False)
    return float(notes.read_text()) - begun

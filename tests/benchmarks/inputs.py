"""Figures of inputs: scanning and reading text."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.csv_readers import read_csv_blocks

__all__ = ["plan_as_lines", "plan_in_a_store", "read_csv", "scan_quotes"]

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
    """A CSV of 200 MB in blocks of 1 MB: MB a second of one core, and how many times the rate of pandas.read_csv."""
    return read_csv_blocks(_table, ("no_quotes", "numbers", "text"), int(2e8 * scale))

"""The first mini-batch holds the GIL for ever; init() and run() write when they begin."""

import os
import re
import time


def _note(word: str) -> None:
    with open(os.environ["BENCHMARK_NOTES"], "a") as notes:
        notes.write(f"{word} {time.time()}\n")


def init() -> None:
    _note("init")


def run(mini_batch: list[str]) -> list[str]:
    if mini_batch[0].startswith("0-"):
        _note("stuck")
        re.match(r"(a+)+$", "a" * 80 + "b")
    time.sleep(float(mini_batch[0].rpartition("-")[2]))
    return mini_batch

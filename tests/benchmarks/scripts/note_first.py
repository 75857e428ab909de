"""Writes when it first runs."""

import os
import time


def run(mini_batch: list[str]) -> list[str]:
    try:
        with open(os.environ["BENCHMARK_NOTES"], "x") as notes:
            notes.write(str(time.time()))
    except FileExistsError:
        pass
    return mini_batch

"""Sleeps as `sleep.py` does; one mini-batch hangs in the first process that runs it."""

import os
import time


def run(mini_batch: list[str]) -> list[str]:
    number, _, seconds = mini_batch[0].rpartition("-")
    if number == os.environ["BENCHMARK_HANGS"]:
        try:
            os.close(os.open(os.environ["BENCHMARK_MARK"], os.O_CREAT | os.O_EXCL))
            time.sleep(600)
        except FileExistsError:
            pass
    time.sleep(float(seconds))
    return [number]

"""Sleeps for as long as the mini-batch's one path says: ``<number>-<seconds>``; tells how long it took."""

import time


def run(mini_batch: list[str]) -> list[str]:
    seconds = float(mini_batch[0].rpartition("-")[2])
    begun = time.perf_counter()
    if seconds:
        time.sleep(seconds)
    return [f"{time.perf_counter() - begun:.6f}"]

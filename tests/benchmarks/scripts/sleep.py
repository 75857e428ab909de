"""Sleeps for as long as the mini-batch's one path says: ``<number>-<seconds>``."""

import time


def run(mini_batch: list[str]) -> list[str]:
    seconds = float(mini_batch[0].rpartition("-")[2])
    if seconds:
        time.sleep(seconds)
    return mini_batch

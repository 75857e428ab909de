"""Each mini-batch waits a little and is noted in a file of its process, beside its row."""

import os
import sys
import time


def init():
    global notes
    notes = os.open(os.path.join(sys.argv[1], f"{os.getpid()}.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def run(mini_batch):
    time.sleep(0.001)
    for path in mini_batch:
        os.write(notes, os.path.basename(path).encode() + b"\n")
    return [os.path.basename(path) for path in mini_batch]

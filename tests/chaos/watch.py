"""When the worker processes of a run died, as exactly as the machine allows.

The kernel tells the end of a process through its pidfd. Every process of user code has a trace
file named after it: a process is watched as soon as its file is there. How late the watch itself
was (it wants to wake every 20 ms) is written down too: that is how loaded the machine was, and by
so much a time limit may seem to be missed.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from pathlib import Path

__all__ = ["Watch"]

EVERY = 0.02
LATE = 0.05
"""What is worth writing down, in seconds."""


class Watch:
    """Watches the processes of a folder of traces until it is closed; writes ``deaths.jsonl`` and ``late.jsonl``."""

    def __init__(self, folder: Path) -> None:
        self._traces = folder / "traces"
        self._deaths = (folder / "deaths.jsonl").open("a")
        self._late = (folder / "late.jsonl").open("a")
        self._known: set[str] = set()
        self._by_descriptor: dict[int, int] = {}
        self._poll = select.poll()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """All that have died until now are written down."""
        self._over.set()
        self._thread.join()
        for descriptor in self._by_descriptor:
            os.close(descriptor)
        self._deaths.close()
        self._late.close()

    def _watch(self) -> None:
        while True:
            last = self._over.is_set()
            began = time.monotonic()
            self._look_for_new()
            for descriptor, _ in self._poll.poll(0 if last else EVERY * 1000):
                self._died(self._by_descriptor.pop(descriptor), seen=True)
                self._poll.unregister(descriptor)
                os.close(descriptor)
            now = time.monotonic()
            if now - began > EVERY + LATE:
                self._late.write(json.dumps({"time": now, "late": now - began - EVERY}) + "\n")
            if last:
                return

    def _look_for_new(self) -> None:
        for name in os.listdir(self._traces):
            if name in self._known:
                continue
            self._known.add(name)
            pid = int(name.partition("-")[0])
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                self._died(pid, seen=False)  # before anybody looked
                continue
            self._by_descriptor[descriptor] = pid
            self._poll.register(descriptor, select.POLLIN)

    def _died(self, pid: int, *, seen: bool) -> None:
        self._deaths.write(json.dumps({"pid": pid, "time": time.monotonic(), "seen": seen}) + "\n")
        self._deaths.flush()

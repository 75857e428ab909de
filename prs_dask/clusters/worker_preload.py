"""What a worker of a local cluster does at its start, through Dask's ``preload``.

A Ctrl-C in a terminal reaches every process that stands there, and would end the workers before
the step run can be cancelled in order. It is the driver's to decide: workers let it pass.
"""

from __future__ import annotations

import signal
import threading

__all__ = ["dask_setup"]


def dask_setup(worker: object) -> None:
    """Called by Dask in the worker's main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

"""What the node's NVIDIA GPUs do, by nvidia-ml-py where it is installed and finds some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Gpus"]

_MB = 1 << 20


class Gpus:
    """All GPUs of the node, whatever ``CUDA_VISIBLE_DEVICES`` says; none where nothing can be asked.

    Parameters
    ----------
    library
        The module ``pynvml``; imported where it is not given.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._handles: list[Any] = []
        try:
            if library is None:
                import pynvml

                self._library = library = pynvml
            library.nvmlInit()
            self._handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        except Exception:  # not installed, no driver, another version of it: a node without GPUs that could be asked
            self._handles = []

    def measure(self) -> list[list[float | None]]:
        """Of each: percent of the time in which it worked, memory used and in all (MB), percent of memory used.

        None for what a GPU does not tell, as one that is cut into instances (MIG).
        """
        return [self._one(handle) for handle in self._handles]

    def _one(self, handle: Any) -> list[float | None]:
        used = total = share = None
        utilization = self._or_none(lambda: self._library.nvmlDeviceGetUtilizationRates(handle).gpu)
        memory = self._or_none(lambda: self._library.nvmlDeviceGetMemoryInfo(handle))
        if memory is not None and memory.total:
            used, total = round(memory.used / _MB, 2), round(memory.total / _MB, 2)
            share = round(100 * memory.used / memory.total, 1)
        return [utilization, used, total, share]

    def _or_none(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._library.NVMLError:
            return None

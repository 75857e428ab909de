"""GPUs, as a stand-in for nvidia-ml-py tells of them; and nvidia-ml-py itself, on whatever machine this is."""

from __future__ import annotations

from types import SimpleNamespace as Space

import pynvml
import pytest

from prs_dask.worker_process.gpus import Gpus

MB = 1 << 20


class Library:
    """Two GPUs, of which the second is cut into instances and does not tell how busy it is."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self):
        self.ready = True

    def nvmlDeviceGetCount(self):
        assert self.ready
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return Space(gpu=87, memory=12)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return Space(total=80_000 * MB, used=20_000 * MB, free=60_000 * MB)


def test_each_gpu_tells_how_busy_and_how_full_it_is():
    assert Gpus(Library()).measure() == [[87, 20_000, 80_000, 25.0], [None, 20_000, 80_000, 25.0]]


def test_one_that_fails_later_keeps_its_columns():
    library = Library()
    gpus = Gpus(library)

    def lost(handle):
        raise library.NVMLError("GPU is lost")

    library.nvmlDeviceGetUtilizationRates = library.nvmlDeviceGetMemoryInfo = lost
    assert gpus.measure() == [[None] * 4] * 2


@pytest.mark.parametrize("fault", [Library.NVMLError("Driver Not Loaded"), AttributeError("an older one")])
def test_a_node_without_a_driver_has_none(fault):
    library = Library()

    def fails():
        raise fault

    library.nvmlInit = fails
    assert Gpus(library).measure() == []


def test_the_library_itself_tells_of_every_gpu_and_of_none_where_there_is_no_driver():
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        count = 0
    measured = Gpus().measure()
    assert len(measured) == count
    for _, used, total, share in measured:
        assert used is None or (0 <= used <= total and 0 <= share <= 100)


def test_neither_has_one_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert Gpus().measure() == []

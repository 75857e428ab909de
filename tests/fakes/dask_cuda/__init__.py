"""Stands for dask-cuda, which cannot be installed beside the newest Dask: as much of it as prs_dask meets.

Like the real one (26.10) it starts a worker for each GPU, with the list turned round so that its own one comes first,
adds a plugin of its own to each, asks for a CUDA context there, and leaves a variable and a setting behind in the
process that starts it.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import dask
from distributed import LocalCluster, WorkerPlugin


class CPUAffinity(WorkerPlugin):
    """The real one binds the worker to the cores that are close to its GPU."""


class LocalCUDACluster(LocalCluster):
    """A worker for each GPU."""

    def __init__(
        self,
        CUDA_VISIBLE_DEVICES: str,
        n_workers: int,
        threads_per_worker: int = 1,
        local_directory: str | None = None,
        **settings: Any,
    ) -> None:
        os.environ["RAPIDS_NO_INITIALIZE"] = "True"
        dask.config.set({"distributed-ucxx": {"tcp": None}})
        self._gpus = CUDA_VISIBLE_DEVICES.split(",")
        super().__init__(
            n_workers=0, threads_per_worker=threads_per_worker, local_directory=local_directory, **settings
        )
        options = self.new_spec["options"]
        options["preload"] = [*options.get("preload", []), "dask_cuda.initialize"]
        options["preload_argv"] = [*options.get("preload_argv", []), "--create-cuda-context"]
        self.scale(n_workers)
        self.sync(self._correct_state)

    def new_worker_spec(self) -> dict[Any, Any]:
        name = next(gpu for gpu in self._gpus if gpu not in self.worker_spec)
        place = self._gpus.index(name)
        spec = copy.deepcopy(self.new_spec)
        visible = ",".join(self._gpus[place:] + self._gpus[:place])
        spec["options"].update({"env": {"CUDA_VISIBLE_DEVICES": visible}, "plugins": {CPUAffinity()}})
        return {name: spec}

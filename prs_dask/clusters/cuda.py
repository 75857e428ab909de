"""The ``cuda`` target: a LocalCUDACluster of dask-cuda on this machine, as quiet as the local target's cluster.

It has a worker for each GPU, close to that GPU's cores, with a thread for each process that may use it. The workers
themselves do nothing on their GPUs: no context is made there, which would take memory from the processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dask
import distributed

from prs_dask.attempts.gpus import VISIBLE
from prs_dask.clusters.local import CLUSTER_ARGUMENTS, LastingCluster, OwnWorkers
from prs_dask.clusters.visible_gpus import seen_gpus
from prs_dask.errors import ClusterError

__all__ = ["open_cuda_workers"]

_SET_BY_DASK_CUDA = "RAPIDS_NO_INITIALIZE"


def open_cuda_workers(processes: int | None, per_gpu: int, wished: tuple[str, ...] | None) -> OwnWorkers:
    """Start it.

    Parameters
    ----------
    processes
        Worker processes in all; None: one for each GPU, or as many as may share it.
    per_gpu
        How many processes may share a GPU.
    wished
        What the step run may use by its own words; None: all GPUs that this process sees.

    Raises
    ------
    ClusterError
        dask-cuda is missing, or a GPU, or the workers cannot be started.
    """
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise ClusterError(
            f"compute_target 'cuda' needs dask-cuda, which cannot be imported here ({error}); "
            'try: pip install "prs-dask[cuda]"'
        ) from error
    gpus = seen_gpus().gpus if wished is None else wished
    if not gpus:
        raise ClusterError(_no_gpus(wished is not None))
    workers = len(gpus) if processes is None else min(processes, len(gpus))
    threads = per_gpu if processes is None else -(-processes // workers)
    what = f"the Dask workers of a cluster on GPU {', '.join(gpus)}"

    def start(folder: str, environment: dict[str, str]) -> distributed.LocalCluster:
        before = os.environ.get(_SET_BY_DASK_CUDA)
        try:
            with dask.config.set({"distributed-ucxx": {}}):  # dask-cuda would leave its own there
                cluster: distributed.LocalCluster = _quiet(LocalCUDACluster, environment)(
                    CUDA_VISIBLE_DEVICES=",".join(gpus),
                    n_workers=workers,
                    threads_per_worker=threads,
                    local_directory=folder,
                    **{**CLUSTER_ARGUMENTS, "preload": [CLUSTER_ARGUMENTS["preload"]]},
                )
        except (OSError, RuntimeError, TimeoutError):
            raise
        except Exception as error:  # what dask-cuda and NVML do not like
            raise ClusterError(f"{what} could not be started: {type(error).__name__}: {error}") from error
        finally:
            if before is None:
                os.environ.pop(_SET_BY_DASK_CUDA, None)
        return cluster

    return OwnWorkers(start, what, forked=False)


def _quiet(cluster_class: Any, environment: Mapping[str, str]) -> Any:
    """The class, but workers get these variables, too, and make no CUDA context."""

    class QuietCluster(cluster_class):  # type: ignore[misc]
        _update_worker_status = LastingCluster._update_worker_status

        def new_worker_spec(self) -> dict[Any, Any]:
            made: dict[Any, Any] = super().new_worker_spec()
            for spec in made.values():
                options = spec["options"]
                options["env"] = {**environment, **options["env"]}
                options["preload_argv"] = [word for word in options["preload_argv"] if word != "--create-cuda-context"]
            return made

    return QuietCluster


def _no_gpus(by_the_step: bool) -> str:
    found = os.environ.get(VISIBLE)
    if by_the_step:
        why = f"{VISIBLE} in environment_variables names none; it is a list such as 0,1"
    elif found is not None:
        why = f"{VISIBLE}={found} names none; unset it, or name some, such as 0,1"
    else:
        why = "the NVIDIA driver tells of none; see what  nvidia-smi -L  says"
    return f"compute_target 'cuda' needs an NVIDIA GPU: {why}; or run without: compute_target=\"local\""

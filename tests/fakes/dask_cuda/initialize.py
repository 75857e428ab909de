"""What workers of dask-cuda load at their start; a context would need a GPU."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.option("--create-cuda-context/--no-create-cuda-context", default=False)
def dask_setup(worker: Any, create_cuda_context: bool) -> None:
    """Called by Dask in the worker."""
    if create_cuda_context:
        raise RuntimeError("there is no GPU to make a context on")

"""``python -m tests.benchmarks``: figures as JSON lines.

Timings of a shared machine are noisy: read the ratios, which are of things measured in one run.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from importlib.metadata import version

import click

from tests.benchmarks.figures import FIGURES


@click.command(help="Measure figures (all unless some are named) and print a JSON line for each.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(FIGURES)))
@click.option("--scale", default=1.0, show_default=True, help="Factor on the number of mini-batches.")
@click.option("--repeat", default=1, show_default=True, help="Measure each so often.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, writable=True),
    help="Where what is measured lies, instead of the folder for temporary files: another disk, or none at all.",
)
def main(names: tuple[str, ...], scale: float, repeat: int, folder: str | None) -> None:
    """Print the machine, then each figure."""
    tempfile.tempdir = folder
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        **{package: version(package) for package in ("dask", "distributed", "prs-dask")},
    }
    print(json.dumps(about), flush=True)
    for name in names or FIGURES:
        for _ in range(repeat):
            load = round(os.getloadavg()[0], 2)
            print(json.dumps({"figure": name, **FIGURES[name](scale), "load_before": load}), flush=True)


if __name__ == "__main__":
    main()

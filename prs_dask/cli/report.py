"""``prs-dask report``: what happened in a step run, as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: report.html in the run folder.",
)
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
def report(run_folder: Path, output: Path | None, open_it: bool) -> None:
    """Write the report of the step run in RUN_FOLDER: one HTML file that needs no network.

    The step run may be finished, running or broken. Needs the extra report: pip install 'prs-dask[report]'.
    """
    from prs_dask.cli.terminal_text import tell
    from prs_dask.report.writing import write_report

    path = write_report(run_folder, output)
    tell(path)
    if open_it:
        click.launch(path.as_uri())

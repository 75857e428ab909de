"""``prs-dask demo``: a whole job on real data that comes with scikit-learn."""

from __future__ import annotations

import signal
from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.argument("name", type=click.Choice(["digits", "wine"]), default="digits")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="prs_demo",
    show_default=True,
    help="Where input, entry script, output and logs go.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Worker processes. Default: one for each core.")
@click.pass_context
def demo(ctx: click.Context, name: str, folder: Path, processes: int | None) -> None:
    """Identify handwritten digits from images (digits), or tell wines apart from a table (wine)."""
    from prs_dask.cli.terminal_text import tell
    from prs_dask.errors import Fault, SettingsError

    try:
        from prs_dask.demo import run_demo

        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # parallel_run cancels at a KeyboardInterrupt
        code = run_demo(name, folder, processes, tell)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("sklearn", "PIL", "joblib", "scipy"):
            raise
        found = f"{error.name}, which is not installed"
        raise SettingsError([Fault("demo", found, "the extra demo", "pip install 'prs-dask[demo]'")]) from None
    ctx.exit(code)

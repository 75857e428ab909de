"""``prs-dask run``: a step, from its settings to its exit code."""

from __future__ import annotations

from typing import Any

import click

from prs_dask.cli.flags import StepCommand, step_flags
from prs_dask.cli.progress_display import display_for, progress_flag

__all__ = ["run"]


@click.command(cls=StepCommand)
@step_flags
@click.option("--run-folder", metavar="FOLDER", help="Where journal and logs go. Default: a new one in prs_runs.")
@progress_flag
@click.pass_context
def run(ctx: click.Context, /, step_file: str | None, run_folder: str | None, progress_kind: str, **flags: Any) -> None:
    """Run a step: STEP_FILE (YAML), or flags, or both; flags win.

    Everything after -- goes to the entry script.

    \b
    prs-dask run --entry-script score.py --input scans --output scores --output-action append_row
    prs-dask run step.yml --run-max-try 1 -- --threshold 0.5
    """
    from prs_dask.cli.interrupts import Interrupts

    # From here on Ctrl-C is looked at where it is safe: Python ends with a code of its own where a
    # KeyboardInterrupt rises in the middle of some imports, whoever catches it.
    with Interrupts() as interrupts:
        from prs_dask.cli.step_description import build_step, describe
        from prs_dask.cli.terminal_text import tell_error
        from prs_dask.cli.watching import EXIT_CODES, watch, watch_report
        from prs_dask.clusters import cool_down, warm_up

        description = describe(step_file, flags)
        if description.is_local:
            warm_up("prs_dask.cli")  # Dask's import passes in another process while this one makes and checks the step
        try:
            step = build_step(description)
            step.check()
            if interrupts.count:
                tell_error("canceled")
                ctx.exit(EXIT_CODES["Canceled"])
            step_run = step.submit(run_folder=run_folder)
            display = display_for(progress_kind)
            state = watch(step_run, interrupts, display)
            display.end(step_run, state)
            watch_report(step_run, interrupts, display)
        finally:
            cool_down()
    ctx.exit(EXIT_CODES[state])

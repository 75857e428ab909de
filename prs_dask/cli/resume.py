"""``prs-dask resume``: go on with a step run that was killed, canceled or failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from prs_dask.cli.flags import StepCommand, setting_flag
from prs_dask.cli.progress_display import display_for, progress_flag
from prs_dask.config import SETTINGS

__all__ = ["resume"]


def _flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """A flag for each setting; those that may not change are known, so that a change can be told, and not shown."""
    for setting in reversed(list(SETTINGS.values())):
        if setting.flag:
            command = setting_flag(setting, with_default=False, hidden=setting.same_on_resume)(command)
    return command


@click.command(cls=StepCommand)
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--no-retry-failed", is_flag=True, help="Leave mini-batches that had failed for good as they are.")
@click.option(
    "--accept-changes", is_flag=True, help="Go on though the source has changed, or files were added to the inputs."
)
@click.option(
    "--storage-option",
    "storage_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A secret of the inputs' store that was never written down: 'account_key=${env:SALES_KEY}'.",
)
@click.option("--input-option", "input_options", multiple=True, metavar="NAME=VALUE", help="The same for a connection.")
@progress_flag
@_flags
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    run_folder: Path,
    no_retry_failed: bool,
    accept_changes: bool,
    progress_kind: str,
    **flags: Any,
) -> None:
    """Go on with the step run in RUN_FOLDER: what is finished is not run again.

    The step is the one that run.json tells. Settings that do not decide over rows may be given anew. Everything
    after -- goes to the entry script in place of its arguments; options of the engine are added to them.

    \b
    prs-dask resume prs_runs/score-20260101T120000Z-1a2b3c4d
    prs-dask resume prs_runs/score-20260101T120000Z-1a2b3c4d --run-max-try 5 --error-threshold 100
    """
    from prs_dask.cli.interrupts import Interrupts

    with Interrupts() as interrupts:
        from prs_dask.cli.recorded_step import recorded_step
        from prs_dask.cli.terminal_text import tell
        from prs_dask.cli.watching import EXIT_CODES, watch, watch_report
        from prs_dask.clusters import cool_down, warm_up
        from prs_dask.pipeline.resume import Earlier

        earlier = Earlier.read(run_folder, retry_failed=not no_retry_failed, accept_changes=accept_changes)
        earlier.lock.release()  # it is taken again, and everything read again, when the step is there
        if earlier.completed:
            tell(f"{earlier.folder.path}: completed already; nothing is left to do")
            ctx.exit(EXIT_CODES["Completed"])
        target = flags.get("compute_target") or earlier.record["settings"].get("compute_target")
        if target in (None, "local"):
            warm_up("prs_dask.cli")
        try:
            with recorded_step(earlier, flags) as step:
                step_run = step.submit(
                    resume=run_folder, retry_failed=not no_retry_failed, accept_changes=accept_changes
                )
            display = display_for(progress_kind)
            state = watch(step_run, interrupts, display)
            display.end(step_run, state)
            watch_report(step_run, interrupts, display)
        finally:
            cool_down()
    ctx.exit(EXIT_CODES[state])

"""``prs-dask plan``: the mini-batches of a step, without running it."""

from __future__ import annotations

from typing import Any

import click

from prs_dask.cli.flags import StepCommand, step_flags

__all__ = ["plan"]


@click.command(cls=StepCommand)
@step_flags
@click.option("-n", "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="How many; 0 shows all.")
def plan(step_file: str | None, limit: int, **flags: Any) -> None:
    """Show the mini-batches of a step without running anything.

    It takes what run takes.
    """
    from prs_dask.cli.step_description import build_step, describe
    from prs_dask.cli.terminal_text import tell
    from prs_dask.quantities import format_count

    step = build_step(describe(step_file, flags))
    # One more than is shown tells whether there are more.
    mini_batches = step.plan(limit + 1 if limit else None)
    shown = mini_batches[:limit] if limit else mini_batches
    for number, mini_batch in enumerate(shown):
        items = "" if mini_batch.items is None else f"{format_count(mini_batch.items)} items  "
        tell(f"{number:>6}  {items}{mini_batch.detail}")
    if len(mini_batches) > len(shown):
        tell("        … and more; --limit 0 shows all")
    else:
        tell(f"{format_count(len(shown))} mini-batches")

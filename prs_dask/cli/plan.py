"""``prs-dask plan``: what a step would run, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from prs_dask.cli.flags import StepCommand, step_flags

if TYPE_CHECKING:
    from prs_dask.pipeline.plan import InputPlan, StepPlan

__all__ = ["plan"]


@click.command(cls=StepCommand)
@step_flags
@click.option("-n", "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Show so many; 0: all.")
@click.option(
    "--count-seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Go on listing for so long behind those, to count the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def plan(step_file: str | None, limit: int, count_seconds: float, as_json: bool, **flags: Any) -> None:
    """Show the inputs and the first mini-batches of a step without running anything.

    It takes what run takes, and refuses what run refuses.
    """
    from prs_dask.cli.step_description import build_step, describe

    step = build_step(describe(step_file, flags))
    made = step.plan(limit or None, seconds=count_seconds)
    if as_json:
        import json

        click.echo(json.dumps({"name": step.name, **made.as_dict()}, indent=2))
    else:
        _tell(made)


def _tell(made: StepPlan) -> None:
    from prs_dask.cli.terminal_text import tell
    from prs_dask.quantities import format_bytes, format_count

    for one in made.inputs:
        tell(f"input {one.name}: {_words(one, at_least=not made.complete)}")
    if made.partition_keys:
        tell(f"one mini-batch for each combination of {', '.join(made.partition_keys)}")
    else:
        size: Any = made.mini_batch_size
        tell(f"{_count(size, 'file') if _is_files(made) else format_bytes(size)} a mini-batch")
    tell()
    for number, mini_batch in enumerate(made):
        named = f"{made.inputs[mini_batch.input].name}: " if len(made.inputs) > 1 else ""
        values = ", ".join(f"{name}={value}" for name, value in made.keys_of(mini_batch).items())
        rows = "" if mini_batch.items is None or _is_files(made) else f", {_count(mini_batch.items, 'row')}"
        tell(f"{number:>8}  {named}{f'[{values}] ' if values else ''}{mini_batch.detail}{rows}")
    if made.complete and made.listed > len(made):
        tell(f"       …  and {format_count(made.listed - len(made))} more; --limit 0 shows all")
    elif not made.complete:
        tell("       …  and more that were not counted; --limit 0 shows all, --count-seconds counts longer")
    tell(f"{'' if made.complete else 'at least '}{_count(made.listed, 'mini-batch')}")


def _is_files(made: StepPlan) -> bool:
    return made.inputs[0].format == "files"


def _count(number: int, word: str) -> str:
    from prs_dask.quantities import format_count

    plural = "" if number == 1 else "es" if word.endswith("ch") else "s"
    return f"{format_count(number)} {word}{plural}"


def _words(one: InputPlan, *, at_least: bool) -> str:
    """``data/*.csv (delimited): 3 files, 1.2 MB, 7 mini-batches``."""
    from prs_dask.quantities import format_bytes

    counts = [_count(one.files, "file")] if one.files else []
    if one.items and one.format != "files":
        counts.append(_count(one.items, "row"))
    if one.bytes:
        counts.append(format_bytes(one.bytes))
    counts.append(_count(one.mini_batches, "mini-batch"))
    source = f"{one.source} ({one.format})" if one.source else one.format
    return f"{source}: {'at least ' if at_least else ''}{', '.join(counts)}"

"""``prs-dask debug``: one mini-batch of a step run in this process, under a debugger.

The run folder is read only: the step run may be finished, killed, or under way in another process.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prs_dask.cli.flags import StepCommand, setting_flag
from prs_dask.config import SETTINGS
from prs_dask.errors import Fault, SettingsError

if TYPE_CHECKING:
    from prs_dask.mini_batches.json_form import KeptMiniBatch
    from prs_dask.pipeline.recorded_run import MiniBatchName, RecordedMiniBatch, RecordedRun
    from prs_dask.worker_process.in_process import InProcess, LocalResult

__all__ = ["debug"]

HOST = "127.0.0.1"


@click.command(cls=StepCommand)
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("mini_batch")
@click.option(
    "--pdb/--no-pdb",
    "with_pdb",
    default=None,
    help="Open pdb where the script raises. Default: where there is a terminal.",
)
@click.option("--step", "stops_first", is_flag=True, help="Stop at the first line of run(), instead of at an error.")
@click.option(
    "--debugpy",
    "port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Wait for an editor to attach to this port of this machine (0: any that is free), instead of pdb.",
)
@click.option("--current-source", is_flag=True, help="Take the source as it lies there now, not as it was sent.")
@click.option(
    "--storage-option",
    "storage_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A secret of the inputs' store that was never written down: 'account_key=${env:SALES_KEY}'.",
)
@click.option("--input-option", "input_options", multiple=True, metavar="NAME=VALUE", help="The same for a connection.")
@setting_flag(SETTINGS["environment_variables"], with_default=False)
@click.pass_context
def debug(
    ctx: click.Context,
    /,
    run_folder: Path,
    mini_batch: str,
    with_pdb: bool | None,
    stops_first: bool,
    port: int | None,
    current_source: bool,
    **flags: Any,
) -> None:
    """Run MINI_BATCH of the step run in RUN_FOLDER in this process, under pdb.

    MINI_BATCH is an id as the logs tell it: 7, or 7[3:5] for some of its items. Script and settings are those that the
    step run began with. Nothing is written into the run folder or the output; rows are printed. Exit codes: 0 run()
    returned, 1 the script raised, 2 wrong usage. Everything after -- goes to the entry script in place of its
    arguments.

    \b
    prs-dask debug prs_runs/score-20260101T120000Z-1a2b3c4d 7
    prs-dask debug prs_runs/score-20260101T120000Z-1a2b3c4d 7 --no-pdb --current-source
    """
    from prs_dask.cli.recorded_step import recorded_step
    from prs_dask.cli.terminal_text import tell, tell_error
    from prs_dask.pipeline.local_run import local_script
    from prs_dask.pipeline.recorded_run import MiniBatchName, RecordedRun

    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C leads into what a run() hangs at
    name = MiniBatchName.of(mini_batch)
    run = RecordedRun.read(run_folder)
    _refuse_objects(run)
    listed = run.mini_batch(name.number)
    with recorded_step(run, {**flags, "compute_target": "local"}, as_sent=not current_source) as step:
        config = step.config.resolve()
        readers = _readers(run, step.inputs_of(config))
        _tell_what_changed(run, config.script_path, listed)
        with local_script(step, config, readers) as script:
            tell_error(f"mini-batch {mini_batch}: {listed.mini_batch.detail}")
            debugger = _Pdb(with_pdb, stops_first) if port is None else _Debugpy(port, stops_first)
            result = _run(script, listed, name, debugger)
        if result is None:
            ctx.exit(1)
        tell_error(f"run() returned {result.results} results for {result.items} items in {result.seconds:.3g} s")
        if result.header or result.rows:
            tell(f"{result.header}{result.rows}".removesuffix("\n"))


def _run(
    script: InProcess, listed: RecordedMiniBatch, name: MiniBatchName, debugger: _Pdb | _Debugpy
) -> LocalResult | None:
    """What came of it; None where the script has raised, which has been told then."""
    from bdb import BdbQuit

    from prs_dask.cli.terminal_text import tell_error
    from prs_dask.pipeline.local_run import chosen_part, in_user_code

    try:
        script.start()
        now = _as_it_is_now(listed.mini_batch)
        mini_batch = chosen_part(script, now, name)  # type: ignore[arg-type]  # no rows in memory here
        return script.run(name.number, mini_batch, script.read(mini_batch), debugger.call)
    except SettingsError:
        raise
    except BdbQuit:
        tell_error("left the debugger")
    except BaseException as error:
        error.__traceback__ = in_user_code(error, script.user_code)
        tell_error(_traceback_of(error))
        debugger.at_error(error)
    return None


class _Pdb:
    """The debugger of the standard library, on this terminal."""

    def __init__(self, wanted: bool | None, stops_first: bool) -> None:
        self.call = self._stepped if stops_first else None
        self._opens = sys.stdin.isatty() if wanted is None else wanted

    @staticmethod
    def _stepped(function: Callable[..., Any], *arguments: Any) -> Any:
        from bdb import BdbQuit
        from pdb import Pdb

        class Debugger(Pdb):
            was_left = False

            def set_quit(self) -> None:
                self.was_left = True
                super().set_quit()

        debugger = Debugger(nosigint=True)
        result = debugger.runcall(function, *arguments)
        if debugger.was_left:  # which runcall() keeps to itself
            raise BdbQuit
        return result

    def at_error(self, error: BaseException) -> None:
        if self._opens and error.__traceback__ is not None:
            import pdb

            pdb.post_mortem(error.__traceback__)


class _Debugpy:
    """An editor that attaches; it stops where its breakpoints are, or at the errors that it is set to stop at."""

    def __init__(self, port: int, stops_first: bool) -> None:
        from prs_dask.cli.terminal_text import tell_error

        try:
            import debugpy
        except ModuleNotFoundError:
            found = "debugpy, which is not installed"
            raise SettingsError([Fault("--debugpy", found, "the package debugpy", "pip install debugpy")]) from None
        try:
            host, found_port = debugpy.listen((HOST, port))
        except (OSError, RuntimeError) as error:
            fault = Fault("--debugpy", f"port {port}: {error}", "a port that is free", "--debugpy 0")
            raise SettingsError([fault]) from None
        tell_error(f"waiting for an editor to attach to {host}:{found_port}")
        debugpy.wait_for_client()
        self.call = self._stepped if stops_first else None

    @staticmethod
    def _stepped(function: Callable[..., Any], *arguments: Any) -> Any:
        import debugpy

        debugpy.breakpoint()
        return function(*arguments)

    def at_error(self, error: BaseException) -> None:
        pass


def _refuse_objects(run: RecordedRun) -> None:
    from prs_dask.logs.resume_hint import only_in_python

    if found := only_in_python(run.record):
        allowed = "a step that files describe; the program that made this one can run its mini-batches"
        raise SettingsError([Fault("run_folder", "; ".join(found), allowed, "step.run_locally(mini_batch=...)")])


def _readers(run: RecordedRun, inputs: Any) -> list[Any]:
    """How the inputs were read when the step run began."""
    from prs_dask.datasets.kept_reader import reader_as_kept
    from prs_dask.errors import OutputError

    try:
        return [reader_as_kept(*one) for one in zip(inputs, run.kept_readers(), strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        fault = Fault(str(run.folder.manifest), f"its first line: {error}", "what the step run wrote")
        raise OutputError([fault]) from error


def _tell_what_changed(run: RecordedRun, script: Path | None, listed: RecordedMiniBatch) -> None:
    from prs_dask.cli.terminal_text import tell_error
    from prs_dask.datasets.input_changes import changed_files

    settings = run.record["settings"]
    if script is not None and script != Path(settings.get("source_directory") or "", settings["entry_script"]):
        tell_error(
            "the source has changed since, or is gone: this is the one that was sent; "
            "--current-source takes the one that lies there now"
        )
    if changed := changed_files(listed.mini_batch, listed.at):
        shown = ", ".join(map(repr, changed[:5])) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        tell_error(f"changed since it was made a mini-batch, or gone: {shown}")


def _as_it_is_now(mini_batch: KeptMiniBatch) -> KeptMiniBatch:
    """Local files whose paths run() gets may have changed since, which has been told: perhaps they were mended."""
    from prs_dask.datasets.cutting import listed_again
    from prs_dask.mini_batches import FileMiniBatch

    return listed_again(mini_batch) if isinstance(mini_batch, FileMiniBatch) else mini_batch


def _traceback_of(error: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(error)).rstrip("\n")

"""The group of commands, and what every command has in common: exit codes and how errors are told.

====  ============================================================
0     Completed
1     Failed
2     wrong usage or settings: nothing was started or written
130   canceled
====  ============================================================
"""

from __future__ import annotations

from typing import Any

import click

from prs_dask import __version__
from prs_dask.cli.debug import debug
from prs_dask.cli.demo import demo
from prs_dask.cli.errors import errors
from prs_dask.cli.plan import plan
from prs_dask.cli.report import report
from prs_dask.cli.resume import resume
from prs_dask.cli.run import run
from prs_dask.cli.status import status
from prs_dask.cli.terminal_text import tell_error
from prs_dask.errors import EngineError, PrsError, SettingsError

__all__ = ["main"]


class _Commands(click.Group):
    """Tells the errors of prs_dask without a traceback and ends with the code that fits."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            tell_error(f"error: {error}")
            ctx.exit(2)
        except EngineError:
            raise
        except PrsError as error:
            tell_error(f"error: {error}")
            ctx.exit(1)
        except KeyboardInterrupt:
            tell_error("canceled")
            ctx.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="prs-dask")
def main() -> None:
    """Run an entry script with init() and run(mini_batch) over all of your files or tables.

    Exit codes: 0 Completed, 1 Failed, 2 wrong usage or settings (nothing was started), 130 canceled.
    """


for _command in (run, plan, resume, status, errors, report, debug, demo):
    main.add_command(_command)

"""``prs-dask`` and ``python -m prs_dask``: the command line, with Ctrl-C in hand from the first moment."""

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line."""
    # A KeyboardInterrupt in the middle of an import ends with a traceback and a code of Python's own. There is
    # nothing to cancel in order until a command has something under way, and then it takes the signal itself.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from prs_dask.cli import main as commands

    commands(prog_name="prs-dask")


def _leave(*_: Any) -> None:
    os.write(2, b"canceled\n")
    os._exit(130)


if __name__ == "__main__":
    main()

"""A function in a process of its own, whose memory tells what it needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["in_fresh_process", "peak_mib"]


def in_fresh_process(function: Callable[..., dict[str, Any]], *arguments: str | int) -> dict[str, Any]:
    """What it returns there, where this folder is the current one, too; a script, as the local target starts others."""
    code = (
        "import json, sys\n"
        f"from {function.__module__} import {function.__name__} as function\n"
        "if __name__ == '__main__': print(json.dumps(function(*json.loads(sys.argv[1]))))\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(code)
        file.flush()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, file.name, json.dumps(arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_mib() -> float:
    """The highest resident memory of this process so far.

    Not ru_maxrss: that goes on from the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024, 1)

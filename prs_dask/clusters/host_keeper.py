"""A host's worker is started again whenever it has ended, with pauses that grow, and what became of it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from prs_dask.clusters.ssh_host import Host, HostProblem, Program

__all__ = ["Tell", "keep"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a host is tried again, the first time and at most."""

Tell = Callable[[str], object]
"""Takes a sentence for the driver's log, from any thread."""


async def keep(host: Host, program: Program | None, spec: dict[str, Any], tell: Tell) -> None:
    """Keep a host's worker until this is cancelled; it is ended then.

    Parameters
    ----------
    host, program
        Which one, and the worker that runs there now.
    spec
        What to start.
    tell
        Gets each thing that becomes of it once: a host that is away for hours is tried a hundred times an hour.
    """
    told: set[str] = set()

    def tell_once(text: str) -> None:
        same = re.sub(r"\d+", "0", text)  # ports and times
        if same not in told:
            told.add(same)
            tell(f"host {host.name} {text}")

    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE
    try:
        while True:
            if program is not None:
                begun = loop.time()
                said = await program.wait()
                if loop.time() - begun > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                await program.end()
                program = None
                lost = "has lost its worker" if host.is_connected else "is lost"
                tell_once(f"{lost} and is started again; it said: {said}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                if not host.is_connected:
                    await host.connect()
                program = await host.start(spec)
                tell_once("is back")
            except HostProblem as problem:
                tell_once(f"is not back yet: {problem}")
            except Exception as error:  # of ours; it may be back the next time, and the others go on
                tell_once(f"is not back yet: {type(error).__name__}: {error}")
    finally:
        if program is not None:
            await program.end()

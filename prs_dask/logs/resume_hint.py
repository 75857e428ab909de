"""How to go on with a step run, from what ``run.json`` says of it. Pure, and quick to import."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["only_in_python", "resume_hint"]


def only_in_python(record: Mapping[str, Any]) -> list[str]:
    """What of a step no text can say: it is resumed by the program that made it."""
    found = ["the entry script is an object"] if isinstance(record.get("script"), Mapping) else []
    for name in ("inputs", "side_inputs"):
        for number, one in enumerate(record.get(name, ())):
            if isinstance(one, Mapping) and "only_in_python" in one:
                found.append(f"{name}[{number}]: {one['only_in_python']}")
    return found


def resume_hint(record: Mapping[str, Any]) -> str:
    """How to go on with a step run: the command, or the call where a program has to."""
    folder = record["run_folder"]
    return f"step.submit(resume={folder!r})" if only_in_python(record) else f"prs-dask resume {shlex.quote(folder)}"

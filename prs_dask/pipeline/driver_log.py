"""driver_log.txt: with what, on what and how long the driver worked; who reads a bug report begins here."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.logs.tree import LogTree
from prs_dask.quantities import format_count, format_seconds
from prs_dask.redaction import without_hashes

if TYPE_CHECKING:
    from distributed import Client

    from prs_dask.config import EngineOptions

__all__ = ["DriverLog"]

PACKAGES = ("dask", "distributed", "numpy", "pandas", "pyarrow", "fsspec", "psutil")
"""Those whose versions decide over what happens."""


class DriverLog:
    """Writes it, and times the stages of a step run.

    Parameters
    ----------
    tree
        The logs.
    since
        When the first stage began, as `time.monotonic` tells it.
    """

    def __init__(self, tree: LogTree, since: float) -> None:
        self._tree = tree
        self._stage, self._since = "preparing", since
        self._taken: dict[str, float] = {}

    def note(self, text: str, event: str = "note", **fields: Any) -> None:
        """A line."""
        self._tree.driver(text, time.time(), event, **fields)

    def begins(
        self, record: Mapping[str, Any], options: EngineOptions, inputs: Sequence[object], output: object
    ) -> None:
        """Everything that was known before anything was started.

        Parameters
        ----------
        record
            ``run.json``.
        options
            Those that stood among the script's arguments.
        inputs, output
            Of the step.
        """
        from prs_dask import __version__

        versions = {"prs_dask": __version__, "Python": platform.python_version(), **_versions()}
        machine = {
            "platform": platform.platform(),
            "host": socket.gethostname(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "process": os.getpid(),
        }
        settings = without_hashes(record["settings"])
        limits = asdict(options)
        arguments = without_hashes(record["arguments"])
        self.note(f"step run {record['run_id']} of step {record['name']}", "begin", run_id=record["run_id"])
        self.note(f"versions: {', '.join(f'{name} {one}' for name, one in versions.items())}", "versions", **versions)
        text = f"{machine['platform']}, host {machine['host']}, {machine['cores']} cores, process {machine['process']}"
        self.note(f"machine: {text}", "machine", **machine)
        self.note(f"settings:\n{_listed(settings)}", "settings", settings=settings)
        self.note(f"options:\n{_listed(limits)}", "options", options=limits)
        self.note(f"arguments: {arguments}", "arguments", arguments=arguments)
        for number, one in enumerate(inputs):
            self.note(f"input {number}: {one!r}", "input", input=number, dataset=repr(one))
        self.note(f"output: {output}", "output", output=str(output))

    def cluster(self, client: Client, cancellation: Cancellation) -> None:
        """What the step run works on; nothing that goes wrong with it matters."""
        from prs_dask.clusters import outline

        try:
            found = outline(client, cancellation)
        except Canceled:
            raise
        except Exception as error:
            self.note(f"cluster: it does not tell what it is made of ({type(error).__name__}: {error})", "cluster")
        else:
            self.note(f"cluster: {found}", "cluster", **asdict(found))

    def enter(self, stage: str) -> None:
        """Another stage begins."""
        before, seconds = self._leave()
        self._stage = stage
        fields = {"stage": stage, "before": before, "before_seconds": seconds}
        self.note(f"{stage} ({before} took {format_seconds(seconds)})", "stage", **fields)

    def listed(self, mini_batches: int) -> None:
        """All mini-batches are known."""
        seconds = time.monotonic() - self._since
        text = f"all inputs are listed, {format_seconds(seconds)} after {self._stage} began"
        count = f"{format_count(mini_batches)} mini-batch{'es' * (mini_batches != 1)}"
        self.note(f"{text}: {count}", "listed", mini_batches=mini_batches, seconds=round(seconds, 6))

    def ends(self, state: str, cause: str) -> None:
        """How it ended, and where the time went."""
        self._leave()
        taken = ", ".join(f"{stage} {format_seconds(seconds)}" for stage, seconds in self._taken.items())
        self.note(f"stages: {taken}", "stages", stages=self._taken)
        self.note(f"{state}: {cause}" if cause else state, "end", state=state, cause=cause)

    def _leave(self) -> tuple[str, float]:
        """The stage that ends, and how long it took."""
        now = time.monotonic()
        stage, seconds, self._since = self._stage, round(now - self._since, 6), now
        self._taken[stage] = round(self._taken.get(stage, 0.0) + seconds, 6)
        return stage, seconds


def _listed(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value!r}" for name, value in values.items())


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

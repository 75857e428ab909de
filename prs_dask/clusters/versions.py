"""Do scheduler and workers have the versions that the driver has?

==================================  ==========================================================================
prs_dask                            must be the same: its parts speak with each other. Otherwise an error
Python (``3.12``), cloudpickle      must be the same where the entry script is an object, which travels pickled
Python, dask, distributed, numpy,   a note: Dask connects such, and mostly it works; who looks for the cause of
pandas, cloudpickle                 something strange begins there
==================================  ==========================================================================

They are asked by an op of Dask's own, which answers also where prs_dask is not installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import distributed
from distributed.versions import get_versions

from prs_dask.cancellation import Cancellation
from prs_dask.errors import ClusterError
from prs_dask.text_table import text_table

__all__ = ["check_versions", "version_differences"]

ANSWER_SECONDS = 10.0
"""So long one worker that hangs may hold up the start."""

OURS = "prs-dask"
COMPARED = ("python", "dask", "distributed", "cloudpickle", "numpy", "pandas")
PICKLED = ("python", "cloudpickle")
NOT_INSTALLED = "not installed"

_Row = tuple[str, str, str, str]
_HEADER = ("where", "package", "found", "driver's")


def check_versions(client: distributed.Client, cancellation: Cancellation, *, pickles_script: bool) -> str:
    """Compare; returns a note of what differs and may matter, empty where there is nothing to tell.

    Parameters
    ----------
    client
        Of the cluster; not from the thread of its event loop.
    cancellation
        Ends the wait for their answers.
    pickles_script
        Does the entry script travel as a pickled object?

    Raises
    ------
    ClusterError
        Something differs that cannot work; the message is a table.
    Canceled
        It is not to be waited for any longer.
    """
    try:
        places = client.sync(
            cancellation.awaited, _told_versions, client.scheduler, callback_timeout=2 * ANSWER_SECONDS
        )
    except (TimeoutError, OSError) as error:
        return f"versions: scheduler and workers did not tell theirs ({type(error).__name__})"
    own = _clean(get_versions(packages=[OURS]))
    for versions in places.values():  # who is run from a checkout has no such metadata: its plugin tells it, or fails
        versions[OURS] = (own[OURS] and versions.get(OURS)) or own[OURS]
    errors, notes = version_differences(places, own, pickles_script=pickles_script)
    if errors:
        what = "scheduler and workers need the versions that the driver has; nothing was run"
        raise ClusterError(f"{what}\n{text_table(_HEADER, errors)}\ninstall these there, or run the driver with theirs")
    if notes:
        return f"versions differ, which mostly works\n{text_table(_HEADER, notes)}"
    return ""


def version_differences(
    places: Mapping[str, Mapping[str, str | None]], own: Mapping[str, str | None], *, pickles_script: bool
) -> tuple[list[_Row], list[_Row]]:
    """Rows (where, package, found, the driver's) of what cannot work, and of what may matter.

    Parameters
    ----------
    places
        By ``scheduler`` or a worker's address: versions by package, None where it is not installed.
    own
        The driver's.
    """
    errors: list[_Row] = []
    notes: list[_Row] = []
    grouped: dict[tuple[str, str], list[str]] = {}
    for where, versions in places.items():
        for package in (OURS, *COMPARED):
            found = versions.get(package) or NOT_INSTALLED
            if found != (own.get(package) or NOT_INSTALLED):
                grouped.setdefault((package, found), []).append(where)
    for (package, found), there in grouped.items():
        wanted = own.get(package) or NOT_INSTALLED
        breaks = package == OURS or (pickles_script and package in PICKLED and _minor(found) != _minor(wanted))
        (errors if breaks else notes).extend((where, package, found, wanted) for where in _shortly(there))
    return errors, notes


def _shortly(places: list[str]) -> Iterator[str]:
    workers = [place for place in places if place != "scheduler"]
    if len(workers) < len(places):
        yield "scheduler"
    if workers:
        yield f"{len(workers)} workers, such as {workers[0]}" if len(workers) > 1 else workers[0]


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _clean(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """By package; of Python's ``3.12.3.final.0`` only what everybody writes."""
    packages = dict(answer["packages"])
    packages["python"] = ".".join(str(packages.get("python", "")).split(".")[:3])
    return packages


async def _told_versions(scheduler: Any) -> dict[str, dict[str, str | None]]:
    """Of the scheduler and of all workers that answer."""

    async def ask() -> tuple[Any, Any]:
        message = {"op": "versions", "packages": [OURS]}
        return await asyncio.gather(
            scheduler.versions(packages=[OURS]), scheduler.broadcast(msg=message, on_error="ignore")
        )

    of_scheduler, of_workers = await asyncio.wait_for(ask(), ANSWER_SECONDS)
    places = {"scheduler": _clean(of_scheduler)}
    return places | {address: _clean(answer) for address, answer in of_workers.items() if isinstance(answer, dict)}

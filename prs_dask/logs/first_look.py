"""Which log tells most about what went wrong: one rule for the driver, and for whoever reads its run folder."""

from __future__ import annotations

from pathlib import Path

from prs_dask.logs import places

__all__ = ["engine_faults", "look_first"]


def engine_faults(logs: Path) -> list[Path]:
    """Logs of faults of prs_dask itself, below ``logs/``."""
    return sorted(logs.glob(places.ENGINE_ERROR.format(component="*")))


def look_first(logs: Path, state: str, *, errors: bool, results_missing: bool) -> Path | None:
    """The log to open first; None where nothing went wrong, as far as is known.

    Parameters
    ----------
    logs
        ``logs/``.
    state
        How the step run has ended, or that it has not: ``"Running"``.
    errors
        Has the user's code raised any in the last part?
    results_missing
        Do items count as failed without an error?
    """
    if errors:
        return logs / places.ERRORS
    if results_missing:
        return logs / places.ATTEMPTS
    faults = engine_faults(logs)
    if faults:
        return faults[0]
    return None if state in ("Running", "Completed") else logs / places.DRIVER_LOG

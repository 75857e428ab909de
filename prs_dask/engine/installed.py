"""What of the requirements of ``environment`` does not hold in the Python of this worker."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata

__all__ = ["misfits"]

NOT_INSTALLED = "not installed"


def misfits(requirements: Iterable[str], paths: Sequence[str]) -> list[tuple[str, str, str]]:
    """(package, found, wanted) of each requirement that does not hold.

    Parameters
    ----------
    requirements
        As `prs_dask.config.parse_requirements` gives them. Those whose markers say that they are not for this Python
        or platform hold.
    paths
        Where packages are looked for: the ``sys.path`` of the processes that run the script.
    """
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    rows = []
    for text in requirements:
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate():
            continue
        found = platform.python_version() if one.name.lower() == "python" else _version(one.name, paths)
        wanted = str(one.specifier) or "any version"
        try:
            holds = found is not None and one.specifier.contains(found, prereleases=True)
        except InvalidVersion:
            holds = False
        if not holds:
            rows.append((one.name, NOT_INSTALLED if found is None else found, wanted))
    return rows


def _version(name: str, paths: Sequence[str]) -> str | None:
    """The first that would be imported; a package without readable metadata counts as ``unknown version``."""
    for distribution in metadata.distributions(name=name, path=list(paths)):
        try:
            version = distribution.metadata["Version"]
        except (OSError, TypeError, KeyError):
            version = None
        return version or "unknown version"
    return None

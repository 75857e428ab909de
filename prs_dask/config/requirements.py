"""The ``environment`` setting: pip requirements that every worker is checked against.

Three forms are understood: a mapping ``{"pandas": ">=2,<4"}``, a list ``["pandas>=2,<4"]``, and
a conda file (``dependencies:`` with a ``pip:`` list), of which the pip part counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from prs_dask.config.refused import Refused

__all__ = ["parse_requirements"]

_VERSIONS = r"(?:(?:===|==|!=|~=|<=|>=|<|>)\s*[\w.*+!\-]+\s*,?\s*)*"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._\-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(rf"({_NAME})\s*(?:\[[^\]]*\])?\s*({_VERSIONS})", re.ASCII)


def parse_requirements(value: object) -> dict[str, str]:
    """Packages and the versions wanted of them (``""``: any).

    Raises
    ------
    ValueError
        Where a requirement cannot be read; the text names it.

    Examples
    --------
    >>> parse_requirements(["pandas>=2,<4", "numpy"])
    {'pandas': '>=2,<4', 'numpy': ''}
    """
    if isinstance(value, Mapping) and "dependencies" in value:
        value = _pip_part(value["dependencies"])
    if isinstance(value, Mapping):
        lines = [f"{name} {'' if versions is None else versions}".strip() for name, versions in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        lines = [str(one).strip() for one in value]
    else:
        raise ValueError
    return dict(_requirement(line) for line in lines)


def _pip_part(dependencies: object) -> list[object]:
    if isinstance(dependencies, Sequence) and not isinstance(dependencies, (str, bytes)):
        for one in dependencies:
            if isinstance(one, Mapping) and isinstance(one.get("pip"), list):
                return list(one["pip"])
    raise Refused("whose dependencies have no pip list")


def _requirement(line: str) -> tuple[str, str]:
    match = _REQUIREMENT.fullmatch(line)
    if match is None:
        raise Refused(f"where {line!r} is no requirement")
    return match[1], match[2].replace(" ", "")

"""The ``environment`` setting: pip requirements that every worker is checked against.

Four forms are understood: a mapping ``{"pandas": ">=2,<4"}``, a list ``["pandas>=2,<4"]``, the lines of a
requirements file, and a conda file (``dependencies:`` with a ``pip:`` list), of which the pip part counts. ``python``
stands for the interpreter. Markers (``; sys_platform == "linux"``) are looked at on the worker. Extras are not
checked; of ``package @ URL`` the URL is dropped, it may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from prs_dask.config.refused import Refused

__all__ = ["parse_requirements", "requirement_lines"]

_COMMENT = re.compile(r"(?:^|\s)#.*")
_VERSION_ALONE = re.compile(r"[\w.-]+(?:\s*=\s*|\s+)(\d\S*)")
_OTHER_FILES = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable")


def parse_requirements(value: object) -> tuple[str, ...]:
    """The requirements, each as ``packaging`` reads and writes it.

    Raises
    ------
    ValueError
        Where a requirement cannot be read; the text names it.

    Examples
    --------
    >>> parse_requirements(["pandas>=2,<4", "numpy # any"])
    ('pandas<4,>=2', 'numpy')
    >>> parse_requirements({"python": ">=3.11"})
    ('python>=3.11',)
    """
    if isinstance(value, Mapping) and "dependencies" in value:
        value = _pip_part(value["dependencies"])
    if isinstance(value, Mapping):
        lines = [f"{_text(name)} {_versions(name, versions)}" for name, versions in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        lines = [_text(one) for one in value]
    else:
        raise ValueError
    found = (_requirement(_COMMENT.sub("", line).strip()) for line in lines)
    return tuple(dict.fromkeys(one for one in found if one))


def requirement_lines(text: str) -> list[str]:
    """The lines of a requirements file, put together where they end with a backslash."""
    return text.replace("\\\n", " ").splitlines()


def _pip_part(dependencies: object) -> list[object]:
    if isinstance(dependencies, Sequence) and not isinstance(dependencies, (str, bytes)):
        for one in dependencies:
            if isinstance(one, Mapping) and isinstance(one.get("pip"), list):
                return list(one["pip"])
    raise Refused("whose dependencies have no pip list")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Refused(f"where {value!r} is no text")
    return value


def _versions(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        instead = "write one such as '==2.0' or '>=2,<4', or None for any version"
        raise Refused(f"where {value!r} of {name} is no text: {instead}")
    return value or ""


def _requirement(line: str) -> str:
    """Empty for what names no package: blank lines, and options such as ``--index-url``."""
    from packaging.requirements import InvalidRequirement, Requirement

    if line.startswith("-"):
        if line.split("=")[0].split()[0].startswith(_OTHER_FILES):
            raise Refused(f"where {line!r} names other files or folders, which are not read: write their lines here")
        return ""
    if not line:
        return ""
    try:
        one = Requirement(line.partition(" --")[0])  # such as --hash
    except InvalidRequirement:
        version = _VERSION_ALONE.fullmatch(line)
        instead = f": write '=={version[1]}' for this version alone" if version else ""
        raise Refused(f"where {line!r} is no requirement{instead}") from None
    one.extras, one.url = set(), None
    return str(one)

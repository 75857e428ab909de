"""The line of the user's code at which an error rose: from its traceback, or from the source as it was sent."""

from __future__ import annotations

import re
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

from prs_dask.attempts.records import AttemptError

__all__ = ["SourceLines"]

_WHERE = re.compile(r"(?P<name>.+):(?P<line>\d+)(?: in .*)?", re.DOTALL)
_LARGEST = 10 << 20
"""Bytes of a file that are looked into; nobody writes larger ones by hand."""


class SourceLines:
    """Looks lines up.

    Parameters
    ----------
    archive
        ``source.zip`` of the run folder; need not be there.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def of(self, error: AttemptError) -> str:
        """The line without its indentation; empty where it is not known."""
        match = _WHERE.fullmatch(error.where)
        if match is None:
            return ""
        name, line = match["name"], int(match["line"])
        return _in_traceback(error.traceback, name, line) or self._in_archive(name, line)

    def _in_archive(self, name: str, line: int) -> str:
        try:
            with zipfile.ZipFile(self._archive) as archive, archive.open(name) as file:
                lines = file.read(_LARGEST).decode("utf-8", "replace").splitlines()
        except (OSError, LookupError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            return ""
        return lines[line - 1].strip() if 0 < line <= len(lines) else ""


def _in_traceback(traceback: str, name: str, line: int) -> str:
    """``File "/.../score.py", line 12, in run`` has its line of code below it, deeper indented."""
    lines = traceback.split("\n")
    pattern = re.compile(rf'\s*File "(?:.*/)?{re.escape(name)}", line {line}(?:, in .*)?')
    found = ""
    for head, code in pairwise(lines):
        if pattern.fullmatch(head) and code.strip() and not code.lstrip().startswith('File "'):
            found = code.strip() if _indentation(code) > _indentation(head) else ""
    return found


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))

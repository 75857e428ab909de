"""A line of a log: text for people, or a JSON object for programs (``logging_format``).

=================================  ===================================================================
text                               ``2026-01-31T08:15:00.123Z running`` and, for more lines, 4 blanks
json                               ``{"time": ..., "log": "driver", "level": "INFO", "event": "stage",
                                   "message": "running", "stage": "running", ...}``
=================================  ===================================================================

Both have their secrets taken out and control characters shown; JSON is ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from prs_dask.logs.text import plain, utc_text

__all__ = ["LineFormat", "encoded"]


class LineFormat:
    """Makes lines.

    Parameters
    ----------
    redact
        Takes secrets out of text.
    as_json
        Whether they are JSON objects.
    """

    def __init__(self, redact: Callable[[str], str] = str, *, as_json: bool = False) -> None:
        self.redact = redact
        self._as_json = as_json

    def line(
        self,
        log: str,
        text: str,
        now: float,
        *,
        event: str = "note",
        level: str = "INFO",
        fields: Mapping[str, Any] | None = None,
    ) -> bytes:
        """One line, with its end.

        Parameters
        ----------
        log
            Which log it stands in: ``"driver"``, ``"scheduler"``, ``"overview"``, ``"error"``.
        text
            What is told, perhaps over several lines.
        now
            Seconds since the epoch.
        event, level
            What kind of news it is, in a word; ``"INFO"``, ``"WARNING"`` or ``"ERROR"``.
        fields
            The same as values that JSON knows.
        """
        body = plain(self.redact(text)).strip("\n")
        if not self._as_json:
            indented = body.replace("\n", "\n    ")
            return encoded(f"{utc_text(now)} {indented}\n")
        values = {"time": utc_text(now), "log": log, "level": level, "event": event, "message": body}
        return json.dumps({**values, **self._clean(fields or {})}, default=str).encode("ascii") + b"\n"

    def _clean(self, value: Any) -> Any:
        """Values as JSON, every text in them as it may be shown."""
        if isinstance(value, str):
            return plain(self.redact(value))
        if isinstance(value, Mapping):
            return {plain(self.redact(str(name))): self._clean(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(one) for one in value]
        return value


def encoded(text: str) -> bytes:
    """UTF-8; what is no text is shown as an escape."""
    return text.encode("utf-8", "backslashreplace")

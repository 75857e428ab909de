"""What azure-identity and azure-core log of their own accord, without the values of storage options.

Where authentication fails, azure-identity warns with the server's words, in which tenant and client are named. Our own
error says the same without them; whoever wants the logs keeps them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from prs_dask.redaction import Redactor

__all__ = ["redact_logs"]

_PACKAGES = ("azure", "adlfs", "msal")


def redact_logs(options: Mapping[str, Any]) -> None:
    """From now on no value of these options stands in what the packages' loggers hand on.

    To be called when a file system was made: a filter holds for the very logger that has it, and by then all
    modules that it needs were imported.
    """
    _FILTER.know(options)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in _PACKAGES and isinstance(logger, logging.Logger):
            logger.addFilter(_FILTER)  # once, however often it is asked for


class _Redacting(logging.Filter):
    """Lets every record pass, with its text redacted."""

    def __init__(self) -> None:
        super().__init__()
        self._options: list[Mapping[str, Any]] = []
        self._redactor = Redactor()

    def know(self, options: Mapping[str, Any]) -> None:
        """These are not to be told either."""
        if options not in self._options:
            self._options.append(options)
            self._redactor = Redactor([{"storage_options": dict(one)} for one in self._options])

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self._redactor.text(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


_FILTER = _Redacting()

"""Where log records of user code go.

``EntryScript().logger``  its own file, flushed at every record; outside of a job stderr.
root logger               stdout of the process, at WARNING, unless the script sets it up itself.

`prepare_root` must act before user code, yet ``logging`` takes longer to import than the
rest of a worker process's start together. So it waits until somebody imports ``logging``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from prs_dask.entry_script.entry_script import Surroundings

__all__ = ["entry_script_logger", "prepare_root"]

_FORMAT = "%(asctime)s.%(msecs)03dZ|%(levelname)s|%(process)d|%(message)s"
_ROOT_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"


def _formatter(text: str) -> logging.Formatter:
    import logging
    import time

    formatter = logging.Formatter(text, _TIME)
    formatter.converter = time.gmtime
    return formatter


def _standard_stream_handler(name: str) -> logging.Handler:
    """Handler for ``sys.stdout`` or ``sys.stderr`` as it is at each record: scripts replace them."""
    import logging

    class StandardStreamHandler(logging.StreamHandler[Any]):
        @property
        def stream(self) -> Any:
            return getattr(sys, name)

        @stream.setter
        def stream(self, _: Any) -> None:
            pass

    return StandardStreamHandler()


def _json_formatter(place: Surroundings) -> logging.Formatter:
    """A JSON object for each record: what the line of text says, where it comes from, and what ``extra=`` added."""
    import json
    import logging
    import time

    class JsonFormatter(logging.Formatter):
        converter = staticmethod(time.gmtime)

        def format(self, record: logging.LogRecord) -> str:
            values: dict[str, Any] = {
                "time": f"{self.formatTime(record, _TIME)}.{int(record.msecs):03d}Z",
                "log": "entry_script",
                "level": record.levelname,
                "message": record.getMessage().encode("utf-8", "backslashreplace").decode(),
                "node": place.node_id,
                "process": place.agent_name,
                "pid": record.process,
                "where": f"{record.filename}:{record.lineno} in {record.funcName}",
            }
            if record.exc_info:
                values["traceback"] = self.formatException(record.exc_info)
            if record.stack_info:
                values["stack"] = self.formatStack(record.stack_info)
            more = {name: value for name, value in vars(record).items() if name not in known and name not in values}
            try:
                return json.dumps({**values, **more}, default=_text_of, skipkeys=True)
            except ValueError:  # it holds itself
                return json.dumps({**values, **{name: _text_of(value) for name, value in more.items()}})

    known = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
    return JsonFormatter()


def _text_of(value: object) -> str:
    """Whatever a script hands over to be logged: it must not fail for that."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def entry_script_logger(name: str, place: Surroundings) -> logging.Logger:
    """The logger ``name``, set up anew to write to the place's ``log_file``, or to stderr if that is empty."""
    import logging

    logger = logging.getLogger(name)
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    if place.log_file:
        handler: logging.Handler = logging.FileHandler(place.log_file, encoding="utf-8", errors="backslashreplace")
    else:
        handler = _standard_stream_handler("stderr")
    handler.setFormatter(_json_formatter(place) if place.logging_format == "json" else _formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(place.logging_level)
    logger.propagate = False
    return logger


def prepare_root() -> None:
    """Give the root logger its handler, at once or as soon as ``logging`` is imported."""
    module = sys.modules.get("logging")
    if module is not None:
        _set_up_root(module)
    elif not any(isinstance(finder, _WhenLoggingIsImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoggingIsImported())


def _set_up_root(logging: Any) -> None:
    handler = _standard_stream_handler("stdout")
    handler.setFormatter(_formatter(_ROOT_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    basic_config = logging.basicConfig

    @functools.wraps(basic_config)
    def ours_gives_way(**settings: Any) -> None:
        # basicConfig does nothing where the root logger has a handler: a script that calls it
        # is to get what it asked for.
        root.removeHandler(handler)
        basic_config(**settings)

    logging.basicConfig = ours_gives_way


class _WhenLoggingIsImported:
    """Meta path finder that finds ``logging`` only, as it would be found without it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_set_up(module: ModuleType) -> None:
                execute(module)
                _set_up_root(module)

            spec.loader.exec_module = execute_and_set_up  # type: ignore[method-assign]
        return spec

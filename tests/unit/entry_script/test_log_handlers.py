"""Where log records of user code go."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from prs_dask.entry_script.entry_script import Surroundings
from prs_dask.entry_script.log_handlers import entry_script_logger, prepare_root


@contextmanager
def fresh_process() -> Iterator[io.StringIO]:
    """The root logger and stdout as a fresh process has them: pytest has put its own there."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()) as stdout:
            prepare_root()
            yield stdout
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def test_the_root_logger_writes_warnings_to_stdout():
    with fresh_process() as stdout:
        logging.getLogger("lib").warning("careful")
        logging.getLogger("lib").info("detail")
    assert stdout.getvalue().endswith("WARNING lib: careful\n")
    assert "detail" not in stdout.getvalue()


def test_a_level_that_the_script_sets_holds():
    with fresh_process() as stdout:
        logging.getLogger().setLevel(logging.DEBUG)
        logging.debug("detail")
    assert "detail" in stdout.getvalue()


def test_a_stdout_that_was_replaced_gets_the_records():
    with fresh_process() as stdout, redirect_stdout(io.StringIO()) as other:
        logging.warning("late")
    assert "late" in other.getvalue()
    assert stdout.getvalue() == ""


def test_basic_config_of_the_script_takes_the_place_of_ours():
    stream = io.StringIO()
    with fresh_process() as stdout:
        logging.basicConfig(stream=stream, format="mine %(message)s")
        logging.warning("text")
    assert stream.getvalue() == "mine text\n"
    assert stdout.getvalue() == ""


def test_records_may_be_json(tmp_path):
    class Rude:
        def __str__(self):
            raise RuntimeError

    log = tmp_path / "log.txt"
    place = Surroundings("", "", "", str(log), "process007", 3, "DEBUG", logging_format="json")
    logger = entry_script_logger("test-json", place)
    logger.info("read %d\nof \x1b %s", 3, "b\udc80", extra={"rows": 12, "level": "mine", "odd": Rude()})
    holds_itself = []
    holds_itself.append(holds_itself)
    logger.debug("deep", extra={"deep": holds_itself})
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("no")
    for handler in logger.handlers:
        handler.close()
    first, second, third = (json.loads(line) for line in log.read_text("ascii").splitlines())
    assert (first["message"], first["rows"], first["level"], first["odd"]) == (
        "read 3\nof \x1b b\\udc80", 12, "INFO", "<Rude>",
    )  # fmt: skip
    assert (first["log"], first["node"], first["process"]) == ("entry_script", 3, "process007")
    assert first["time"].endswith("Z")
    assert first["where"].startswith("test_log_handlers.py:")
    assert "..." in second["deep"]
    assert third["level"] == "ERROR"
    assert third["traceback"].endswith("ValueError: bad")

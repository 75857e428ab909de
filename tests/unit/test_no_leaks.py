"""``no_leaks`` of tests/conftest.py: what pytest keeps of the log holds nothing open."""

from __future__ import annotations

import logging
import socket

import pytest


class _Node:
    """Of a cycle, so that only the garbage collector ends it."""

    def __init__(self) -> None:
        self.itself = self
        self.socket = socket.socket()


def _fail() -> None:
    held = _Node()
    raise OSError(f"descriptor {held.socket.fileno()}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_in_a_log_record_does_not_hold_its_sockets(no_leaks: None) -> None:
    logger = logging.getLogger("test")
    for how in ("its traceback", "the message", "an argument"):
        try:
            _fail()
        except OSError as error:  # as distributed.utils.log_errors does, which logs the exception as the message
            if how == "the message":
                logger.exception(error)
            elif how == "an argument":
                logger.error("failed: %s", error)
            else:
                logger.exception("failed")

"""A stand-in for the supervisor: starts real worker processes over a socket pair.

``start(script_text, ...)`` gives a `Child`; every child is killed at the end of its test.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prs_dask.attempts.records import AttemptError
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.mini_batches import FileMiniBatch, encode
from prs_dask.output.row_format import RowFormat
from prs_dask.worker_process.frames import (
    OUTCOME_SIZE,
    FrameKind,
    OutcomeHeader,
    ProcessSetup,
    read_frame,
    unpack_error,
    unpack_outcome,
    write_frame,
)
from prs_dask.worker_process.launch import STACK_SIGNAL, command
from prs_dask.worker_process.phase import PhasePage, new_page_descriptor

PATIENCE = 20.0


class Outcome(NamedTuple):
    sequence: int
    header: OutcomeHeader
    rows: bytes
    error: AttemptError | None


class Child:
    """One worker process and the supervisor's ends of what connects to it."""

    def __init__(self, folder: Path, setup: ProcessSetup, environment: dict[str, str]) -> None:
        self.folder = folder
        self.setup = setup
        for name in (setup.working_folder, setup.log_folder, setup.output_folder):
            Path(name).mkdir(parents=True, exist_ok=True)
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(PATIENCE)
        page = new_page_descriptor()
        self.page = PhasePage(page)
        self._stacks = os.open(folder / "stacks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        kept = (theirs.fileno(), page, self._stacks)
        with open(folder / "stdout", "ab") as stdout, open(folder / "stderr", "ab") as stderr:
            self.process = subprocess.Popen(
                command(*kept, os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=kept,
                cwd=setup.working_folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )
        theirs.close()
        os.close(page)
        write_frame(self.sock, FrameKind.SETUP, 0, pickle.dumps(setup))
        self._next = 0

    def ready(self) -> Child:
        kind, _, payload = self.frame()
        assert kind == FrameKind.READY, unpack_error(payload) if payload else kind
        return self

    def load_failed(self) -> AttemptError:
        kind, _, payload = self.frame()
        assert kind == FrameKind.LOAD_FAILED
        return unpack_error(payload)

    def frame(self) -> tuple[int, int, bytearray]:
        return read_frame(self.sock)

    def work(self, *mini_batches: Any, attempt: int = 1) -> None:
        """Hand out mini-batches: descriptors, or lists of paths."""
        entries = []
        for mini_batch in mini_batches:
            if isinstance(mini_batch, list):
                mini_batch = FileMiniBatch(0, tuple(mini_batch))
            entries.append((self._next, self._next + 100, attempt, encode(mini_batch)))
            self._next += 1
        write_frame(self.sock, FrameKind.WORK, 0, pickle.dumps(entries))

    def outcome(self) -> Outcome:
        rows = b""
        while True:
            kind, sequence, payload = self.frame()
            if kind == FrameKind.ROWS:
                rows += payload
            if kind in (FrameKind.ROWS, FrameKind.FILE):
                continue
            assert kind == FrameKind.OUTCOME, kind
            header = unpack_outcome(payload)
            rest = payload[OUTCOME_SIZE:]
            if header.category:
                return Outcome(sequence, header, b"", unpack_error(rest))
            return Outcome(sequence, header, rows + bytes(rest), None)

    def run(self, *paths: str, attempt: int = 1) -> Outcome:
        self.work(list(paths or ("a", "b")), attempt=attempt)
        return self.outcome()

    def quit(self) -> tuple[int, AttemptError | None]:
        """Say QUIT; the exit code and what shutdown() raised."""
        write_frame(self.sock, FrameKind.QUIT)
        kind, _, payload = self.frame()
        assert kind == FrameKind.GOODBYE
        return self.process.wait(PATIENCE), unpack_error(payload) if payload else None

    def ended(self) -> int:
        """The process ends without another frame; its exit code."""
        with pytest.raises((EOFError, ConnectionResetError)):
            self.frame()
        return self.process.wait(PATIENCE)

    def phase(self, wanted: int) -> Any:
        end = time.monotonic() + PATIENCE
        while (reading := self.page.read()).phase != wanted:
            assert time.monotonic() < end, reading
            time.sleep(0.001)
        return reading

    def stacks(self) -> str:
        """Every thread's stack, as the process writes it when told so."""
        path = self.folder / "stacks"
        size = path.stat().st_size
        self.process.send_signal(STACK_SIGNAL)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            text = path.read_bytes()[size:].decode()
            if "File" in text and text.endswith("\n"):
                return text
            time.sleep(0.005)
        return (self.folder / "stacks").read_text()

    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def log(self) -> str:
        return (Path(self.setup.log_folder) / "process007.log.txt").read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        self.sock.close()
        self.page.close()
        os.close(self._stacks)


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path, no_leaks: None) -> Iterator[Start]:
    """Start a worker process with this script: ``start("def run(mini_batch): ...")``."""
    children: list[Child] = []

    def start(
        script: str | None,
        *,
        files: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> Child:
        folder = tmp_path / f"process{len(children)}"
        source = folder / "source"
        source.mkdir(parents=True)
        for name, text in {"score.py": script or "", **(files or {})}.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(textwrap.dedent(text))
        setup = ProcessSetup(
            script=str(source / "score.py") if script is not None else None,
            script_object=None,
            source_folder=str(source),
            arguments=("--threshold", "0.5"),
            readers=(ReadSpec("files"),),
            row_format=RowFormat(),
            working_folder=str(folder / "working"),
            log_folder=str(folder / "log"),
            output_folder=str(folder / "output"),
            agent_name="process007",
            node_id=3,
            logging_level="INFO",
        )
        children.append(Child(folder, setup._replace(**changes), environment or {}))
        return children[-1]

    yield start
    for child in children:
        child.close()

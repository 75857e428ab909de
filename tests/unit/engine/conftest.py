"""A supervisor without Dask: real worker processes, and a scheduler whose answers the test writes."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.records import AttemptError, AttemptRecord, unpack
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.engine.gpu_locks import GpuLocks
from prs_dask.engine.lane import Lane
from prs_dask.engine.run_settings import WorkerSettings
from prs_dask.mini_batches import FileMiniBatch, decode, encode
from prs_dask.output.row_format import RowFormat

BOX = 30.0
PATIENCE = 20.0

SCRIPT = """
import os, signal, sys, time
from pathlib import Path

def run(mini_batch):
    for path in mini_batch:
        doing, _, argument = Path(path).name.partition("_")
        if doing == "sleep":
            time.sleep(float(argument))
        elif doing == "raise":
            raise ValueError(argument)
        elif doing == "exit":
            os._exit(int(argument))
        elif doing == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif doing == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif doing == "big":
            return ["x" * int(argument)]
    return list(mini_batch)
"""


class FakeShipper:
    """Ships no logs."""

    def watch(self, files: Any, folder: Any = None) -> None: ...

    def process_closed(self, process: int) -> None: ...


class FakeSupervisor:
    """What a lane knows of its supervisor; ``answer`` is asked for every call of the lane."""

    def __init__(self, folder: Path, script: str, **limits: Any) -> None:
        self.folder = folder / "spool"
        self.source = folder / "source"
        self.folder.mkdir()
        self.source.mkdir()
        (self.source / "score.py").write_text(textwrap.dedent(script))
        self.settings = WorkerSettings(
            run_id="test",
            script="score.py",
            script_object=None,
            source_digest="0",
            arguments=(),
            readers=(ReadSpec("files"),),
            row_format=RowFormat(),
            logging_level="INFO",
            limits=RunLimits(**limits),
        )
        self.stopping = ""
        self.given_up = 0
        self.shipper = FakeShipper()
        self.gpu_locks = GpuLocks(folder)
        self.gpus: dict[str, Any] = {"gpus": 0, "slot": None, "visible": ""}
        self.node = 0
        self.memory_limit = 0
        self.cache_folder: Path | None = None
        self.fetch_ahead: Any = None
        self.shared_output: str | None = None
        self.side_inputs: tuple[tuple[str, str], ...] = ()
        self.told: list[tuple[str, int, str]] = []
        self.how: list[dict[str, bool]] = []
        self.events: list[dict[str, Any]] = []
        self.load_errors: list[AttemptError] = []
        self.begun: list[tuple[int, int]] = []
        self.last_files: list[tuple[bytes, bool]] = []
        self.abandoned: list[Any] = []
        self.lane_calls: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | Future[dict[str, Any]]] = lambda _: {"stop": True}
        self._numbers = iter(range(1000))

    def environment(self, name: str, process: int, gpus: Any) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1", "PATH": "/usr/bin:/bin"}

    def share_memory(self, lanes: int) -> None:
        assert lanes == 1

    def abandon(self, family: Any) -> None:
        self.abandoned.append(family)

    def log_process_error(self, process: int, doing: str, error: AttemptError) -> None:
        self.load_errors.append(error)

    def tell_of_process(self, process: int, event: str, **more: Any) -> None:
        self.events.append({"process": process, "event": event, **more})

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        if call == "may_start":
            return {"number": next(self._numbers), "node": 0, "lanes": 1, **self.gpus}
        if call == "last_file":
            self.last_files.append((arguments["piece"], arguments["ended"]))
            return {}
        if call == "alive":
            self.begun += [tuple(one) for one in arguments["begun"]]
            return {"known": True, "stop": ""}
        assert call == "process"
        how = {name: value for name, value in arguments.items() if name not in ("lane", "event", "process", "error")}
        self.told.append((arguments["event"], arguments["process"], arguments.get("error", "")))
        self.how.append(how)
        return {}

    def begin_call(self, call: str, **arguments: Any) -> Future[dict[str, Any]]:
        assert call == "lane"
        self.lane_calls.append(arguments)
        if arguments["report"] is not None:
            self.reports.append({**arguments["report"], "token": arguments["token"]})
        answer = self.answer(arguments)
        if isinstance(answer, Future):
            return answer
        future: Future[dict[str, Any]] = Future()
        future.set_result(answer)
        return future

    @property
    def records(self) -> list[AttemptRecord]:
        return [record for report in self.reports for record in unpack(report["records"])]

    @property
    def rows(self) -> list[str]:
        return b"".join(report["rows"] for report in self.reports).decode().splitlines()

    @property
    def back(self) -> list[int]:
        return [number for report in self.reports for number in report.get("back", ())]

    def errors(self) -> dict[int, AttemptError]:
        return {number: AttemptError(*fields) for report in self.reports for number, fields in report.get("errors", ())}


class FakeFetchAhead:
    """Notes the paths that are expected."""

    def __init__(self) -> None:
        self.expected: list[str] = []

    def expect(self, descriptors: Any) -> None:
        self.expected += [path for descriptor in descriptors for path in decode(descriptor).paths]


class Workbench:
    """A lane in a thread."""

    def __init__(self, supervisor: FakeSupervisor) -> None:
        self.supervisor = supervisor
        self.lane = Lane(supervisor, 0)  # type: ignore[arg-type]

    @staticmethod
    def grant(
        token: int, *names: str, first: int = 0, attempt: int = 1, box: float = BOX, careful: bool = False
    ) -> dict[str, Any]:
        """The answer to a claim: one mini-batch of one path for each name."""
        work = [(first + place, attempt, encode(FileMiniBatch(0, (name,)))) for place, name in enumerate(names)]
        return {"token": token, "work": work, "box": box, "report": 0.05, "careful": careful}

    def work(self, permit: int = 1) -> threading.Thread:
        thread = threading.Thread(target=self.lane.work, args=(permit,), daemon=True)
        thread.start()
        return thread

    def work_to_the_end(self, *answers: dict[str, Any], permit: int = 1, seconds: float = PATIENCE) -> None:
        """Claims get these answers, then "stop"; reports without a claim, and lanes that ask ahead, get nothing."""
        left = iter(answers)
        self.supervisor.answer = lambda call: next(left, {"stop": True}) if call["claim"] and not call["keep"] else {}
        thread = self.work(permit)
        thread.join(seconds)
        assert not thread.is_alive(), "the lane does not come to an end"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no mini-batch counts as slow, so none goes back for that."""
    monkeypatch.setattr("prs_dask.engine.lane.SLOW_SECONDS", PATIENCE)


@pytest.fixture
def unhurried(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and the next chunk is asked for early."""
    monkeypatch.setattr("prs_dask.engine.lane.ASK_AHEAD_SECONDS", 1.0)


@pytest.fixture
def bench(tmp_path: Path, no_leaks: None) -> Iterator[Callable[..., Workbench]]:
    """Make a workbench: ``bench(script, run_seconds=1)``; ``hoards``: its files have to be fetched."""
    made: list[Workbench] = []

    def make(script: str = SCRIPT, *, hoards: bool = False, **limits: Any) -> Workbench:
        folder = tmp_path / f"bench{len(made)}"
        folder.mkdir()
        supervisor = FakeSupervisor(folder, script, **limits)
        supervisor.fetch_ahead = FakeFetchAhead() if hoards else None
        made.append(Workbench(supervisor))
        return made[-1]

    yield make
    for workbench in made:
        workbench.supervisor.stopping = "kill"
        for family in workbench.supervisor.abandoned:
            family.close()
        workbench.lane.close()

"""An entry script in the caller's own process: for a debugger.

What a worker process does for a script is done here too: folders of its own, environment variables, ``sys.argv``,
``EntryScript``, the stand-ins for Azure's packages, the same reading, the same rows. At the end everything is taken
back. Not here: limits of time and memory, other attempts, the capture of output. What the script raises comes out
unchanged, and ``breakpoint()`` stops where it stands.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from inspect import isgenerator
from types import TracebackType
from typing import Any

from prs_dask.datasets.reading import read
from prs_dask.entry_script import azure_names
from prs_dask.entry_script.entry_script import Surroundings, configure
from prs_dask.entry_script.failures import UserCode
from prs_dask.entry_script.host import ScriptHost
from prs_dask.mini_batches import BisectedMiniBatch, MiniBatch, Part, PartMiniBatch
from prs_dask.output import rows
from prs_dask.worker_process.attempts import context_of
from prs_dask.worker_process.frames import MAX_PIECE, ProcessSetup

__all__ = ["InProcess", "LocalResult"]

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What ``run()`` made of one mini-batch in this process. As text (``print``): its rows.

    Attributes
    ----------
    mini_batch
        Its id, or that of a part, such as ``7[3:5]``.
    detail
        What it holds, in a few words.
    items, results
        How many were given, and how many came back.
    result
        What ``run()`` returned; a generator as the list of what it gave.
    rows
        As they would stand in the output file; empty with summary_only.
    header
        The columns' line that would stand at the start of the file; empty where rows have none.
    seconds
        That ``run()`` took.
    """

    mini_batch: str
    detail: str
    items: int
    results: int
    result: Any = field(repr=False)
    rows: str = field(repr=False)
    header: str = field(repr=False)
    seconds: float

    def __str__(self) -> str:
        return self.header + self.rows


class InProcess:
    """An entry script that lives here for as long as it is entered: `start` it, `read` and `run` mini-batches.

    Parameters
    ----------
    setup
        As a worker process gets it. Its folders are made; logs go to stderr.
    environment
        Environment variables for so long.
    """

    def __init__(self, setup: ProcessSetup, environment: Mapping[str, str]) -> None:
        self._setup = setup
        self._environment = environment
        self._host = ScriptHost(setup.script, setup.script_object, setup.source_folder, setup.arguments)
        self._taken_back = ExitStack()
        self._reading: Callable[[MiniBatch, Any], Any] = read
        self._let_go: Callable[[], None] = _nothing
        self._is_ready = False

    @property
    def user_code(self) -> UserCode:
        """Tells the user's frames from others'."""
        return self._host.user_code

    def __enter__(self) -> InProcess:
        setup = self._setup
        for folder in (setup.working_folder, setup.log_folder, setup.output_folder):
            os.makedirs(folder, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(_as_in_a_process_of_its_own(setup.working_folder, self._environment))
            place = Surroundings(
                log_dir=setup.log_folder,
                output_dir=setup.output_folder,
                working_dir=setup.working_folder,
                agent_name=setup.agent_name,
                node_id=setup.node_id,
                logging_level=setup.logging_level,
                arguments=setup.arguments,
                models=setup.models,
                inputs=setup.input_paths,
                metrics_file=os.path.join(setup.log_folder, "metrics.jsonl"),
            )
            stack.callback(configure, configure(place))
            if azure_names.install():
                stack.callback(azure_names.uninstall)
            if setup.cache_folder is not None:
                from prs_dask.worker_process.cached_inputs import CachedInputs

                cached = CachedInputs(setup.cache_folder, setup.cache_bound)
                self._reading, self._let_go = cached.read, cached.let_go
            stack.callback(self._host.unload)
            self._taken_back = stack.pop_all()
        return self

    def start(self) -> None:
        """Import the script and call its ``init()``.

        Raises
        ------
        EntryScriptError
            There is no ``run`` that could be called.
        BaseException
            Whatever the script raises.
        """
        self._host.load()
        self._host.init()
        self._is_ready = True

    def read(self, mini_batch: MiniBatch) -> Any:
        """What ``run()`` is given: paths, or a DataFrame.

        Raises
        ------
        ReadError, OSError
            It cannot be read, or its file was changed since it was listed.
        """
        return self._reading(mini_batch, self._setup.readers[mini_batch.input])

    def part_of(self, mini_batch: MiniBatch, number: int, start: int, stop: int) -> BisectedMiniBatch:
        """Some items of a mini-batch, as bisecting makes it.

        Raises
        ------
        ValueError
            It has no such items.
        """
        items = mini_batch.items
        if items is None:
            items = len(self.read(mini_batch))
        if not 0 <= start < stop <= items:
            raise ValueError(f"mini-batch {number} has {items} items")
        return BisectedMiniBatch.of(mini_batch, Part(number, start, stop, items))

    def run(self, number: int, mini_batch: MiniBatch, data: Any, call: Call | None = None) -> LocalResult:
        """``run()`` it, and make its rows.

        Parameters
        ----------
        number
            The mini-batch's id; that of the whole where it is a part.
        data
            What `read` has given.
        call
            Calls a function with its arguments, as ``Pdb.runcall`` does.

        Raises
        ------
        BadResult
            ``run()`` returned something that it may not return.
        BaseException
            Whatever the script raises.
        """
        setup, host = self._setup, self._host
        call = call or _call
        begun = time.perf_counter()
        result: Any
        if not len(data) and isinstance(mini_batch, PartMiniBatch):
            result = []  # as in a worker process: there is nothing to run over
        elif host.takes_context:
            context = context_of(mini_batch, number, 1, setup.readers, setup.input_names)
            result = call(host.run_function, data, context)
        else:
            result = call(host.run_function, data)
        result = call(list, result) if isgenerator(result) else rows.materialise(result)
        seconds = time.perf_counter() - begun
        _, results = rows.check_result(result)
        pieces = rows.iter_rows(result, setup.row_format, MAX_PIECE)
        self._let_go()
        return LocalResult(
            mini_batch=str(mini_batch.part) if isinstance(mini_batch, BisectedMiniBatch) else str(number),
            detail=mini_batch.detail,
            items=len(data),
            results=results,
            result=result,
            rows=_text(b"".join(pieces)),
            header=_text(rows.header_line(result, setup.row_format)),
            seconds=seconds,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._taken_back:
            if self._is_ready:
                try:
                    self._host.shutdown()
                except BaseException as another:
                    if error is None:
                        raise
                    error.add_note(f"shutdown() raised {type(another).__name__} behind it: {another}")


def _call(function: Call, *arguments: Any) -> Any:
    return function(*arguments)


def _nothing() -> None:
    pass


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


@contextmanager
def _as_in_a_process_of_its_own(folder: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Current folder, environment and what Python writes beside modules; all of it is put back."""
    before, path, variables, quiet = _current_folder(), sys.path[:], dict(os.environ), sys.dont_write_bytecode
    try:
        sys.path[:] = [os.path.abspath(entry) for entry in path]  # "" would mean the new folder
        os.chdir(folder)
        os.environ.update(environment)
        sys.dont_write_bytecode = True
        yield
    finally:
        sys.dont_write_bytecode = quiet
        os.environ.clear()
        os.environ.update(variables)
        sys.path[:] = path
        with suppress(OSError):  # it is gone
            os.chdir(before)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.path.abspath(os.sep)

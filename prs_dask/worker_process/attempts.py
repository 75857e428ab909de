"""One attempt of one mini-batch: read it, ``run()`` it, make its rows, send the outcome.

The phase page says which of the three is under way; the outcome leaves before anything else begins.
Whatever is raised between the first and the last step ends the attempt, and only the attempt: user
code raises anything, and its signal handlers and alarms raise it anywhere.

Sending is different: a frame that left in part cannot be taken back, so an exception there ends the
process, and the supervisor sees the end of the stream in the middle of a frame.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, process_time, time
from typing import TYPE_CHECKING, Any

from prs_dask.attempts.records import Category
from prs_dask.datasets.read_spec import UnsafeCut
from prs_dask.entry_script.context import MiniBatchContext
from prs_dask.entry_script.failures import describe
from prs_dask.mini_batches import BisectedMiniBatch, MiniBatch, PartMiniBatch
from prs_dask.worker_process.frames import AT_THE_END, FRAME_HEADER, MAX_PIECE, FrameKind, pack_error, pack_outcome
from prs_dask.worker_process.launch import EXIT_BROKEN, EXIT_SUPERVISOR_GONE
from prs_dask.worker_process.phase import Phase

if TYPE_CHECKING:
    import _socket

    from prs_dask.entry_script.host import ScriptHost
    from prs_dask.worker_process.frames import ProcessSetup
    from prs_dask.worker_process.output_files import OutputFiles
    from prs_dask.worker_process.phase import PhasePage
    from prs_dask.worker_process.safeguards import StackDumps

__all__ = ["Attempts", "Work", "context_of", "send"]

Work = tuple[int, int, int, MiniBatch]
"""sequence, mini-batch id, attempt, mini-batch"""

# Plain numbers: an enum's costs 0.1 us at each use.
_READ, _RUN, _ROWS = int(Phase.READ), int(Phase.RUN), int(Phase.ROWS)
_HEADER_FRAME, _ROWS_FRAME, _OUTCOME_FRAME = int(FrameKind.HEADER), int(FrameKind.ROWS), int(FrameKind.OUTCOME)
_FILE_FRAME = int(FrameKind.FILE)
_SUCCEEDED, _LOAD_ERROR, _UNSAFE_CUT = int(Category.SUCCEEDED), int(Category.LOAD_ERROR), int(Category.UNSAFE_CUT)
_EXCEPTION, _BAD_RETURN = int(Category.EXCEPTION), int(Category.BAD_RETURN)
_MOST = 0xFFFFFFFF


def send(sock: _socket.socket, kind: int, sequence: int = 0, payload: bytes = b"") -> None:
    """Send a frame whole, or end the process: there is no telling how much of it has left."""
    try:
        sock.sendall(FRAME_HEADER.pack(kind, sequence, len(payload)) + payload)
    except OSError:
        os._exit(EXIT_SUPERVISOR_GONE)
    except BaseException as error:
        complain(f"{type(error).__name__} was raised while an outcome was sent; the process starts over")
        os._exit(EXIT_BROKEN)


def complain(text: str) -> None:
    """A line on the process's stderr, whatever has become of ``sys.stderr``."""
    with suppress(BaseException):  # user code may have closed it
        os.write(2, f"prs_dask: {text}\n".encode("utf-8", "backslashreplace"))


class Attempts:
    """Runs mini-batches one after the other and tells what became of each.

    Parameters
    ----------
    sock, page
        To the supervisor.
    host
        The loaded script.
    setup
        Readers, row format and names of the inputs.
    stacks
        Renewed before every ``run()``.
    """

    def __init__(
        self, sock: _socket.socket, page: PhasePage, host: ScriptHost, setup: ProcessSetup, stacks: StackDumps
    ) -> None:
        from prs_dask.datasets.reading import read
        from prs_dask.output import rows

        self._read, self._rows = read, rows
        self._cached = None
        if setup.cache_folder is not None:
            from prs_dask.worker_process.cached_inputs import CachedInputs

            self._cached = CachedInputs(setup.cache_folder, setup.cache_bound)
            self._read = self._cached.read
        self._sock, self._page, self._host, self._stacks = sock, page, host, stacks
        self._readers, self._input_names = setup.readers, setup.input_names
        self._row_format = setup.row_format
        self._wants_header = getattr(setup.row_format, "header", False)
        self._outputs = None
        if setup.sends_output:
            from prs_dask.worker_process.output_files import OutputFiles

            self._outputs = OutputFiles(setup.output_folder)
        self._cpu = process_time()
        self.forked = False

    def load_libraries(self) -> None:
        """Import what reading needs, so that no mini-batch's time limit covers it."""
        from prs_dask.datasets.reading import load_libraries

        for reader in self._readers:
            load_libraries(reader)

    def forget_forked(self) -> None:
        """In a child that user code has forked: never tell the supervisor anything."""
        self.forked = True
        self._sock.close()

    def start_of_work(self) -> None:
        """Processor time that passed while waiting belongs to no attempt."""
        self._cpu = process_time()

    def one(self, work: Work) -> None:
        """Run one mini-batch; its outcome has been sent when this returns."""
        sequence, mini_batch_id, attempt, mini_batch = work
        page, host = self._page, self._host
        items = results = length = 0
        started = time()
        begun = read_end = run_end = monotonic()
        page.write(sequence, _READ, -1, begun)
        category = _LOAD_ERROR
        try:
            if self._outputs is not None:
                self._outputs.attempt_begins()
            items = mini_batch.items or 0
            data = self._read(mini_batch, self._readers[mini_batch.input])
            items = len(data)
            self._stacks.renew()
            category = _EXCEPTION
            read_end = run_end = monotonic()
            page.write(sequence, _RUN, items, read_end)
            if not items and type(mini_batch) is PartMiniBatch:
                result = []  # its files hold no row: there is nothing to run over
            elif host.takes_context:
                context = context_of(mini_batch, mini_batch_id, attempt, self._readers, self._input_names)
                result = host.run_function(data, context)
            else:
                result = host.run_function(data)
            if type(result) is not list:  # a list, as nearly always, is spared two calls: 13 us where caches are cold
                result = self._rows.materialise(result)
            if self.forked:
                _leave_forked_child(0)
            run_end = monotonic()
            category = _BAD_RETURN
            page.write(sequence, _ROWS, items, run_end)
            results = len(result) if type(result) is list else self._rows.check_result(result)[1]
            if self._wants_header:
                header = self._rows.header_line(result, self._row_format)
                if header:
                    send(self._sock, _HEADER_FRAME, sequence, header)
            payload = b""
            for piece in self._rows.iter_rows(result, self._row_format, MAX_PIECE):
                if payload:
                    send(self._sock, _ROWS_FRAME, sequence, payload)
                payload = piece
                length += len(piece)
            if self._outputs is not None:
                self._send_files(self._outputs, sequence)
            category = _SUCCEEDED
        except BaseException as error:
            if self.forked:
                _leave_forked_child(error)
            now = monotonic()
            if category != _BAD_RETURN:
                page.write(sequence, _ROWS, items, now)
                run_end = now
                if category == _LOAD_ERROR:
                    read_end = now
                    category = _UNSAFE_CUT if isinstance(error, UnsafeCut) else category
            results = length = 0
            payload = pack_error(describe(error, host.user_code))
            if self._outputs is not None:
                with suppress(BaseException):  # a signal handler of user code, again
                    self._outputs.failed()
        cpu = process_time()
        header = pack_outcome(
            category,
            min(items, _MOST),
            min(results, _MOST),
            length,
            started,
            monotonic() - begun,
            read_end - begun,
            run_end - read_end,
            cpu - self._cpu,
        )
        self._cpu = cpu
        send(self._sock, _OUTCOME_FRAME, sequence, header + payload)
        if self._outputs is not None and category == _SUCCEEDED:  # now, and not before: its files have left for good
            self._outputs.sent()
        if self._cached is not None:
            self._cached.let_go()

    def send_last_files(self) -> None:
        """What was stored since the last mini-batch, by ``shutdown()`` most likely."""
        if self._outputs is not None:
            self._send_files(self._outputs, AT_THE_END, last=True)
            send(self._sock, FrameKind.FILES_SENT, AT_THE_END)

    def _send_files(self, outputs: OutputFiles, sequence: int, *, last: bool = False) -> None:
        for piece in outputs.pieces(last=last):
            send(self._sock, _FILE_FRAME, sequence, piece)


def context_of(
    mini_batch: MiniBatch, mini_batch_id: int, attempt: int, readers: Sequence[Any], input_names: Sequence[str]
) -> MiniBatchContext:
    """What a ``run()`` that takes two arguments is told."""
    number = mini_batch.input
    name = input_names[number] if number < len(input_names) else str(number)
    values: tuple[Any, ...] = getattr(mini_batch, "values", ())  # not every kind can have keys
    keys = dict(zip(readers[number].keys, values, strict=True)) if values else {}
    if isinstance(mini_batch, BisectedMiniBatch):
        whole, start, stop, _ = mini_batch.part
        return MiniBatchContext(f"{whole}_{start}-{stop}", name, keys, attempt, (start, stop))
    return MiniBatchContext(str(mini_batch_id), name, keys, attempt)


def _leave_forked_child(how: BaseException | int) -> None:
    """A child that user code forked in ``run()`` and that came back from it ends here."""
    if isinstance(how, SystemExit):
        code = how.code if isinstance(how.code, int) else int(how.code is not None)
    elif isinstance(how, BaseException):
        code = 1
        sys.excepthook(type(how), how, how.__traceback__)
    else:
        code = how
    os._exit(code & 0xFF)

"""The worker process's life: set up, load, ``init()``, mini-batches, ``shutdown()``.

Started by ``launch.command``; talks to its supervisor as ``frames`` and ``phase`` say. It ends

- after QUIT: shutdown(), GOODBYE, atexit functions; threads that user code left behind are not waited for;
- after LOAD_FAILED: import or init() failed, exit code 1;
- at once, when the supervisor is gone: the stream ends, or the kernel kills it (PDEATHSIG).

Little is imported at the top, and nothing before it is needed: this is on the way of every start
(15 ms for the interpreter alone).
"""

from __future__ import annotations

import _socket
import atexit
import os
import sys
from contextlib import suppress
from pickle import loads
from time import monotonic
from typing import NoReturn

from prs_dask.entry_script import azure_names
from prs_dask.entry_script.entry_script import Surroundings, configure
from prs_dask.entry_script.failures import describe, warm_up
from prs_dask.entry_script.host import ScriptHost
from prs_dask.entry_script.log_handlers import prepare_root
from prs_dask.mini_batches import decode
from prs_dask.worker_process.attempts import Attempts, complain, send
from prs_dask.worker_process.frames import READY_BODY, FrameKind, ProcessSetup, pack_error, read_frame
from prs_dask.worker_process.launch import EXIT_BROKEN, EXIT_LOAD_FAILED, EXIT_SUPERVISOR_GONE
from prs_dask.worker_process.phase import Phase, PhasePage
from prs_dask.worker_process.profiling import Profile, profile_of
from prs_dask.worker_process.safeguards import StackDumps, die_with_parent, in_forked_child, moved_away

__all__ = ["main"]


def main(socket_descriptor: int, page_descriptor: int, stack_descriptor: int = -1, parent: int = 0) -> NoReturn:
    """Be a worker process until the supervisor says QUIT or is gone; never returns."""
    die_with_parent(parent)
    try:
        page = PhasePage(page_descriptor)
        os.close(page_descriptor)
        page.write(-1, Phase.IMPORT, -1, monotonic())
        sock = _socket.socket(fileno=moved_away(socket_descriptor))
        stacks = StackDumps(moved_away(stack_descriptor) if stack_descriptor >= 0 else -1)
        _live(sock, page, stacks)
    except EOFError:
        os._exit(EXIT_SUPERVISOR_GONE)
    except OSError as error:
        complain(f"the connection to the supervisor broke: {error}")
        os._exit(EXIT_SUPERVISOR_GONE)
    except BaseException as error:
        complain(f"the process cannot go on:\n{describe(error, ScriptHost().user_code).traceback}")
        os._exit(EXIT_BROKEN)


def _live(sock: _socket.socket, page: PhasePage, stacks: StackDumps) -> NoReturn:
    kind, _, payload = read_frame(sock)
    if kind != FrameKind.SETUP:
        raise ValueError(f"found a frame of kind {kind}; allowed here: SETUP")
    setup: ProcessSetup = loads(payload)  # noqa: S301 - from our own supervisor
    sys.path.extend(path for path in setup.import_paths if path not in sys.path)
    _prepare(setup)
    host = ScriptHost(setup.script, setup.script_object, setup.source_folder, setup.arguments)
    profile = Profile()
    try:
        # Before user code: afterwards sys.path may lead elsewhere.
        profile = profile_of(setup.profiling_module, setup.log_folder, setup.agent_name)
        attempts = Attempts(sock, page, host, setup, stacks)
        in_forked_child(attempts.forget_forked)
        host.load()
        profile.follow(host)
        begun = monotonic()
        page.write(-1, Phase.INIT, -1, begun)
        stacks.renew()
        host.init()
        init_seconds = monotonic() - begun
        attempts.load_libraries()  # behind user code, which may set how they are to work
    except BaseException as error:
        profile.end()
        send(sock, FrameKind.LOAD_FAILED, 0, pack_error(describe(error, host.user_code)))
        _leave(EXIT_LOAD_FAILED)
    page.write(-1, Phase.IDLE, -1, monotonic())
    send(sock, FrameKind.READY, 0, READY_BODY.pack(init_seconds))
    warm_up()
    _serve(sock, page, attempts, profile)
    profile.save()
    page.write(-1, Phase.SHUTDOWN, -1, monotonic())
    error_text = b""
    try:
        host.shutdown()
    except BaseException as error:
        error_text = pack_error(describe(error, host.user_code))
    try:
        attempts.send_last_files()
    except BaseException as error:
        error_text = error_text or pack_error(describe(error, host.user_code))
    profile.end()
    send(sock, FrameKind.GOODBYE, 0, error_text)
    _leave(0)


def _prepare(setup: ProcessSetup) -> None:
    """What user code finds around it, besides its own files."""
    configure(
        Surroundings(
            log_dir=os.path.join(setup.log_folder, "files"),
            output_dir=setup.output_folder,
            working_dir=setup.working_folder,
            log_file=os.path.join(setup.log_folder, f"{setup.agent_name}.log.txt"),
            agent_name=setup.agent_name,
            node_id=setup.node_id,
            logging_level=setup.logging_level,
            logging_format=setup.logging_format,
            arguments=setup.arguments,
            models=setup.models,
            inputs=setup.input_paths,
            metrics_file=os.path.join(setup.log_folder, "metrics.jsonl"),
        )
    )
    azure_names.install()
    prepare_root()


def _serve(sock: _socket.socket, page: PhasePage, attempts: Attempts, profile: Profile) -> None:
    """Mini-batches until QUIT."""
    while True:
        _wait(sock)
        kind, _, payload = read_frame(sock)
        if kind == FrameKind.QUIT:
            return
        if kind != FrameKind.WORK:
            raise ValueError(f"found a frame of kind {kind}; allowed here: WORK, QUIT")
        attempts.start_of_work()
        frame = loads(payload)  # noqa: S301 - from our own supervisor
        # All at once: behind a run() that has emptied the processor's caches each would take ten times as long.
        for work in [(sequence, number, attempt, decode(wire)) for sequence, number, attempt, wire in frame]:
            if page.is_revoked(work[0]):
                send(sock, FrameKind.SKIPPED, work[0])
            else:
                attempts.one(work)
                if profile.is_due:
                    page.write(-1, Phase.IDLE, -1, monotonic())  # no mini-batch's limit covers it
                    profile.save()
                    attempts.start_of_work()
        page.write(-1, Phase.IDLE, -1, monotonic())


def _wait(sock: _socket.socket) -> None:
    """Until there is something to read. A handler or alarm of user code may raise meanwhile: nothing is lost by it."""
    while True:
        try:
            if not sock.recv(1, _socket.MSG_PEEK):
                raise EOFError
            return
        except EOFError:
            raise
        except BaseException as error:
            # An error of the socket has a number; a TimeoutError of user code's alarm has none.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            complain(f"{type(error).__name__} was raised between mini-batches, and ignored")


def _leave(code: int) -> NoReturn:
    """The normal way out, but for waiting for threads that user code has left behind."""
    try:
        atexit._run_exitfuncs()
    except BaseException as error:
        complain(f"{type(error).__name__} was raised by a function registered with atexit")
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # closed or replaced by user code
            stream.flush()
    os._exit(code)

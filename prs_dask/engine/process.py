"""A worker process as its lane sees it: start, frames, the shared page, stacks, the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prs_dask.attempts.gpus import GpuShare
from prs_dask.attempts.records import AttemptError, Category
from prs_dask.clusters.abandoned import remove_tree
from prs_dask.engine.log_folder import LogFolder
from prs_dask.engine.node_preparation import on_node
from prs_dask.engine.shipper import profile_files, spool_files
from prs_dask.worker_process.family import Ended, ProcessFamily, describe_status
from prs_dask.worker_process.frames import (
    AT_THE_END,
    FRAME_HEADER,
    READY_BODY,
    FrameKind,
    ProcessSetup,
    unpack_error,
    unpack_outcome,
)
from prs_dask.worker_process.killed_stacks import where_in_stacks
from prs_dask.worker_process.launch import STACK_SIGNAL, command
from prs_dask.worker_process.output_files import AGAIN, unpack_file_piece
from prs_dask.worker_process.phase import Phase, PhasePage, new_page_descriptor

if TYPE_CHECKING:
    from prs_dask.engine.supervisor import Supervisor

__all__ = ["LaneProcess", "StartProblem"]

BUFFER_BYTES = 1 << 20
STACK_SECONDS = 0.25
END_SECONDS = 0.5
_OWN_FOLDERS = ("work", "output")
_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class StartProblem:
    """Why a process did not get through import and init(); ``too_long``: it was killed there for that,
    ``from_outside``: by somebody else."""

    error: AttemptError
    too_long: bool = False
    from_outside: bool = False


class LaneProcess:
    """``processNNN``: one worker process from its start to the end of its family.

    Parameters
    ----------
    supervisor
        Knows settings, folders and where log files go.
    family
        The lane's reaper; it has one worker process at a time.
    number
        NNN; never used twice on a node in a step run.
    gpus
        What it gets of the node's GPUs.
    gpu_lock
        A descriptor that holds its slot of a GPU; it is closed here, with the start. None: it has no GPU.

    Attributes
    ----------
    init_seconds
        What ``init()`` took, once the process is ready.
    files_lost
        Does it believe files to be stored that have been dropped? What it sends from then on builds on them.
    sent_all
        Has all arrived that it stored at its end?
    """

    def __init__(
        self,
        supervisor: Supervisor,
        family: ProcessFamily,
        number: int,
        gpus: GpuShare,
        gpu_lock: int | None,
    ) -> None:
        self.number = number
        self.name = f"process{number:03d}"
        self.pid = 0
        self.init_seconds = 0.0
        self.unsent = bytearray()
        self.finished_any = False
        self.files_lost = False
        self.sent_all = False
        self._files_of = -1  # the sequence of files that have been dropped
        self._supervisor = supervisor
        self._family = family
        self._gpus = gpus
        self._guards = [] if gpu_lock is None else [gpu_lock]
        self._received = bytearray()
        self._sequence = -1
        self._folder = supervisor.folder / self.name
        self._stack_descriptor = _appended_memory("prs-stacks")
        page_descriptor = new_page_descriptor()
        self.page = PhasePage(page_descriptor)
        self._page_descriptor = page_descriptor
        self.socket, self._theirs = socket.socketpair()
        for end in (self.socket, self._theirs):
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                end.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self.socket.setblocking(False)

    @property
    def control(self) -> socket.socket:
        """Becomes readable when the family has ended."""
        return self._family.control

    # ---------------------------------------------------------------- start

    def start(self) -> StartProblem | None:
        """Start it and wait for init(); None where it is ready for mini-batches."""
        supervisor = self._supervisor
        begun = time.monotonic()
        self.page.write(-1, Phase.IMPORT, -1, begun)
        try:
            setup = self._setup()
            with contextlib.ExitStack() as stack:
                place = (supervisor.folder, self.name, supervisor.node, self.number)
                as_json = supervisor.settings.logging_format == "json"
                files = spool_files(*place, as_json=as_json)
                outputs = []
                for file in files[:2]:
                    outputs.append(os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
                    stack.callback(os.close, outputs[-1])
                profiling = supervisor.settings.profiling_module
                files += profile_files(*place, (profiling,) if profiling else ())
                log_folder = LogFolder(self._folder, supervisor.node, self.number, as_json=as_json)
                supervisor.shipper.watch(files, log_folder)
                self._family.limit_memory(supervisor.memory_limit)
                kept = [self._theirs.fileno(), self._page_descriptor, self._stack_descriptor]
                self.pid = self._family.start(
                    command(*(100 + index for index in range(len(kept)))),
                    supervisor.environment(self.name, self.number, self._gpus),
                    setup.working_folder,
                    outputs[0],
                    outputs[1],
                    kept + self._guards,
                    guards=len(self._guards),
                )
        except OSError as error:
            return StartProblem(AttemptError("StartFailed", f"the process could not be started: {error}"))
        finally:
            self._theirs.close()
            for descriptor in (self._page_descriptor, *self._guards):
                os.close(descriptor)
        supervisor.tell_of_process(self.number, "started", pid=self.pid, why=_with_gpu(self._gpus))
        self.send(FrameKind.SETUP, pickle.dumps(setup, 5))
        return self._wait_until_ready(begun + supervisor.settings.limits.init_seconds)

    def _setup(self) -> ProcessSetup:
        supervisor, settings = self._supervisor, self._supervisor.settings
        folders = {name: self._folder / name for name in (*_OWN_FOLDERS, "logs")}
        for folder in folders.values():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = str(supervisor.source) if supervisor.source is not None else None
        output = supervisor.shared_output or str(folders["output"])
        return ProcessSetup(
            script=os.path.join(source, settings.script) if source and settings.script else None,
            script_object=settings.script_object,
            source_folder=source,
            arguments=tuple(
                output if text == settings.output_folder else on_node(text, supervisor.side_inputs)
                for text in settings.arguments
            ),
            readers=settings.readers,
            row_format=settings.row_format,
            working_folder=str(folders["work"]),
            log_folder=str(folders["logs"]),
            output_folder=output,
            sends_output=supervisor.shared_output is None,
            agent_name=self.name,
            node_id=supervisor.node,
            logging_level=settings.logging_level,
            logging_format=settings.logging_format,
            import_paths=tuple(path for path in sys.path if path),
            input_names=settings.input_names,
            input_paths=tuple((name, on_node(path, supervisor.side_inputs)) for name, path in settings.input_paths),
            cache_folder=None if supervisor.cache_folder is None else str(supervisor.cache_folder),
            cache_bound=settings.input_cache_size,
            profiling_module=settings.profiling_module,
        )

    def _wait_until_ready(self, until: float) -> StartProblem | None:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while True:
            if self.unsent:
                self.flush()
            left = until - time.monotonic()
            if self._supervisor.stopping:
                left = 0.0
            if left <= 0:
                seconds = self._supervisor.settings.limits.init_seconds
                doing = "init()" if self.page.read().phase == Phase.INIT else "importing the entry script"
                stacks = self.stacks()
                message = f"{doing} took longer than {seconds:g} s (--init_timeout); the process was killed"
                return StartProblem(self.killed("TimeLimit", message, stacks), too_long=True)
            if not poll.poll(min(left, 0.25) * 1000):
                continue
            frames, alive = self.receive()
            for kind, _, payload in frames:
                if kind == FrameKind.READY:
                    self.init_seconds = READY_BODY.unpack(payload)[0]
                    return None
                if kind == FrameKind.LOAD_FAILED:
                    return StartProblem(unpack_error(payload))
            if not alive:
                ended = self.wait()
                doing = "init()" if self.page.read().phase == Phase.INIT else "import"
                error = self.why_it_ended(ended, "the process", f" during {doing}")
                return StartProblem(error, from_outside=ended.from_outside)

    # ---------------------------------------------------------------- frames

    def next_sequence(self) -> int:
        """Number of the next mini-batch handed to this process."""
        self._sequence += 1
        return self._sequence

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Queue a frame; what the socket does not take now is sent when it is writable."""
        self.unsent += FRAME_HEADER.pack(kind, 0, len(payload)) + payload
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes without waiting."""
        try:
            sent = self.socket.send(self.unsent)
            del self.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()  # it is gone; the end of the stream says so

    def receive(self) -> tuple[list[tuple[int, int, bytes]], bool]:
        """Frames that have come whole: (kind, sequence, payload); False at the end of the stream."""
        alive = True
        try:
            data = self.socket.recv(BUFFER_BYTES)
            alive = bool(data)
        except BlockingIOError:
            data = b""
        except OSError:
            data, alive = b"", False
        if self._received:
            self._received += data
            data = bytes(self._received)
        frames = []
        offset, size, head = 0, len(data), FRAME_HEADER.size
        while size - offset >= head:
            kind, sequence, length = FRAME_HEADER.unpack_from(data, offset)
            if size - offset - head < length:
                break
            frames.append((kind, sequence, data[offset + head : offset + head + length]))
            offset += head + length
        self._received = bytearray(data[offset:])
        self.finished_any = self.finished_any or any(frame[0] == FrameKind.OUTCOME for frame in frames)
        return frames, alive

    def drop(self, kind: int, sequence: int, payload: bytes | memoryview) -> None:
        """Nobody wants this frame; but it was sent, and the process goes on from there."""
        if kind == FrameKind.FILE:
            self._files_of = sequence
        elif kind == FrameKind.OUTCOME and sequence == self._files_of:
            self.files_lost = self.files_lost or unpack_outcome(payload).category == Category.SUCCEEDED

    # ---------------------------------------------------------------- the end

    @property
    def has_stored(self) -> bool:
        """Does anything lie in an output folder of its own?"""
        if self._supervisor.shared_output is not None:
            return False
        try:
            with os.scandir(self._folder / "output") as found:
                return any(True for _ in found)
        except OSError:
            return False

    def stacks(self) -> str:
        """The Python stack of every thread, also where one of them holds the GIL for ever."""
        before = os.fstat(self._stack_descriptor).st_size
        self._family.signal(STACK_SIGNAL)
        until = time.monotonic() + STACK_SECONDS
        size = before
        while time.monotonic() < until:
            time.sleep(0.005)
            now = os.fstat(self._stack_descriptor).st_size
            if now > before and now == size:
                break
            size = now
        text = os.pread(self._stack_descriptor, 1 << 18, before).decode(errors="replace")
        return text or f"(no Python stack: signals do not reach the process; the kernel says it is {self._state()})"

    def _state(self) -> str:
        """What the kernel says of it: ``S (sleeping)``, ``T (stopped)``, ``D (disk sleep)``."""
        try:
            with open(f"/proc/{self.pid}/status") as file:
                return next(line.split(maxsplit=1)[1].strip() for line in file if line.startswith("State:"))
        except (OSError, StopIteration):
            return "gone"

    def last_stack(self) -> str:
        """What ``faulthandler`` wrote when the process was killed by a fatal signal; empty where it did not."""
        text = os.pread(self._stack_descriptor, 1 << 18, 0).decode(errors="replace")
        return text[max(0, text.rfind("Fatal Python error")) :]

    def cpu_seconds(self) -> float:
        """Processor time it has used so far; 0 where it is gone already."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return 0.0

    def kill(self) -> None:
        """Kill it with everything it has started; `wait` confirms."""
        self._family.kill()

    def wait(self) -> Ended:
        """How it ended; what does not go by itself soon is killed.

        From here on its stream has an end behind what it has sent, also where the kernel cannot kill it.
        """
        ended = self._family.wait(END_SECONDS)
        if ended is None:
            self._family.kill()
            ended = self._family.wait(10.0)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
        return ended or Ended(-1, 0)

    def how_it_ended(self, ended: Ended, subject: str, when: str = "") -> str:
        """The end of the process as a sentence that begins with ``subject``; ``when`` says what it was doing."""
        if ended.over:
            return (
                f"{subject} used {_mebibytes(ended.memory)}{when}, more than the "
                f"{_mebibytes(self._family.memory_limit)} it may have (memory_limit_per_process); it was killed with "
                "its children"
            )
        if ended.by_kernel:
            seen = f"; it used {_mebibytes(ended.memory)} when it was last looked at" if ended.memory else ""
            return f"{subject} was killed by SIGKILL by the kernel{when}, because memory was short{seen}"
        return f"{subject} {describe_status(ended.status)}{when}"

    def why_it_ended(self, ended: Ended, subject: str, when: str = "") -> AttemptError:
        """The same as an error."""
        text = self.how_it_ended(ended, subject, when)
        if ended.out_of_memory:
            return AttemptError("OutOfMemory", text)
        return self.killed("ProcessDied", text, self.last_stack())

    def killed(self, kind: str, message: str, stacks: str) -> AttemptError:
        """Its end as an error that names where in the user's code it was, where ``stacks`` say so."""
        source = self._supervisor.source
        where = where_in_stacks(stacks, None if source is None else str(source), _ENGINE)
        return AttemptError(kind, message, stacks, where)

    def quit(self, seconds: float, limit: str, take_file: Callable[[bytes], None]) -> AttemptError | None:
        """Let it call shutdown() and leave, for at most so long; what went wrong, None where nothing did.

        Parameters
        ----------
        seconds
            For shutdown() and for leaving; sending files takes what it takes.
        limit
            Why so many, in words.
        take_file
            Gets each piece of the files that it sends before it leaves, empty ones while it looks for more.
        """
        self.send(FrameKind.QUIT)
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        until = time.monotonic() + seconds
        doing, problem, builds_on_lost = "shutdown()", None, False
        while poll.poll(max(0.0, until - time.monotonic()) * 1000):
            frames, alive = self.receive()
            for kind, sequence, payload in frames:
                if kind == FrameKind.FILE and sequence == AT_THE_END:
                    if self.files_lost and payload and unpack_file_piece(payload).flags & AGAIN:
                        builds_on_lost = True
                    else:
                        take_file(bytes(payload))
                    until = time.monotonic() + seconds
                elif kind == FrameKind.FILES_SENT:
                    self.sent_all = not builds_on_lost
                elif kind in (FrameKind.FILE, FrameKind.OUTCOME):
                    self.drop(kind, sequence, payload)
                elif kind == FrameKind.GOODBYE:
                    doing, problem = (
                        "leaving (functions registered with atexit)",
                        unpack_error(payload) if payload else None,
                    )
            if not alive:
                if doing == "shutdown()":  # it has not come to its end
                    problem = self.why_it_ended(self.wait(), "the process", " in shutdown()")
                return problem
        message = f"{doing} took longer than {seconds:g} s ({limit}); the process was killed"
        return self.killed("TimeLimit", message, self.stacks())

    def close(self) -> None:
        """End its family, ship the last of its output, and free what it has written beside that."""
        if self.pid:
            self._family.kill()
            self._family.wait(10.0)
        self.socket.close()
        self.page.close()
        os.close(self._stack_descriptor)
        self._supervisor.shipper.process_closed(self.number)
        for name in _OWN_FOLDERS:  # what lies there has arrived, or never will
            remove_tree(self._folder / name)


def _with_gpu(gpus: GpuShare) -> str:
    if not gpus.count:
        return ""
    if gpus.slot is None:
        return "without a GPU"
    name = gpus.slot.gpu
    return f"with GPU {gpus.visible}" + ("" if name == gpus.visible else f" ({name})")


def _mebibytes(size: int) -> str:
    return f"{size >> 20:,} MiB"


def _appended_memory(name: str) -> int:
    """A file in memory whose writers append, whoever else reads it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor

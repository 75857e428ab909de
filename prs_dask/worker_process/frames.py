"""Frames between a supervisor and its worker process.

A frame is a header (kind, sequence, payload length) and its payload, over a socket pair::

    supervisor -> process   SETUP     pickled ProcessSetup, once
                            WORK      pickled list of (sequence, mini-batch id, attempt, descriptor)
                            QUIT      call shutdown() and leave

    process -> supervisor   READY         import and init() are done; payload: seconds in init() (see ``READY_BODY``)
                            LOAD_FAILED   packed error (see ``pack_error``): import or init() failed
                            HEADER        the header line of the table mini-batch ``sequence`` returned,
                                          before its rows (only where a header is asked for)
                            ROWS          a piece of the rows of mini-batch ``sequence``, not the last
                            FILE          a piece of a file that it has stored (see ``output_files``), before its
                                          OUTCOME; `AT_THE_END` as sequence: before GOODBYE; empty: it goes on
                            FILES_SENT    all that it has stored has been sent, and GOODBYE comes
                            OUTCOME       OutcomeHeader, then the last rows, or the packed error
                            SKIPPED       ``sequence`` had been revoked before it was begun
                            GOODBYE       shutdown() has returned (payload: packed error if it raised)

and between the supervisors of a node and its fetcher, one way only::

    supervisor -> fetcher   SETUP     pickled FetcherSetup, once on each connection
                            WORK      pickled list of descriptors: soon to be read on this node

as between a supervisor and the node's resource monitor, where it is this supervisor's::

    supervisor -> monitor   SETUP     pickled MonitorSetup, once
                            QUIT      take a last sample and leave

The process writes an OUTCOME before it begins the next mini-batch and never waits for an answer.
It reads only when it has nothing to run: a supervisor that writes WORK must go on reading meanwhile.
ROWS and FILE are void when the OUTCOME of their sequence is an error (``str()`` of a late element raised).
``sequence`` counts the mini-batches handed to one process, from 0.
"""

from __future__ import annotations

import enum
import struct
from _json import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.attempts.records import AttemptError

if TYPE_CHECKING:
    import _socket

__all__ = [
    "AT_THE_END",
    "FRAME_HEADER",
    "MAX_PIECE",
    "OUTCOME_SIZE",
    "READY_BODY",
    "FetcherSetup",
    "FrameKind",
    "MonitorSetup",
    "OutcomeHeader",
    "ProcessSetup",
    "pack_error",
    "pack_outcome",
    "read_exactly",
    "read_frame",
    "unpack_error",
    "unpack_outcome",
    "write_frame",
]

FRAME_HEADER = struct.Struct("<BQQ")
"""kind, sequence, payload length in bytes."""

READY_BODY = struct.Struct("<d")

MAX_PIECE = 1 << 20
"""Rows of one mini-batch above this many bytes leave the process in several frames."""


class FrameKind(enum.IntEnum):
    SETUP = 1
    WORK = 2
    QUIT = 3
    READY = 16
    LOAD_FAILED = 17
    ROWS = 18
    OUTCOME = 19
    SKIPPED = 20
    GOODBYE = 21
    HEADER = 22
    FILE = 23
    FILES_SENT = 24


AT_THE_END = (1 << 64) - 1
"""Stands for a sequence where files belong to no mini-batch."""


class OutcomeHeader(NamedTuple):
    """What the process measured of one attempt; rows or a packed error follow it.

    ``length``: bytes of rows in all, those sent in ROWS frames included. Times in seconds; ``started``
    since the epoch.
    """

    category: int
    items: int
    results: int
    length: int
    started: float
    elapsed: float
    read: float
    run: float
    cpu: float


_OUTCOME = struct.Struct("<BIIQdffff")
OUTCOME_SIZE = _OUTCOME.size
pack_outcome = _OUTCOME.pack


def unpack_outcome(data: bytes | bytearray | memoryview, offset: int = 0) -> OutcomeHeader:
    """The header at ``offset``; its rows or error begin ``OUTCOME_SIZE`` later."""
    return OutcomeHeader._make(_OUTCOME.unpack_from(data, offset))


class ProcessSetup(NamedTuple):
    """All that a worker process needs to know, in one value.

    A named tuple: ``dataclasses`` alone would cost a third of the process's start.

    Parameters
    ----------
    script
        Path of the entry script on this node; None where ``script_object`` is given.
    script_object
        cloudpickle of an object with ``run`` and optional ``init`` and ``shutdown``.
    source_folder
        First on ``sys.path``; None where only an object is sent.
    arguments
        The script's own command line: ``sys.argv[1:]``.
    readers
        For each input of the step, what ``datasets.reading.read`` wants to know (its ReadSpec).
    row_format
        How results become rows (``output.rows.RowFormat``); None with summary_only.
    working_folder, log_folder, output_folder
        Own folders of this process; they exist.
    sends_output
        What the script stores in ``output_folder`` is to be sent; else it is the step's own folder.
    agent_name, node_id
        ``process000`` and the node's number.
    logging_level
        ``"WARNING"``, ``"INFO"`` or ``"DEBUG"``.
    logging_format
        Of what ``EntryScript().logger`` writes: ``"text"`` or ``"json"``.
    import_paths
        Entries of the supervisor's ``sys.path`` that a fresh interpreter lacks, appended last.
    input_names
        Name of each input of the step, as ``mini_batch_context.dataset`` tells it; an input
        without one is called by its number.
    cache_folder, cache_bound
        The node's cache of files of stores and its bound in bytes, see `prs_dask.stores.cache`; no folder where
        no input needs it.
    profiling_module
        ``"cProfile"`` or ``"memray"``, see `prs_dask.worker_process.profiling`; None: no profile.
    input_paths, models
        Pairs (name, local path) for ``Run.get_context().input_datasets`` and ``Model.get_model_path``.
    """

    script: str | None
    script_object: bytes | None
    source_folder: str | None
    arguments: tuple[str, ...]
    readers: tuple[Any, ...]
    row_format: Any
    working_folder: str
    log_folder: str
    output_folder: str
    agent_name: str
    node_id: int
    logging_level: str
    import_paths: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    cache_folder: str | None = None
    cache_bound: int | None = None
    profiling_module: str | None = None
    input_paths: tuple[tuple[str, str], ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    logging_format: str = "text"
    sends_output: bool = False


class FetcherSetup(NamedTuple):
    """What a fetcher needs to know; the fields are those of `ProcessSetup`."""

    readers: tuple[Any, ...]
    cache_folder: str
    cache_bound: int | None
    import_paths: tuple[str, ...]


class MonitorSetup(NamedTuple):
    """What a resource monitor needs to know.

    Parameters
    ----------
    file
        Where its samples go.
    node_folder
        The node's folder of the step run, with a folder of each supervisor.
    interval
        Seconds between two samples.
    import_paths
        See `ProcessSetup`.
    """

    file: str
    node_folder: str
    interval: float
    import_paths: tuple[str, ...]


def pack_error(error: AttemptError) -> bytes:
    """UTF-8 JSON of an error; lone surrogates are escaped, so any text travels."""
    # The scanner below json itself: user code may have a json.py, or no sys.path left.
    return f"[{','.join(map(encode_basestring_ascii, error))}]".encode("ascii")


def unpack_error(data: bytes | bytearray | memoryview) -> AttemptError:
    """The error that ``pack_error`` was given."""
    import json

    return AttemptError(*json.loads(bytes(data)))


def write_frame(sock: _socket.socket, kind: int, sequence: int = 0, payload: bytes = b"") -> None:
    """Send one frame whole; blocks while the peer's buffer is full."""
    sock.sendall(FRAME_HEADER.pack(kind, sequence, len(payload)) + payload)


def read_exactly(sock: _socket.socket, size: int) -> bytearray:
    """``size`` bytes; EOFError where the peer is gone before."""
    data = bytearray(size)
    view = memoryview(data)
    have = 0
    while have < size:
        count = sock.recv_into(view[have:])
        if not count:
            raise EOFError
        have += count
    return data


def read_frame(sock: _socket.socket) -> tuple[int, int, bytearray]:
    """The next frame: kind, sequence, payload."""
    kind, sequence, length = FRAME_HEADER.unpack(read_exactly(sock, FRAME_HEADER.size))
    return kind, sequence, read_exactly(sock, length)

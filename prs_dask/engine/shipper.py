"""What a supervisor's worker processes write, on its way to the scheduler: files, and what is told of processes.

Each call has a number: one that is repeated, because its answer was lost, doubles nothing. What a supervisor that was
killed had not sent yet is sent by another one of its node, under the dead one's name and with its numbers: before a
call is made its number is noted in the supervisor's folder, and then, beside the file, what of it the call sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from prs_dask.engine.changing_file import ChangingFile
from prs_dask.engine.log_folder import LogFolder
from prs_dask.engine.log_shipping import SpoolFile
from prs_dask.engine.outbox import sendable_text
from prs_dask.engine.resource_monitor import SAMPLES
from prs_dask.engine.sent_notes import read_note, write_note
from prs_dask.engine.spool import NodeFolder
from prs_dask.worker_process.profiling import PROFILING_MODULES, profile_file

__all__ = ["Shipper", "monitor_files", "profile_files", "spool_files"]

CALL = "call"
"""In a supervisor's folder: the number of its last call."""

PIECES_A_ROUND = 8
NO_PROCESS = -1

ShippedFile: TypeAlias = SpoolFile | ChangingFile
Call = Callable[..., Awaitable[dict[str, Any]]]


def spool_files(folder: Path, name: str, node: int, process: int, *, as_json: bool = False) -> list[ShippedFile]:
    """The files of the process that has this name, below the folder of its supervisor; ``as_json``: so are the lines
    of its log."""
    own = folder / name
    return [
        SpoolFile(own / "stdout.txt", "stdout", node, process),
        SpoolFile(own / "stderr.txt", "stderr", node, process),
        SpoolFile(own / "logs" / f"{name}.log.txt", "log", node, process, as_json=as_json),
        SpoolFile(own / "logs" / "metrics.jsonl", "metrics", node, process, shared=True, as_json=True),
    ]


def profile_files(
    folder: Path, name: str, node: int, process: int, modules: Sequence[str] = PROFILING_MODULES
) -> list[ShippedFile]:
    """The profiles that these modules make of the process that has this name."""
    own = folder / name / "logs"
    return [
        ChangingFile(own / profile_file(module, name), module, node, process, at_end=module == "memray")
        for module in modules
    ]


def monitor_files(folder: Path, node: int) -> list[ShippedFile]:
    """The samples of the node's resource monitor, where it is this supervisor's."""
    return [SpoolFile(folder / SAMPLES, "usage", node, NO_PROCESS, shared=True)]


class Shipper:
    """See the module's docstring.

    Parameters
    ----------
    call
        Calls the scheduler plugin; repeated where the connection breaks.
    folder
        This supervisor's own.
    number
        Of the last call that was made under the folder's name.
    """

    def __init__(self, call: Call, folder: Path, number: int = 0) -> None:
        self._call = call
        self._sender = folder.name
        self._noted_at = folder / CALL
        self._number = number
        self._files: list[ShippedFile] = []
        self._folders: list[LogFolder] = []
        self._closed: set[int] = set()
        self._unread: set[Path] = set()
        self._news: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._shipping = asyncio.Lock()

    def watch(self, files: list[ShippedFile], folder: LogFolder | None = None) -> None:
        """Ship what a process writes to these, and into this folder; from any thread."""
        with self._lock:
            self._files += files
            self._folders += [folder] if folder is not None else []

    def process_closed(self, process: int) -> None:
        """A process has ended: ship the rest of its files and forget them; from any thread."""
        with self._lock:
            self._closed.add(process)

    def tell(self, news: dict[str, Any]) -> None:
        """Something that is known of a process; from any thread."""
        with self._lock:
            self._news.append({"data": b"", **news})

    def tell_fault(self, text: str) -> None:
        """What goes wrong with logs; it is told among the faults of the engine, and nothing fails for it."""
        self.tell({"kind": "fault", "time": time.time(), "where": "shipping of logs", "text": sendable_text(text)})

    async def ship(self, *, last: bool = False) -> None:
        """What is new, in pieces; the answer to each says when to go on.

        Files take turns, and a process that writes more than `PIECES_A_ROUND` each round piles up a backlog, whose
        middle is left out (see `SpoolFile`): a flood neither holds up others nor fills the logs.
        """
        async with self._shipping:  # a piece that was read is a piece sent, before the last round begins
            with self._lock:
                news, self._news = self._news, []
                closed = set(self._closed)
                files, folders = list(self._files), list(self._folders)
            for folder in folders:
                files += await asyncio.to_thread(folder.with_news, ended=last or folder.process in closed)
                news += [told] if (told := folder.news()) is not None else []
            if news:
                await self._send(news)
            await self._ship_files(files, closed, last)
            for folder in folders:
                if folder.process in closed:
                    await asyncio.to_thread(folder.remove)
            with self._lock:
                self._closed -= closed
                self._files = [file for file in self._files if file.process not in closed]
                self._folders = [folder for folder in self._folders if folder.process not in closed]

    async def _ship_files(self, files: list[ShippedFile], closed: set[int], last: bool) -> None:
        turn, turns, shipped = files, 0, set()
        while turn:
            again = []
            for file in turn:
                ended = last or file.process in closed
                if await self.ship_piece(file, ended=ended):
                    shipped.add(file.path)
                    if ended or turns + 1 < PIECES_A_ROUND:
                        again.append(file)
            turn, turns = again, turns + 1
        for file in files:
            if file.process in closed:
                await asyncio.to_thread(file.remove)
            elif file.path in shipped:
                await asyncio.to_thread(file.free_shipped)

    async def ship_piece(self, file: ShippedFile, *, ended: bool = False) -> bool:
        """The file's next piece, if there is one."""
        try:
            piece = await asyncio.to_thread(file.next_piece, ended=ended)
        except OSError as error:  # a script may do anything to its files; the others are shipped
            self._cannot_read(file, error)
            return False
        if piece is not None:
            await self._send([piece], file)
        return piece is not None

    async def _send(self, pieces: list[dict[str, Any]], file: ShippedFile | None = None) -> None:
        self._number += 1
        await asyncio.to_thread(self._note, file)
        await self._call("logs", sender=self._sender, number=self._number, pieces=pieces)

    def _cannot_read(self, file: ShippedFile, error: OSError) -> None:
        if file.path not in self._unread:
            self._unread.add(file.path)
            self.tell_fault(f"{file.path} is not shipped: {error.strerror or error}")

    def _note(self, file: ShippedFile | None) -> None:
        write_note(self._noted_at, self._number)
        if file is not None:
            file.note_call(self._number)

    # ---------------------------------------------------------------- a dead supervisor's

    @classmethod
    async def adopt(
        cls, call: Call, folders: NodeFolder, node: int, *, last: bool = False, as_json: bool = False
    ) -> None:
        """Send what supervisors of this node that were killed have left behind."""
        for folder in await asyncio.to_thread(folders.orphans, at_once=last):
            with contextlib.suppress(OSError):  # the disk fails, or another has been faster
                await cls._adopt(call, folder, node, as_json)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @classmethod
    async def _adopt(cls, call: Call, folder: Path, node: int, as_json: bool) -> None:
        processes = [own for own in sorted(folder.glob("process*")) if own.name[7:].isdecimal()]
        files = monitor_files(folder, node)
        for own in processes:
            files += spool_files(folder, own.name, node, int(own.name[7:]), as_json=as_json)
            files += profile_files(folder, own.name, node, int(own.name[7:]))
        log_folders = [LogFolder(own, node, int(own.name[7:]), as_json=as_json) for own in processes]
        all_files = files + [file for log_folder in log_folders for file in await asyncio.to_thread(log_folder.files)]
        sent = [(*await asyncio.to_thread(file.resume), file) for file in all_files]
        last = await asyncio.to_thread(_last_call, folder, max((number for number, _, _ in sent), default=0))
        for number, end, file in sent:
            if end and number == last:  # the scheduler knows whether it had come
                piece = await asyncio.to_thread(file.next_piece, end)
                if piece is not None:
                    await call("logs", sender=folder.name, number=number, pieces=[piece])
            elif end:
                file.go_on_at(end)
        shipper = cls(call, folder, last)
        shipper.watch(files)
        for log_folder in log_folders:
            shipper.watch([], log_folder)
        await shipper.ship(last=True)


def _last_call(folder: Path, otherwise: int) -> int:
    """The number of the last call that was made, or was about to be made, under this folder's name."""
    try:
        return int("".join(read_note(folder / CALL)))
    except ValueError:
        return otherwise

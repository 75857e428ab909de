"""What a supervisor's worker processes write, on its way to the scheduler: files, and what is told of processes.

Each call has a number: one that is repeated, because its answer was lost, doubles nothing. What a supervisor that was
killed had not sent yet is sent by another one of its node, under the dead one's name and with its numbers: before a
call is made its number is noted in the supervisor's folder, and then, beside the file, what of it the call sends.
"""

from __future__ import annotations

import asyncio
import math
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
TRIES = 3
"""So often in a row what cannot be read is tried before that is told; then it is removed with its process."""

TRY_SECONDS = 0.3
"""Between them where there are no more rounds."""

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
    """

    def __init__(self, call: Call, folder: Path) -> None:
        self._call = call
        self._sender = folder.name
        self._noted_at = folder / CALL
        self._number = 0
        self._files: list[ShippedFile] = []
        self._folders: list[LogFolder] = []
        self._closed: set[int] = set()
        self._failed: dict[Path, int] = {}  # looks in a row
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
        middle is left out (see `SpoolFile`): a flood neither holds up others nor fills the logs. Nor do the files of
        a process that has ended: what a round leaves of them is for the next one. The ``last`` one leaves nothing.
        """
        async with self._shipping:  # a piece that was read is a piece sent, before the last round begins
            while await self._round(last=last) and last:
                await asyncio.sleep(TRY_SECONDS)
            if last:
                await self._send_news()

    async def _round(self, *, last: bool) -> bool:
        """Is there more?"""
        await self._send_news()
        with self._lock:
            closed, files, folders = set(self._closed), list(self._files), list(self._folders)
        for folder in folders:
            files += await self._found_in(folder, ended=last or folder.process in closed)
        places = [file.offset for file in files]
        more = await self._ship_files(files, closed, last)
        more |= {one.process for one in (*files, *folders) if 0 < self._failed.get(one.path, 0) < TRIES}
        through = closed - more
        for file, place in zip(files, places, strict=True):
            if file.process in through:
                self._failed.pop(file.path, None)
                await asyncio.to_thread(file.remove)
            elif file.offset != place:
                await asyncio.to_thread(file.free_shipped)
        for folder in folders:
            if folder.process in through:
                self._failed.pop(folder.path, None)
                await asyncio.to_thread(folder.remove)
        with self._lock:
            self._closed -= through
            self._files = [file for file in self._files if file.process not in through]
            self._folders = [folder for folder in self._folders if folder.process not in through]
        return bool(more)

    async def _send_news(self) -> None:
        with self._lock:
            news = list(self._news)
        if news:
            await self._send(news)
            with self._lock:
                del self._news[: len(news)]

    async def _ship_files(self, files: list[ShippedFile], closed: set[int], last: bool) -> set[int]:
        """The processes whose files have more."""
        most = math.inf if last else PIECES_A_ROUND
        ended = {file.process for file in files} if last else closed
        turn, turns = [file for file in files if not file.at_end], 0
        while turn and turns < most:
            turn = [file for file in turn if await self._ship_piece(file, ended=file.process in ended)]
            turns += 1
        large = [file for file in files if file.at_end and file.process in ended]
        while large and most > 0:  # behind the others, and one after the other
            if await self._ship_piece(large[0], ended=True):
                most -= 1
            else:
                del large[0]
        return {file.process for file in (*turn, *large)}

    async def _ship_piece(self, file: ShippedFile, *, ended: bool) -> bool:
        """The file's next piece, if there is one."""
        piece = await self._read(file, ended=ended)
        if piece is not None:
            await self._send([piece], file)
        return piece is not None

    async def _send(self, pieces: list[dict[str, Any]], file: ShippedFile | None = None) -> None:
        self._number += 1
        await asyncio.to_thread(self._note, file)
        await self._call("logs", sender=self._sender, number=self._number, pieces=pieces)

    def _note(self, file: ShippedFile | None) -> None:
        write_note(self._noted_at, self._number)
        if file is not None:
            file.note_call(self._number)

    # ---------------------------------------------------------------- a script may do anything to its files

    async def _read(self, file: ShippedFile, until: int | None = None, *, ended: bool = False) -> dict[str, Any] | None:
        try:
            piece = await asyncio.to_thread(file.next_piece, until, ended=ended)
        except Exception as error:  # whatever it is, the others are shipped
            self._cannot_read(file.path, error)
            return None
        self._failed.pop(file.path, None)
        return piece

    async def _found_in(self, folder: LogFolder, *, ended: bool) -> list[ChangingFile]:
        try:
            found = await asyncio.to_thread(folder.with_news, ended=ended)
        except Exception as error:
            self._cannot_read(folder.path, error)
            return []
        self._failed.pop(folder.path, None)
        if (told := folder.news()) is not None:
            self.tell(told)
        return found

    def _cannot_read(self, path: Path, error: Exception) -> None:
        self._failed[path] = self._failed.get(path, 0) + 1
        if self._failed[path] == TRIES:
            why = error.strerror if isinstance(error, OSError) else None
            self.tell_fault(f"{path} is not shipped: {why or repr(error)}")

    # ---------------------------------------------------------------- a dead supervisor's

    @classmethod
    async def adopt(
        cls, call: Call, folders: NodeFolder, node: int, *, last: bool = False, as_json: bool = False
    ) -> None:
        """Send what supervisors of this node that were killed have left behind."""
        faults = []
        for folder in await asyncio.to_thread(folders.orphans, at_once=last):
            try:
                await cls._of_dead(call, folder, node, as_json)._send_rest()
            except Exception as error:
                faults.append(error)
                folders.leave_orphan(folder)
            else:
                await asyncio.to_thread(folders.remove_orphan, folder)
        if faults:
            raise ExceptionGroup("what supervisors that were killed have left behind", faults)

    @classmethod
    def _of_dead(cls, call: Call, folder: Path, node: int, as_json: bool) -> Shipper:
        dead = cls(call, folder)
        dead.watch(monitor_files(folder, node))
        for own in sorted(folder.glob("process*")):
            if own.name[7:].isdecimal():
                process = int(own.name[7:])
                files = spool_files(folder, own.name, node, process, as_json=as_json)
                files += profile_files(folder, own.name, node, process)
                dead.watch(files, LogFolder(own, node, process, as_json=as_json))
        return dead

    async def _send_rest(self) -> None:
        """Go on where the folder's owner was killed."""
        files = list(self._files)
        for folder in self._folders:
            files += await self._found_in(folder, ended=True)
        sent = [(*await self._resume(file), file) for file in files]
        otherwise = max((number for number, _, _ in sent), default=0)
        self._number = await asyncio.to_thread(_last_call, self._noted_at, otherwise)
        for number, end, file in sent:
            if end and number == self._number:  # the scheduler knows whether it had come
                piece = await self._read(file, end)
                if piece is not None:
                    await self._call("logs", sender=self._sender, number=number, pieces=[piece])
            elif end:
                file.go_on_at(end)
        await self.ship(last=True)

    async def _resume(self, file: ShippedFile) -> tuple[int, int]:
        try:
            return await asyncio.to_thread(file.resume)
        except Exception as error:
            self._cannot_read(file.path, error)
            return 0, 0


def _last_call(note: Path, otherwise: int) -> int:
    """The number of the last call that was made, or was about to be made, under this folder's name; the disk may have
    been too full for its note."""
    try:
        return max(int("".join(read_note(note))), otherwise)
    except ValueError:
        return otherwise

"""What a supervisor's worker processes write, on its way to the scheduler: files, and what is told of processes.

Each call has a number: one that is repeated, because its answer was lost, doubles nothing. What a supervisor that was
killed had not sent yet is sent by another one of its node, under the dead one's name and with its numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from prs_dask.engine.changing_file import ChangingFile
from prs_dask.engine.log_folder import LogFolder
from prs_dask.engine.log_shipping import SpoolFile
from prs_dask.engine.resource_monitor import SAMPLES
from prs_dask.engine.spool import NodeFolder
from prs_dask.worker_process.profiling import PROFILING_MODULES, profile_file

__all__ = ["Shipper", "monitor_files", "profile_files", "spool_files"]

PIECES_A_ROUND = 8
NO_PROCESS = -1

ShippedFile: TypeAlias = SpoolFile | ChangingFile
Call = Callable[..., Awaitable[dict[str, Any]]]


def spool_files(folder: Path, name: str, node: int, process: int) -> list[ShippedFile]:
    """The files of the process that has this name, below the folder of its supervisor."""
    own = folder / name
    return [
        SpoolFile(own / "stdout.txt", "stdout", node, process),
        SpoolFile(own / "stderr.txt", "stderr", node, process),
        SpoolFile(own / "logs" / f"{name}.log.txt", "log", node, process),
        SpoolFile(own / "logs" / "metrics.jsonl", "metrics", node, process, shared=True),
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
        self._number = number
        self._files: list[ShippedFile] = []
        self._folders: list[LogFolder] = []
        self._closed: set[int] = set()
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

    async def ship(self, *, last: bool = False) -> None:
        """What is new, in pieces; the answer to each says when to go on.

        Files take turns, and a process that writes more than `PIECES_A_ROUND` each round piles up a backlog, whose
        middle is left out (see `SpoolFile`): a flood neither holds up others nor fills the logs.
        """
        async with self._shipping:  # a piece that was read is a piece sent, before the last round begins
            with self._lock:
                news, self._news = self._news, []
                closed, self._closed = self._closed, set()
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

    async def ship_piece(self, file: ShippedFile, until: int | None = None, *, ended: bool = False) -> bool:
        """The file's next piece, if there is one."""
        number = self._number if until is not None else self._number + 1
        piece = await asyncio.to_thread(file.next_piece, number, until, ended=ended)
        if piece is not None:
            await self._send([piece], again=until is not None)
        return piece is not None

    async def _send(self, pieces: list[dict[str, Any]], *, again: bool = False) -> None:
        self._number += not again
        await self._call("logs", sender=self._sender, number=self._number, pieces=pieces)

    # ---------------------------------------------------------------- a dead supervisor's

    @classmethod
    async def adopt(cls, call: Call, folders: NodeFolder, node: int, *, last: bool = False) -> None:
        """Send what supervisors of this node that were killed have left behind."""
        for folder in await asyncio.to_thread(folders.orphans, at_once=last):
            with contextlib.suppress(OSError):  # the disk fails, or another has been faster
                await cls._adopt(call, folder, node)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @classmethod
    async def _adopt(cls, call: Call, folder: Path, node: int) -> None:
        processes = [own for own in sorted(folder.glob("process*")) if own.name[7:].isdecimal()]
        files = monitor_files(folder, node)
        for own in processes:
            files += spool_files(folder, own.name, node, int(own.name[7:]))
            files += profile_files(folder, own.name, node, int(own.name[7:]))
        log_folders = [LogFolder(own, node, int(own.name[7:])) for own in processes]
        all_files = files + [file for log_folder in log_folders for file in await asyncio.to_thread(log_folder.files)]
        sent = [(*await asyncio.to_thread(file.resume), file) for file in all_files]
        number, _, latest = max(sent, key=lambda one: one[0], default=(0, 0, None))
        shipper = cls(call, folder, number)
        for _, end, file in sent:
            if end and file is latest:
                await shipper.ship_piece(file, end)  # the scheduler knows whether it had come
            elif end:
                file.go_on_at(end)
        shipper.watch(files)
        for log_folder in log_folders:
            shipper.watch([], log_folder)
        await shipper.ship(last=True)

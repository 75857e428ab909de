"""``python -m tests.kept_run_folders FOLDER``: run every kind of step run, and keep what it has left.

A new format of journal, manifest or ``run.json`` gets a folder of its own beside those there are, which stay as they
were written. All are of one worker process over twelve files (or one table of them), one or six to a mini-batch.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prs_dask.output.journal import read_journal
from tests.kept_run_folders.placing import KEPT_PLACE, make_inputs, moved

FILES = ("run.json", "source.zip", "journal.jsonl", "inputs.jsonl.gz", "order.records")
SCRIPT = """\
import time
from pathlib import Path

import pandas as pd

PLACE = []


def init():
    from prs_dask import EntryScript

    PLACE.append(Path(EntryScript().output_dir).parents[1])


def run(mini_batch):
    names = list(mini_batch["name"]) if isinstance(mini_batch, pd.DataFrame) else [Path(one).name for one in mini_batch]
    if {"04", "09"} & set(names) and (PLACE[0] / "not-yet").exists():
        raise ValueError("not yet")
    while "05" in names and (PLACE[0] / "hold").exists():
        time.sleep(0.01)
    return pd.DataFrame({"name": names})
"""
INPUT_ORDER = ("--append-row-order", "input")
TABLE = ("--input", "table.csv", "--input-format", "delimited", "--input-option", "dtype={'name': 'str'}")


class Maker:
    """Makes them in one folder and keeps them in another."""

    def __init__(self, place: Path, kept: Path) -> None:
        self.place, self.kept = place, kept
        make_inputs(place)
        (place / "script.py").write_text(SCRIPT)

    def start(self, kind: str, *more: str) -> subprocess.Popen[bytes]:
        """``prs-dask run``, with a run folder that has the name of the kind."""
        inputs = () if "--input" in more else ("--input", "items")
        size = () if "--mini-batch-size" in more else ("--mini-batch-size", "1")
        own = ("--entry-script", "script.py", "--name", kind, "--run-folder", kind, "--output-action", "append_row")
        own += ("--process-count-per-node", "1", "--run-max-try", "1", "--progress", "off")
        header = ("--append_row_dataframe_header", "True")
        return self._prs_dask("run", *own, *inputs, *size, *more, "--", *header)

    def ends(self, process: subprocess.Popen[bytes], code: int = 0) -> None:
        if process.wait(120) != code:
            raise RuntimeError(f"{process.args} ended with {process.returncode}, not {code}")

    def stops(self, kind: str, number: int, *more: str) -> None:
        """A step run that gets this signal while its sixth mini-batch runs, and all before are committed."""
        (self.place / "hold").touch()
        process = self.start(kind, *more)
        journal = self.place / kind / "journal.jsonl"
        while not journal.exists() or read_journal(journal).counts.get("items", 0) < 5:
            if process.poll() is not None:
                raise RuntimeError(f"{kind} has ended before it was stopped")
            time.sleep(0.01)
        os.kill(process.pid, number)
        process.wait(60)
        (self.place / "hold").unlink()

    def resume(self, kind: str) -> None:
        self.ends(self._prs_dask("resume", kind, "--progress", "off"))

    def keep(self, kind: str, name: str | None = None) -> Path:
        """Copy what a resume reads: not the logs, and of the output only what has no end yet."""
        with tempfile.TemporaryDirectory() as folder:
            chosen = Path(folder) / (name or kind)
            chosen.mkdir()
            paths = [self.place / kind / file for file in FILES] + list((self.place / kind).glob("output/*.partial*"))
            for path in filter(Path.exists, paths):
                copy = chosen / path.relative_to(self.place / kind)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
            return moved(chosen, self.kept / (name or kind), str(self.place), KEPT_PLACE)

    def make(self) -> None:
        """All of them."""
        self.ends(self.start("completed", *INPUT_ORDER))
        self.keep("completed")
        self.stops("running", signal.SIGKILL)
        _tear(self.keep("running"), self.keep("running", "torn"))
        self.stops("table", signal.SIGKILL, *TABLE, *INPUT_ORDER)
        self.keep("table")
        self.stops("canceled", signal.SIGINT)
        self.keep("canceled")
        (self.place / "not-yet").touch()
        self.ends(self.start("completed-with-failures", "--error-threshold", "-1"))
        self.keep("completed-with-failures")
        sixes = ("--mini-batch-size", "6", "--on-failed-mini-batch", "bisect")
        self.ends(self.start("bisected", *sixes, "--error-threshold", "-1"))
        self.keep("bisected")
        self.ends(self.start("partly-bisected", *sixes), code=1)
        self.keep("partly-bisected")
        self.ends(self.start("failed", *INPUT_ORDER, "--error-threshold", "0"), code=1)
        self.keep("failed")
        (self.place / "not-yet").unlink()
        self.resume("failed")
        self.keep("failed", "resumed")

    def _prs_dask(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "prs_dask", *arguments], cwd=self.place)


def _tear(whole: Path, torn: Path) -> None:
    """As a host may leave it that crashes a moment earlier: the last line and the last member are not whole."""
    for name, missing in (("journal.jsonl", 40), ("inputs.jsonl.gz", 7)):
        (torn / name).write_bytes((whole / name).read_bytes()[:-missing])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Maker(Path(folder).resolve(), Path(sys.argv[1])).make()

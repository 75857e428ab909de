"""A driver is killed in the middle of a job, and the job resumed: is the file the same, and what was run again?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.ours import SCRIPTS

__all__ = ["pulled_plug"]

NAME = "parallel_run_step.txt"


def pulled_plug(scale: float) -> dict[str, Any]:
    """``kill -9`` of the driver of 20,000 mini-batches, then ``prs-dask resume``; against the same job undisturbed."""
    count = int(20_000 * scale)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = folder / "inputs"
        inputs.mkdir()
        for number in range(count):
            (inputs / f"{number:06d}").touch()
        begun = time.perf_counter()
        subprocess.run(_command(folder / "whole", inputs), check=True, **quiet)
        undisturbed = time.perf_counter() - begun
        begun = time.perf_counter()
        driver = subprocess.Popen(_command(folder / "killed", inputs), **quiet, process_group=0)
        partial = folder / "killed" / "output" / f"{NAME}.partial"
        while not partial.exists() or partial.stat().st_size < 7 * count // 2:
            if driver.poll() is not None:
                raise RuntimeError(f"the driver has ended with {driver.returncode} before it was killed")
            time.sleep(0.01)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        committed = partial.stat().st_size // 7
        resume = [sys.executable, "-m", "prs_dask", "resume", str(folder / "killed" / "run")]
        subprocess.run(resume, check=True, **quiet)
        seconds = time.perf_counter() - begun
        noted = Counter(
            line for notes in (folder / "killed" / "notes").iterdir() for line in notes.read_text().splitlines()
        )
        return {
            "mini_batches": count,
            "rows_when_killed": committed,
            "same_file": (folder / "killed" / "output" / NAME).read_bytes()
            == (folder / "whole" / "output" / NAME).read_bytes(),
            "run_again": sum(noted.values()) - count,
            "run": len(noted),
            "seconds": round(seconds, 1),
            "undisturbed_seconds": round(undisturbed, 1),
        }


def _command(folder: Path, inputs: Path) -> list[str]:
    notes = folder / "notes"
    notes.mkdir(parents=True)
    options = {
        "entry-script": SCRIPTS / "note_each.py",
        "input": inputs,
        "output": folder / "output",
        "run-folder": folder / "run",
        "mini-batch-size": 1,
        "output-action": "append_row",
        "append-row-order": "input",
        "process-count-per-node": 2,
    }
    flags = [text for option, value in options.items() for text in (f"--{option}", str(value))]
    return [sys.executable, "-m", "prs_dask", "run", *flags, "--", str(notes)]

"""The two demos as a user would write them, and what they print at the end."""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

from prs_dask import (
    Fault,
    FileDataset,
    ParallelRunConfig,
    ParallelRunStep,
    SettingsError,
    StepRun,
    TabularDataset,
)
from prs_dask.demo.material import write_digits, write_wine

__all__ = ["DEMOS", "run_demo"]

Echo = Callable[[str], object]


def run_demo(name: str, folder: Path, processes: int | None, echo: Echo) -> int:
    """Run one demo in a new folder below ``folder`` and say how well it did.

    Parameters
    ----------
    name
        ``"digits"`` or ``"wine"``.
    folder
        Where the demo's own folder is made; it may be there already.
    processes
        How many worker processes to use; None: one for each core.
    echo
        Is called with each line to show.

    Returns
    -------
    int
        0 when the step run has completed, else 1.

    Raises
    ------
    SettingsError
        There is no such demo, or what it needs is not installed.
    """
    if name not in DEMOS:
        raise SettingsError([Fault("demo", repr(name), " or ".join(DEMOS), "prs-dask demo digits")])
    absent = [package for package, module in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if absent:
        found = f"{' and '.join(absent)} not installed"
        raise SettingsError([Fault("demo", found, "the packages of the extra demo", "pip install 'prs-dask[demo]'")])
    return DEMOS[name](_new_folder(folder, name), processes, echo)


def _digits(home: Path, processes: int | None, echo: Echo) -> int:
    truth = write_digits(home)
    echo(f"{len(truth)} scans of handwritten digits lie in {home / 'scans'}")
    config = ParallelRunConfig(
        source_directory=home / "source",
        entry_script="identify_digits.py",
        mini_batch_size=5,
        error_threshold=10,
        output_action="append_row",
        append_row_file_name="digits.txt",
        process_count_per_node=processes,
        environment_variables={"OMP_NUM_THREADS": "1"},
    )
    step = ParallelRunStep(
        name="identify-digits",
        parallel_run_config=config,
        inputs=[FileDataset.from_files(home / "scans")],
        output=home / "answers",
        arguments=["--model", "model.joblib"],
    )
    step_run = step.submit(run_folder=home / "run", compute_target="local")
    state = step_run.wait_for_completion(show_output=True, raise_on_error=False)
    if state != "Completed":
        return _failed(step_run, state, echo)
    rows = (home / "answers" / "digits.txt").read_text(encoding="utf-8").splitlines()
    answers = [tuple(row.split(": ")) for row in rows]
    right = sum(truth[name] == digit for name, digit in answers)
    return _told(step_run, f"{right} of {len(truth)} digits identified rightly", right / len(truth), echo)


def _wine(home: Path, processes: int | None, echo: Echo) -> int:
    truth = write_wine(home)
    echo(f"{len(truth)} wines, measured, lie in {home / 'wines' / 'wines.csv'}")
    config = ParallelRunConfig(
        source_directory=home / "source",
        entry_script="score_wine.py",
        mini_batch_size="1KB",
        error_threshold=10,
        output_action="append_row",
        append_row_file_name="cultivars.csv",
        append_row_format={"sep": ","},
        process_count_per_node=processes,
        environment_variables={"OMP_NUM_THREADS": "1"},
    )
    step = ParallelRunStep(
        name="score-wine",
        parallel_run_config=config,
        inputs=[TabularDataset.from_delimited_files(home / "wines" / "wines.csv")],
        output=home / "answers",
        arguments=["--model", "model.joblib", "--append_row_dataframe_header", "True"],
    )
    step_run = step.submit(run_folder=home / "run", compute_target="local")
    state = step_run.wait_for_completion(show_output=True, raise_on_error=False)
    if state != "Completed":
        return _failed(step_run, state, echo)
    with open(home / "answers" / "cultivars.csv", newline="", encoding="utf-8") as file:
        right = sum(truth[row["wine"]] == row["cultivar"] for row in csv.DictReader(file))
    return _told(step_run, f"{right} of {len(truth)} wines told rightly", right / len(truth), echo)


def _told(step_run: StepRun, sentence: str, accuracy: float, echo: Echo) -> int:
    echo(f"accuracy: {accuracy:.1%} ({sentence})")
    echo(f"output:   {step_run.output_file}")
    echo(f"logs:     {step_run.log_dir}")
    return 0


def _failed(step_run: StepRun, state: str, echo: Echo) -> int:
    echo(f"the step run ended as {state}; see {step_run.log_dir}")
    return 1


def _new_folder(folder: Path, name: str) -> Path:
    """``<folder>/<name>-<UTC time>``, made: a demo can be run again and again."""
    while True:
        home = folder.absolute() / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        try:
            home.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.1)
        else:
            return home


_NEEDED = {"scikit-learn": "sklearn", "Pillow": "PIL"}
DEMOS: dict[str, Callable[[Path, int | None, Echo], int]] = {"digits": _digits, "wine": _wine}

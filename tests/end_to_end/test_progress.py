"""How far a step run is, as programs, notebooks and terminals are told; and a mini-batch of it once more, locally."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nbformat
import pytest
from distributed import Client
from nbclient import NotebookClient

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep
from prs_dask.logs.summary import Progress

GOOD = """
import time
def run(mini_batch):
    time.sleep(0.02)
    return [path.rpartition("/")[2] for path in mini_batch]
"""
BAD = """
def run(mini_batch):
    if mini_batch[0].endswith("3"):
        raise ValueError("<script>alert('no')</script>")
    return mini_batch
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], ParallelRunStep]:
    """A step over twenty files, one to a mini-batch; the same one at each call."""
    (tmp_path / "items").mkdir()
    for number in range(20):
        (tmp_path / "items" / f"{number:02}").touch()

    def step(script: str) -> ParallelRunStep:
        (tmp_path / "script.py").write_text(script)
        config = ParallelRunConfig(
            entry_script=tmp_path / "script.py",
            output_action="append_row",
            error_threshold=-1,
            mini_batch_size=1,
            run_max_try=1,
        )
        return ParallelRunStep("watched", config, FileDataset.from_files(tmp_path / "items"), tmp_path / "output")

    return step


def test_a_function_is_told_of_progress_and_once_of_the_end(
    make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path
) -> None:
    told: list[Progress] = []
    run = make(GOOD).submit(run_folder=tmp_path / "run", compute_target=cluster.address, on_progress=told.append)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    assert [one.state for one in told].count("Completed") == 1
    last = told[-1]
    assert (last.state, last.total, last.succeeded, last.items) == ("Completed", 20, 20, 20)
    assert all(one.elapsed <= another.elapsed for one, another in pairwise(told))
    again: list[Progress] = []
    make(GOOD).submit(resume=run, on_progress=again.append).wait_for_completion()
    assert [one.state for one in again] == ["Completed"]


def test_a_function_that_fails_is_told_once_and_the_step_run_completes(
    make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(progress: Progress) -> None:
        raise ConnectionError("no \x1b[31mnetwork")

    run = make(GOOD).submit(run_folder=tmp_path / "run", compute_target=cluster.address, on_progress=fail)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    err = capfd.readouterr().err
    assert err.count("on_progress raised") == 1
    assert "no \\x1b[31mnetwork" in err


def test_who_waits_can_watch_the_overview(
    make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(GOOD).submit(run_folder=tmp_path / "run", compute_target=cluster.address)
    assert run.wait_for_completion(show_output=True, timeout_seconds=60) == "Completed"
    told = capsys.readouterr().out
    assert "Running, " in told
    assert "State: Completed" in told
    assert "Mini-batches: 20 (20 succeeded, 0 failed)" in told


def test_a_step_run_shows_itself(make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path) -> None:
    run = make(BAD).submit(run_folder=tmp_path / "run", compute_target=cluster.address)
    assert "wait_for_completion(show_output=True) follows it" in run._repr_html_()
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    html = run._repr_html_()
    assert "Completed" in html
    assert "2 failed" in html
    assert "follows it" not in html


def test_a_failed_mini_batch_is_run_once_more_in_this_process(
    make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path, command: Any
) -> None:
    run = make(BAD).submit(run_folder=tmp_path / "run", compute_target=cluster.address)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    failed = [failure.id for failure in run.failed_items()]
    assert failed == [3, 13]
    code, out, err = command("debug", run.run_folder, failed[0])
    assert (code, out) == (1, "")
    assert "ValueError: <script>" in err
    code, out, err = command("debug", run.run_folder, 4)
    assert (code, out) == (0, f"{tmp_path / 'items' / '04'}\n"), err
    code, _, err = command("debug", run.run_folder, 99)
    assert code == 2
    assert "allowed: 3, 13 (failed), or any of 0 to 19; try: 3" in err


def test_the_command_line_tells_programs_in_json(command: Any) -> None:
    command.items(6)
    command.script(GOOD)
    flags = ("--entry-script", "script.py", "--input", "items", "--mini-batch-size", 1, "--progress", "json")
    code, out, err = command("run", *flags, "--output-action", "append_row", "--process-count-per-node", 2)
    assert code == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert {one["event"] for one in told[:-1]} == {"progress"}
    end = told[-1]
    assert (end["event"], end["state"], end["rows"], end["cause"]) == ("end", "Completed", 6, None)
    assert Path(end["output"]).read_text().count("\n") == 6


NOTEBOOK = """
from pathlib import Path
from prs_dask import FileDataset, parallel_run
run = parallel_run(
    "script.py", FileDataset.from_files("items"), error_threshold={threshold}, mini_batch_size=1,
    run_max_try=1, process_count_per_node=1, show_output=True, raise_on_error=False,
)
"""


SHOWN = '<!doctype html><html data-drawn="yes"><meta charset="utf-8"><meta name="color-scheme" content="light dark">{}'
"""A page of outputs of a saved notebook, as a viewer shows them; figures are none of them, so none will be drawn."""


@pytest.mark.timeout(300)  # a browser, on a machine that is busy
@pytest.mark.parametrize(("threshold", "state"), [(-1, "Completed"), (0, "Failed")])
def test_a_saved_notebook_keeps_the_last_card(
    command: Any, browser: Callable[..., list[Any]], threshold: int, state: str
) -> None:
    """Executed as nbconvert, nbmake and papermill do it; then opened in a browser."""
    command.items(6)
    command.script(BAD)
    cells = [nbformat.v4.new_code_cell(NOTEBOOK.format(threshold=threshold)), nbformat.v4.new_code_cell("run")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(command.folder)}}).execute()
    nbformat.write(notebook, command.folder / "saved.ipynb")
    saved = nbformat.read(command.folder / "saved.ipynb", 4)
    watched, shown = (cell["outputs"] for cell in saved.cells)
    (card,) = [one for one in watched if one["output_type"] == "display_data"]
    html = card["data"]["text/html"]
    assert f"&middot; {state}</div>" in html
    assert "<script" not in html
    assert ("to go on with it" in html) == (state == "Failed")
    (result,) = [one for one in shown if one["output_type"] == "execute_result"]
    assert f"&middot; {state}</div>" in result["data"]["text/html"]
    page = command.folder / "saved.html"
    page.write_text(SHOWN.format(html + result["data"]["text/html"]))
    for look in browser(page, [(1280, "light"), (400, "dark")]):
        assert (look.errors, look.requests, look.marks) == ([], [], [])
        assert look.overflow <= 0, f"{look.overflow} pixels wider than {look.width}"
        assert look.words.count(f"parallel-run · {state}") == 2
        assert re.search(r"\d of 6 mini-batches\b.*\b\d items", look.words)
        assert "run folder: " in look.words
        assert ("to go on with it: prs-dask resume" in look.words) == (state == "Failed")
        assert ("<script>alert('no')</script>" in look.words) == (state == "Failed")  # the example of the cause


def test_an_interpreter_that_ends_behind_the_wait_has_told_the_end(command: Any) -> None:
    command.items(4)
    command.script(GOOD)
    program = command.folder / "program.py"
    program.write_text(
        textwrap.dedent("""
        from prs_dask import FileDataset, parallel_run
        if __name__ == "__main__":
            parallel_run(
                "script.py", FileDataset.from_files("items"), mini_batch_size=1, process_count_per_node=1,
                on_progress=lambda progress: print(progress.state, progress.succeeded, flush=True),
            )
        """)
    )
    code, out, err = command(program, python=True)
    assert code == 0, err
    assert out.splitlines()[-1] == "Completed 4"


def test_a_step_run_is_on_the_schedulers_page_for_prometheus_while_it_lasts(
    make: Callable[..., ParallelRunStep], cluster: Any, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        port = client.scheduler_info()["services"]["dashboard"]

    def page() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    run = make(GOOD.replace("0.02", "0.2")).submit(run_folder=tmp_path / "run", compute_target=cluster.address)
    shown = wait(lambda: [line for line in page().splitlines() if f'run="{run.id}"' in line], 30, "its metrics")
    assert any(line.startswith("prs_dask_mini_batches{") for line in shown)
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    after = page()
    assert "prs_dask" not in after
    assert "dask_scheduler_workers" in after
    assert "metrics for Prometheus: port" in (run.log_dir / "sys" / "master_role.txt").read_text()


def test_the_command_line_sends_spans_where_the_environment_says_so(command: Any, monkeypatch: Any) -> None:
    command.items(4)
    command.script(BAD.replace("3", "2"))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    flags = ("--entry-script", "script.py", "--input", "items", "--mini-batch-size", 1, "--run-max-try", 1)
    code, _, err = command("run", *flags, "--output-action", "append_row", "--error-threshold", -1)
    assert code == 0, err
    assert err.count('"name": "attempt"') == 4
    assert err.count('"name": "step run script"') == 1
    assert "ValueError" in err

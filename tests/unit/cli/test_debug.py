"""One mini-batch of a run folder in this process: the same script and data, and nothing of the folder is changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, TabularDataset
from prs_dask.cli import main
from prs_dask.logs.run_folder import RunFolder
from prs_dask.mini_batches import Part
from prs_dask.output.journal import Failure, JournalWriter, read_journal
from prs_dask.output.journal_lock import JournalLock
from prs_dask.pipeline.preparation import prepare
from prs_dask.pipeline.run_files import RunFiles
from prs_dask.pipeline.run_record import run_record

SCRIPT = """
import os

def run(mini_batch):
    for path in mini_batch:
        if path.endswith("3.txt"):
            raise ValueError("cannot read \\x1b[31m" + os.path.basename(path))
    return [os.path.basename(path) for path in mini_batch]
"""

MakeRun = Callable[..., Path]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """The run folder of a step over six files, two to a mini-batch, whose driver was killed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items").mkdir()
    for number in range(6):
        (tmp_path / "items" / f"{number}.txt").write_text(str(number))
    time.sleep(0.05)  # the files are older than the listing, as far as clocks of file systems tell

    def make(script: Any = SCRIPT, inputs: Any = None, failed: tuple[Any, ...] = (), **settings: Any) -> Path:
        if isinstance(script, str):
            (tmp_path / "score.py").write_text(script)
            script = "score.py"
        inputs = FileDataset.from_files(tmp_path / "items") if inputs is None else inputs
        files = {"mini_batch_size": 2} if inputs.kind == "file" else {}
        settings = {"output_action": "append_row", "error_threshold": -1, **files, **settings}
        step = ParallelRunStep("score", ParallelRunConfig(entry_script=script, **settings), inputs, tmp_path / "output")
        config = step.config
        preparation = prepare(config, step.options, step.inputs_of(config))
        folder = RunFolder.create(tmp_path / "run", "score", 0.0, "1")
        record = run_record(
            step,
            config,
            preparation,
            run_id="score-1",
            run_folder=folder.path,
            output_folder=tmp_path / "output",
            compute_target=None,
            salt=b"0123456789abcdef",
        )
        lock = JournalLock.take(folder.path)
        files_of_run = RunFiles.begin(folder, lock, json.loads(json.dumps(record)), preparation)
        files_of_run.manifest.append(0, list(step.mini_batches(config)), time.time())
        files_of_run.manifest.end()
        files_of_run.end("Failed")
        files_of_run.close()
        lock.release()
        state = read_journal(folder.journal)
        journal = JournalWriter.reopen(folder.journal, state)
        failures = [Failure(id, 1, 1, "exception", "", part) for id, part in failed]
        journal.commit(output=0, finished="", failed=failures)
        journal.close()
        return folder.path

    return make


def debug(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["debug", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def under_pdb(*arguments: object, typed: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a debugger reads from the process's stdin."""
    program = [sys.executable, "-m", "prs_dask", "debug", *map(str, arguments)]
    return subprocess.run(program, input=typed, capture_output=True, text=True, timeout=60)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_are_printed_and_the_run_folder_is_not_changed(left: MakeRun, tmp_path: Path) -> None:
    run = left()
    before = contents(tmp_path)
    result = debug(run, 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == "4.txt\n5.txt\n"
    assert "run() returned 2 results for 2 items" in result.stderr
    assert contents(tmp_path) == before


def test_a_step_run_that_another_process_drives_is_only_read(left: MakeRun) -> None:
    run = left()
    lock = JournalLock.take(run)
    try:
        assert debug(run, 0).stdout == "0.txt\n1.txt\n"
    finally:
        lock.release()


def test_without_a_terminal_an_error_is_told_from_the_users_line_on(left: MakeRun) -> None:
    result = debug(left(), 1)
    assert result.exit_code == 1
    assert "ValueError: cannot read \\x1b[31m3.txt" in result.stderr
    assert "score.py" in result.stderr
    assert "prs_dask/" not in result.stderr.partition("Traceback")[2]


def test_pdb_opens_where_the_script_raised(left: MakeRun) -> None:
    result = under_pdb(left(), 1, "--pdb", typed="p path\np 'seen', len(mini_batch)\nq\n")
    assert result.returncode == 1
    assert "3.txt'" in result.stdout
    assert "('seen', 2)" in result.stdout


@pytest.mark.parametrize("body", ["return names", "yield from names"])
def test_pdb_can_stop_at_the_first_line_of_run(left: MakeRun, body: str) -> None:
    run = left(f"def run(mini_batch):\n    names = mini_batch[:1]\n    {body}\n")
    result = under_pdb(run, 0, "--step", typed="n\np 'seen', len(names)\nc\n")
    assert result.returncode == 0, result.stderr
    assert "-> names = mini_batch[:1]" in result.stdout
    assert "('seen', 1)" in result.stdout
    left_early = under_pdb(run, 0, "--step", typed="q\n")
    assert (left_early.returncode, "left the debugger" in left_early.stderr) == (1, True)


def test_ctrl_c_leads_into_a_run_that_hangs(left: MakeRun) -> None:
    script = "import time\ndef run(mini_batch):\n    print('hangs', flush=True)\n    while True: time.sleep(0.01)\n"
    program = [sys.executable, "-m", "prs_dask", "debug", str(left(script)), "0", "--pdb"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(program, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "hangs\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate("p 'seen', len(mini_batch)\nq\n", timeout=60)
        finally:
            process.kill()
    assert "('seen', 2)" in out
    assert "KeyboardInterrupt" in err
    assert process.returncode == 1


def test_some_items_of_a_mini_batch_can_be_run(left: MakeRun) -> None:
    run = left()
    assert debug(run, "1[0:1]").stdout == "2.txt\n"
    result = debug(run, "1[0:3]")
    assert (result.exit_code, "mini-batch 1 has 2 items" in result.stderr) == (2, True)


def test_a_part_of_a_table_is_cut_from_its_rows(left: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n3,z\n")
    run = left("def run(mini_batch): return mini_batch", TabularDataset.from_delimited_files(tmp_path / "a.csv"))
    assert debug(run, "0[1:3]").stdout == "2 y\n3 z\n"


def test_where_there_is_no_such_mini_batch_the_failed_ones_are_named_first(left: MakeRun) -> None:
    run = left(failed=((1, None), (2, Part(2, 1, 2, 2))))
    result = debug(run, 3)
    assert result.exit_code == 2
    assert "mini_batch: found 3; allowed: 1, 2[1:2] (failed), or any of 0 to 2; try: 1" in result.stderr
    shutil.move(run / "journal.jsonl", run / "elsewhere")
    assert "allowed: 0 to 2" in debug(run, 3).stderr
    assert "found 'x'; allowed: the id of a mini-batch" in debug(run, "x").stderr


def test_what_is_no_run_folder_is_refused(left: MakeRun, tmp_path: Path) -> None:
    result = debug(tmp_path, 0)
    assert (result.exit_code, "allowed: the run folder of a step run" in result.stderr) == (2, True)
    run = left()
    (run / "inputs.jsonl.gz").unlink()
    assert "allowed: the manifest of a step run" in debug(run, 0).stderr


def test_the_source_is_the_one_that_was_sent(left: MakeRun, tmp_path: Path) -> None:
    run = left()
    (tmp_path / "score.py").write_text("def run(mini_batch): return ['another']")
    result = debug(run, 0)
    assert result.stdout == "0.txt\n1.txt\n"
    assert "the source has changed since, or is gone" in result.stderr
    now = debug(run, 0, "--current-source")
    assert (now.stdout, "has changed" in now.stderr) == ("another\n", False)
    (tmp_path / "score.py").unlink()
    assert debug(run, 0).stdout == "0.txt\n1.txt\n"


def test_an_unchanged_source_is_run_where_it_lies(left: MakeRun, tmp_path: Path) -> None:
    run = left("def run(mini_batch): return [__file__]")
    assert debug(run, 0).stdout == f"{tmp_path / 'score.py'}\n"


def test_run_folder_and_output_in_the_source_directory_are_no_change_of_it(left: MakeRun, tmp_path: Path) -> None:
    run = left("def run(mini_batch): return [__file__]", source_directory=".")
    (tmp_path / "output" / "stored").touch()
    result = debug(run, 0)
    assert result.stdout == f"{tmp_path / 'score.py'}\n"
    assert "has changed" not in result.stderr


def test_an_input_that_has_changed_or_is_gone_is_told(left: MakeRun, tmp_path: Path) -> None:
    run = left()
    assert "changed since" not in debug(run, 0).stderr
    (tmp_path / "items" / "0.txt").write_text("other")
    (tmp_path / "items" / "1.txt").unlink()
    result = debug(run, 0)
    assert "changed since it was made a mini-batch, or gone: " in result.stderr
    assert "0.txt" in result.stderr
    assert "1.txt" in result.stderr


def test_a_file_that_was_mended_since_is_run_as_it_is_now(left: MakeRun, tmp_path: Path) -> None:
    run = left("from pathlib import Path\ndef run(mini_batch): return [Path(path).read_text() for path in mini_batch]")
    (tmp_path / "items" / "0.txt").write_text("mended")
    assert "mended" in debug(run, 0).stdout


def test_a_table_that_has_changed_cannot_be_read_as_it_was_cut(left: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    run = left("def run(mini_batch): return mini_batch", TabularDataset.from_delimited_files(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n")
    result = debug(run, 0, "--pdb")
    assert result.exit_code == 1
    assert "changed since it was made a mini-batch" in result.stderr
    assert "ReadError" in result.stderr


def test_secrets_are_asked_for_as_by_a_resume(left: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os\ndef run(mini_batch): return [len(os.environ['TOKEN_OF_DEBUG'])]"
    run = left(script, environment_variables={"TOKEN_OF_DEBUG": "canary"})
    result = debug(run, 0)
    assert (result.exit_code, "--environment-variables: found TOKEN_OF_DEBUG" in result.stderr) == (2, True)
    monkeypatch.setenv("TOKEN_OF_DEBUG", "canary")
    assert debug(run, 0).stdout == "6\n"
    assert debug(run, 0, "--environment-variables", "TOKEN_OF_DEBUG=other").stdout == "5\n"


class Scorer:
    def run(self, mini_batch: list[str]) -> list[str]:
        return mini_batch


def test_what_only_a_program_can_make_again_is_sent_there(left: MakeRun) -> None:
    result = debug(left(Scorer()), 0)
    assert result.exit_code == 2
    assert "try: step.run_locally(mini_batch=...)" in result.stderr


def attach(editor: socket.socket) -> None:
    """What an editor does that attaches and sets no breakpoints (the debug adapter protocol)."""
    answers = editor.makefile("rb")
    editor.settimeout(60)

    def say(number: int, command: str, **arguments: Any) -> None:
        body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
        editor.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    say(1, "initialize", adapterID="test")
    while True:
        length = 0
        while line := answers.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        told = json.loads(answers.read(length))
        if told.get("command") == "initialize":
            say(2, "attach", justMyCode=False)
        elif told.get("event") == "initialized":
            say(3, "configurationDone")
        elif told.get("event") == "terminated":
            return  # and hangs up, which the other side waits for


def test_an_editor_can_attach_with_debugpy(left: MakeRun) -> None:
    pytest.importorskip("debugpy")
    process = subprocess.Popen(
        [sys.executable, "-m", "prs_dask", "debug", str(left()), "0", "--debugpy", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "waiting for an editor" in line)
        port = int(line.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as editor:
            attach(editor)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "0.txt\n1.txt\n"), err

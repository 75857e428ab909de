"""What is refused before anything starts: exit code 2, one clear message, and a file system untouched."""

import os
import re
import time

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SettingsError


def tree(folder):
    """All that stands in a folder, with what would change if anything was written."""
    return {
        path.relative_to(folder): (status.st_mode, status.st_size, 0 if path.is_dir() else status.st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
        for status in [path.lstat()]
    }


RUN = ["run", "--input", "items", "--output", "answers"]
SCRIPT = ["--entry-script", "script.py", "--output-action", "append_row"]

REFUSED = {
    "a script that is not there": ([*RUN, "--entry-script", "nowhere.py"], ["nowhere.py", "entry-script"]),
    "a folder as the script": ([*RUN, "--entry-script", "items"], ["items"]),
    "no script at all": (RUN, ["entry-script"]),
    "a script without run": ([*RUN, "--entry-script", "norun.py"], ["norun.py", "run("]),
    "a run that takes nothing": ([*RUN, "--entry-script", "noargs.py"], ["noargs.py", "run"]),
    "a script with a syntax error": ([*RUN, "--entry-script", "broken.py"], ["broken.py", "line 3"]),
    "a script that is no text": ([*RUN, "--entry-script", "binary.py"], ["binary.py"]),
    "no input": (["run", *SCRIPT], ["--input"]),
    "an input that is not there": (["run", *SCRIPT, "--input", "nowhere"], ["nowhere"]),
    "a pattern that matches nothing": (["run", *SCRIPT, "--input", "items/*.png"], ["items/*.png"]),
    "an empty folder": (["run", *SCRIPT, "--input", "empty"], ["empty"]),
    "one of two inputs missing": (["run", *SCRIPT, "--input", "items", "--input", "lost"], ["lost"]),
    "a table that is not there": (["run", *SCRIPT, "--input", "no.csv", "--input-format", "delimited"], ["no.csv"]),
    "an unknown format": ([*RUN, *SCRIPT, "--input-format", "excel"], ["excel", "delimited"]),
    "an output that exists": (
        ["run", *SCRIPT, "--input", "items", "--output", "done"],
        ["parallel_run_step.txt", "exist"],
    ),
    "an output with another's partial": (["run", *SCRIPT, "--input", "items", "--output", "torn"], ["partial"]),
    "a file where the output's folder should be": (
        ["run", *SCRIPT, "--input", "items", "--output", "script.py/answers"],
        ["script.py", "folder"],
    ),
    "an output folder that nobody can write": (
        ["run", *SCRIPT, "--input", "items", "--output", "/proc/answers"],
        ["/proc"],
    ),
    "an output on a store": (["run", *SCRIPT, "--input", "items", "--output", "s3://bucket/x"], ["s3://bucket/x"]),
    "a run folder that is not empty": ([*RUN, *SCRIPT, "--run-folder", "items"], ["items", "empty"]),
    "a file where the run folder should be": ([*RUN, *SCRIPT, "--run-folder", "script.py"], ["script.py"]),
    "a run folder that nobody can make": ([*RUN, *SCRIPT, "--run-folder", "/proc/1/runs"], ["/proc"]),
    "a step file that is no YAML": (["run", "broken.yml"], ["broken.yml", "line 3"]),
    "a step file with tabs": (["run", "tabs.yml"], ["tabs.yml", "line 2"]),
    "a step file with a key twice": (["run", "twice.yml"], ["twice.yml", "run_max_try"]),
    "a step file with code in it": (["run", "code.yml"], ["code.yml"]),
    "a step file with an unknown key": (["run", "unknown.yml"], ["mini_batch_sise", "mini_batch_size"]),
    "a step file that is a list": (["run", "list.yml"], ["list.yml", "mapping"]),
    "an empty step file": (["run", "empty.yml"], ["empty.yml"]),
    "a step file that is not there": (["run", "nowhere.yml"], ["nowhere.yml"]),
    "an unknown flag": ([*RUN, *SCRIPT, "--mini-batch-sise", "3"], ["--mini-batch-size"]),
    "an unknown command": (["runn"], ["runn"]),
    "a size of tables for files": ([*RUN, *SCRIPT, "--mini-batch-size", "10KB"], ["10KB"]),
    "a size that is none": ([*RUN, *SCRIPT, "--mini-batch-size", "1.5MB"], ["1.5MB", "10MB"]),
    "an output name with a slash": ([*RUN, *SCRIPT, "--append-row-file-name", "a/b"], ["a/b"]),
    "a compute target of nonsense": ([*RUN, *SCRIPT, "--compute-target", "the moon"], ["the moon"]),
    "a scheduler file that is none": (
        [*RUN, *SCRIPT, "--compute-target", "hollow.csv"],
        ["hollow.csv", "scheduler file"],
    ),
    "a limit of nothing": ([*RUN, *SCRIPT, "--run-invocation-timeout", "0"], ["run-invocation-timeout", "0"]),
    "an argument that the engine owns": (
        [*RUN, *SCRIPT, "--", "--mini_batch_size", "3"],
        ["mini_batch_size", "--mini-batch-size"],
    ),
}


@pytest.fixture
def here(command):
    command.items(3)
    folder = command.folder
    command.script()
    command.script("def init(): pass\n", "norun.py")
    command.script("def run(): pass\n", "noargs.py")
    command.script("def run(mini_batch):\n    x = 1\n    return [\n", "broken.py")
    (folder / "binary.py").write_bytes(b"\x7fELF\0\xff")
    for name in ("empty", "done", "torn"):
        (folder / name).mkdir()
    (folder / "done/parallel_run_step.txt").write_text("precious\n")
    (folder / "torn/parallel_run_step.txt.partial").write_text("precious\n")
    (folder / "hollow.csv").write_text("")
    (folder / "broken.yml").write_text("entry_script: script.py\ninputs: [items\n")
    (folder / "tabs.yml").write_text("entry_script: script.py\n\tinputs: items\n")
    (folder / "twice.yml").write_text("entry_script: script.py\ninputs: items\nrun_max_try: 1\nrun_max_try: 2\n")
    (folder / "code.yml").write_text("entry_script: !!python/object/apply:os.system ['touch pwned']\ninputs: items\n")
    (folder / "unknown.yml").write_text("entry_script: script.py\ninputs: items\nmini_batch_sise: 3\n")
    (folder / "list.yml").write_text("- entry_script\n")
    (folder / "empty.yml").write_text("")
    return command


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_exit_code_2_and_nothing_is_written(what, here):
    arguments, told = REFUSED[what]
    before = tree(here.folder)
    code, out, err = here(*arguments, timeout=20)
    assert code == 2, (out, err)
    assert tree(here.folder) == before
    assert out == ""
    assert "Traceback" not in err
    for words in told:
        assert words in err, err
    assert len(err.splitlines()) <= 6, err


def test_all_faults_are_told_at_once(here):
    before = tree(here.folder)
    code, _, err = here(
        *("run", "--entry-script", "nowhere.py", "--input", "lost", "--mini-batch-size", "0", "--run-max-try", "0"),
        *("--error-threshold", "-2", "--append-row-file-name", "a|b", "--logging-level", "LOUD"),
        *("--process-count-per-node", "zero", "--output-action", "append"),
    )
    assert code == 2
    assert tree(here.folder) == before
    for words in (
        *("nowhere.py", "lost", "--mini-batch-size", "--run-max-try", "--error-threshold", "a|b", "LOUD", "zero"),
        "--output-action",
    ):
        assert words in err, err
    assert re.search(r"9 settings cannot be used", err), err
    assert err.count("allowed:") == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "hollow.csv", "--input-format", "delimited"], "every file is empty"),
        (["--input", "script.py", "--input-format", "parquet"], "script.py: not a readable Parquet file"),
    ],
)
def test_an_input_of_which_only_reading_tells_that_it_is_bad_fails_the_step_run(here, arguments, told):
    code, out, err = here("run", *SCRIPT, *arguments)
    assert code == 1
    assert told in err
    assert "Traceback" not in err
    assert "logs:" in out


@pytest.mark.slow
def test_no_scheduler_at_an_address_is_told_soon_with_exit_code_1_or_2(here):
    begun = time.monotonic()
    code, _, err = here(*RUN, *SCRIPT, "--compute-target", "tcp://127.0.0.1:9", timeout=40)
    assert code in (1, 2)
    assert "tcp://127.0.0.1:9" in err
    assert "Traceback" not in err
    assert time.monotonic() - begun < 20
    assert not (here.folder / "answers" / "parallel_run_step.txt").exists()


def test_python_is_told_the_same_and_a_step_that_was_refused_can_be_corrected(tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "items").mkdir()
    (tmp_path / "items/a").touch()
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers/parallel_run_step.txt").touch()
    config = ParallelRunConfig(entry_script="script.py", output_action="append_row", error_threshold=0)
    step = ParallelRunStep("step", config, FileDataset.from_files("items"), "answers")
    before = tree(tmp_path)
    with pytest.raises(SettingsError, match="exists"):
        step.submit(compute_target=cluster.address)
    assert tree(tmp_path) == before
    os.unlink("answers/parallel_run_step.txt")
    assert step.submit(compute_target=cluster.address).wait_for_completion() == "Completed"


def test_a_cluster_that_was_closed_is_refused_before_anything_is_written(tmp_path):
    from distributed import LocalCluster

    (tmp_path / "script.py").write_text("def run(mini_batch): return mini_batch\n")
    config = ParallelRunConfig(entry_script=tmp_path / "script.py", output_action="append_row", error_threshold=0)
    step = ParallelRunStep("step", config, FileDataset.from_files(tmp_path / "script.py"), tmp_path / "output")
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as closed:
        pass
    before = tree(tmp_path)
    for target, told in ((closed, "which is closed"), (object(), "object"), (tmp_path / "none.json", "none.json")):
        with pytest.raises(SettingsError, match=told):
            step.submit(run_folder=tmp_path / "run", compute_target=target)
    assert tree(tmp_path) == before


def test_two_steps_cannot_write_the_same_output_at_once(tmp_path, submit, cluster):
    script = "import time\ndef run(mini_batch):\n    time.sleep(0.2)\n    return mini_batch\n"
    first = submit(script, 10)
    config = ParallelRunConfig(entry_script=tmp_path / "script.py", output_action="append_row", error_threshold=0)
    second = ParallelRunStep("step", config, FileDataset.from_files(tmp_path / "items"), tmp_path / "output")
    with pytest.raises(SettingsError, match="partial"):
        second.submit(run_folder=tmp_path / "other", compute_target=cluster.address)
    assert not (tmp_path / "other").exists()
    assert first.wait_for_completion() == "Completed"
    assert first.summary().rows == 10

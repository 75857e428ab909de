"""What others do to a job's files while it runs: output, logs and input that go away, and a disk that is full."""

import shutil

from prs_dask.clusters.abandoned import remove_tree

SLOW = """
import os, time
def run(mini_batch):
    time.sleep(0.05)
    return [os.path.basename(mini_batch[0])]
"""


def test_an_output_that_was_removed_meanwhile_fails_the_step_run_and_is_named(submit, wait):
    run = submit(SLOW, 30)
    partial = run.output_file.with_name(run.output_file.name + ".partial")
    wait(lambda: run.summary().rows > 3)
    partial.unlink()
    assert run.wait_for_completion(raise_on_error=False) == "Failed"
    assert str(partial) in run.error
    assert "internal error" not in run.error


def test_logs_that_cannot_be_written_do_not_fail_the_step_run(submit, wait):
    run = submit(SLOW, 30)
    wait(lambda: run.summary().rows > 3)
    shutil.rmtree(run.log_dir)
    run.log_dir.touch()
    assert run.wait_for_completion(raise_on_error=False) == "Completed", run.error
    assert sorted(map(int, run.output_file.read_text().split())) == list(range(30))


def test_folders_that_are_deeper_than_pythons_stack_harm_nobody(job, tmp_path):
    script = """
import os
def run(mini_batch):
    here = os.getcwd()
    for place in (here, EntryScript().log_dir, EntryScript().output_dir):
        os.chdir(place)
        for _ in range(1500):
            os.makedirs("a", exist_ok=True)
            os.chdir("a")
        open("file", "w").close()
    os.chdir(here)
    return mini_batch
"""
    try:
        done = job("from prs_dask import EntryScript" + script, 4, process_count_per_node=2)
        assert done.run.summary().succeeded_mini_batches == 4
    finally:
        remove_tree(tmp_path)  # pytest could not


def test_items_that_go_away_fail_alone(submit, wait, tmp_path):
    script = "import time\ndef run(m):\n    time.sleep(0.05)\n    return [open(m[0]).read() or 'empty']\n"
    run = submit(script, 30, run_max_try=1)
    wait(lambda: run.summary().rows > 3)
    shutil.rmtree(tmp_path / "items")
    assert run.wait_for_completion(raise_on_error=False) == "Completed"
    summary = run.summary()
    assert summary.succeeded_items + summary.failed_items == 30
    assert summary.failed_items > 10
    assert "No such file" in (run.log_dir / "user/error.txt").read_text()


def test_a_full_disk_ends_the_step_run_with_whole_rows_and_a_count_that_agrees(command):
    command.items(3000)
    command.script("def run(mini_batch): return ['x' * 1000]\n")
    (command.folder / "limited.py").write_text(
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'prs_dask', *sys.argv[1:]])\n"
    )
    code, out, err = command(
        *("limited.py", "run", "--entry-script", "script.py", "--output-action", "append_row", "--input", "items"),
        *("--output", "answers", "--mini-batch-size", 1, "--run-folder", "run", "--process-count-per-node", 2),
        python=True,
    )
    size = (command.folder / "answers/parallel_run_step.txt.partial").stat().st_size
    assert code == 1, (out, err)
    assert "room" in err
    assert "Traceback" not in err
    assert size % 1001 == 0
    assert f"Rows: {size // 1001:,}\n" in (command.folder / "run/logs/job_result.txt").read_text()

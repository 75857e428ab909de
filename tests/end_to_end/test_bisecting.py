"""on_failed_mini_batch="bisect": of a mini-batch that fails only its bad items do, whatever they fail by."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pandas as pd
import pytest

from prs_dask import TabularDataset
from prs_dask.output.journal import read_journal

BAD = (3, 17, 18)

POISON = """
import os, signal, time

BAD = (3, 17, 18)

def fails(how):
    if how == "exception":
        raise ValueError("poison")
    if how == "time limit":
        time.sleep(60)
    if how == "process died":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "out of memory":
        hold = bytearray(1 << 30)
        for page in range(0, len(hold), 4096):
            hold[page] = 1
        time.sleep(60)

def run(mini_batch):
    names = [int(os.path.basename(path)) for path in mini_batch]
    if set(names) & set(BAD):
        if HOW == "bad return":
            return None
        fails(HOW)
    return names
"""


def poison(how: str) -> str:
    return f"HOW = {how!r}\n{POISON}"


def failed_items(done):
    lines = done.log("user/failed_items.jsonl").splitlines()
    return [json.loads(line) for line in lines]


def check_parts(done, sizes: dict[int, int]) -> None:
    """The table, with parts: every item of every mini-batch ends once, and the counts are those of the summary."""
    ended, states = defaultdict(list), {}
    for row in done.attempts:
        whole, _, items = row["Mini-batch Id"].partition("[")
        number = int(whole)
        start, stop = map(int, items.rstrip("]").split(":")) if items else (0, sizes[number])
        if row["Status"] == "Failed attempt":
            continue
        ended[number] += range(start, stop)
        states[number] = "Failed" if "Failed" in (row["Status"], states.get(number)) else "Succeeded"
        assert int(row["Total"]) == stop - start
    assert {number: sorted(items) for number, items in ended.items()} == {n: list(range(k)) for n, k in sizes.items()}
    summary, counts = done.run.summary(), Counter(states.values())
    assert (summary.succeeded_mini_batches, summary.failed_mini_batches) == (counts["Succeeded"], counts["Failed"])
    assert summary.items == sum(sizes.values())
    assert summary.attempts == len(done.attempts)


LIMITS = {"time limit": {"run_invocation_timeout": 1}, "out of memory": {"memory_limit_per_process": "300MB"}}


@pytest.mark.parametrize("how", ["exception", "bad return", "time limit", "process died", "out of memory"])
def test_only_the_bad_files_fail_whatever_they_fail_by(job, how):
    done = job(
        poison(how), 40, mini_batch_size=10, on_failed_mini_batch="bisect", run_max_try=1,
        **LIMITS.get(how, {}),
    )  # fmt: skip
    assert done.state == "Completed"
    assert done.items == [item for item in range(40) if item not in BAD]
    assert set(done.categories()) == {how}
    check_parts(done, dict.fromkeys(range(4), 10))
    summary = done.run.summary()
    assert (summary.failed_mini_batches, summary.failed_items, summary.succeeded_items) == (2, 3, 37)
    items = failed_items(done)
    assert {(item["mini_batch"], item["part"], item["item"][-4:]) for item in items} == {
        (0, "0[3:4]", "0003"),
        (1, "1[7:8]", "0017"),
        (1, "1[8:9]", "0018"),
    }
    assert {(failure.id, str(failure.part), failure.items) for failure in done.run.failed_items()} == {
        (0, "0[3:4]", 1),
        (1, "1[7:8]", 1),
        (1, "1[8:9]", 1),
    }


ROWS = """
def run(frame, context):
    assert list(frame.index) == list(range(len(frame))), list(frame.index)
    assert (context.part is None) == (context.minibatch_index == context.whole)
    if context.part is not None:
        start, stop = context.part
        assert context.minibatch_index == f"{context.whole}_{start}-{stop}"
        assert len(frame) == stop - start
    if set(frame["number"]) & {3, 17, 18}:
        raise ValueError("poison")
    return [f"{number} {'-'.join(map(str, context.partition_key_value.values()))}" for number in frame["number"]]
"""


def numbers(count: int = 40) -> pd.DataFrame:
    return pd.DataFrame({"number": range(count), "text": [f"row {row} " + "x" * 20 for row in range(count)]})


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "memory", "keys"])
def test_only_the_bad_rows_fail_in_tables_of_all_kinds(job, tmp_path, kind):
    frame, settings, folder = numbers(), {"mini_batch_size": "700"}, tmp_path / "tables"
    folder.mkdir()
    if kind == "csv":
        frame.to_csv(folder / "t.csv", index=False)
        inputs = TabularDataset.from_delimited_files(folder)
    elif kind == "json":
        frame.to_json(folder / "t.jsonl", orient="records", lines=True)
        inputs = TabularDataset.from_json_lines_files(folder)
    elif kind == "parquet":
        frame.to_parquet(folder / "t.parquet", row_group_size=10)
        inputs = TabularDataset.from_parquet_files(folder)
    elif kind == "memory":
        # In memory a mini-batch keeps the index that the frame has.
        frame.index = [row % 10 for row in range(40)]
        inputs, settings = TabularDataset.from_pandas(frame), {"mini_batch_size": "10GB"}
    else:
        for half in range(4):
            rows = frame[half * 10 : half * 10 + 10]
            rows.to_csv(folder / f"group{half // 2}_{half}.csv", index=False)
        inputs = TabularDataset.from_delimited_files(folder, partition_format="{group}_{part}.csv")
        settings = {"mini_batch_size": None, "partition_keys": ["group"]}
    script = ROWS if kind != "memory" else ROWS.replace("assert list(frame.index)", "list(frame.index)")
    done = job(
        script, inputs=inputs, on_failed_mini_batch="bisect", run_max_try=2, append_row_order="input", **settings
    )  # fmt: skip
    assert done.state == "Completed"
    good = [row for row in range(40) if row not in BAD]
    assert [int(row.split()[0]) for row in done.rows] == good, "all good rows, in input order"
    assert all(row.endswith("group0" if int(row.split()[0]) < 20 else "group1") for row in done.rows) == (
        kind == "keys"
    )
    assert done.run.summary().failed_items == 3
    singles = [row for row in done.attempts if row["Status"] == "Failed"]
    assert [int(row["Picked Count"]) for row in singles] == [2, 2, 2], "single items have all the tries"
    assert {item["items"] if item["item"] is None else 1 for item in failed_items(done)} == {1}
    for item in failed_items(done):
        number, _, rows = item["part"].partition("[")
        assert int(number) == item["mini_batch"]
        first = int(rows.split(":")[0])
        assert item["item"].endswith(f"row {first}"), "the very row"


def test_a_table_that_cannot_be_read_is_not_halved(job, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "bad.csv").write_text("number,text\n" + "1,a\n" * 5 + "1,a,b,c\n" + "1,a\n" * 5)
    (folder / "good.csv").write_text("number,text\n" + "1,a\n" * 5)
    inputs = TabularDataset.from_delimited_files(folder)
    script = "def run(frame): return frame['number'].tolist()\n"
    done = job(script, inputs=inputs, on_failed_mini_batch="bisect", run_max_try=2)
    assert done.rows == ["1"] * 5
    assert [row["Mini-batch Id"] for row in done.attempts if row["Error Category"]] == ["0", "0"]


def test_a_file_that_is_gone_fails_alone(job):
    script = """
        import os
        def run(mini_batch):
            for path in mini_batch:
                if path.endswith("0000"):
                    os.unlink(path.replace("0000", "0013"))
                open(path).close()
            return [os.path.basename(path) for path in mini_batch]
    """
    done = job(script, 20, mini_batch_size=10, process_count_per_node=1, on_failed_mini_batch="bisect", run_max_try=2)
    assert done.items == [item for item in range(20) if item != 13]
    [item] = failed_items(done)
    assert item["item"].endswith("0013")
    assert item["category"] == "load error"
    assert "removed since it was listed" in item["message"]


def test_what_is_only_too_large_for_its_time_limit_succeeds_in_halves(job):
    script = """
        import os, time
        def run(mini_batch):
            time.sleep(0.3 * len(mini_batch))
            return [os.path.basename(path) for path in mini_batch]
    """
    done = job(script, 8, mini_batch_size=8, on_failed_mini_batch="bisect", run_max_try=1, run_invocation_timeout=1.8)
    assert done.items == list(range(8))
    summary = done.run.summary()
    assert (summary.succeeded_mini_batches, summary.failed_mini_batches, summary.failed_items) == (1, 0, 0)
    assert sorted(row["Mini-batch Id"] for row in done.attempts) == ["0", "0[0:4]", "0[4:8]"]


def test_a_storm_ends_with_the_first_items_above_the_error_threshold(job):
    script = "def run(mini_batch): raise ValueError('all are bad')\n"
    done = job(script, 256, mini_batch_size=256, on_failed_mini_batch="bisect", run_max_try=1, error_threshold=3)
    assert done.state == "Failed"
    assert "4 failed items are more than error_threshold=3 allows" in done.run.error
    summary = done.run.summary()
    assert (summary.failed_mini_batches, summary.failed_items, summary.succeeded_items) == (1, 4, 0)
    assert summary.attempts < 20


def test_files_of_their_own_that_parts_write_have_names_of_their_own(job):
    script = """
        import os
        from azureml_user.parallel_run import EntryScript
        def run(mini_batch, context):
            names = [os.path.basename(path) for path in mini_batch]
            if "0003" in names:
                raise ValueError("poison")
            with open(os.path.join(EntryScript().output_dir, f"{context.minibatch_index}.txt"), "x") as file:
                file.write(" ".join(names))
            return names
    """
    done = job(
        script, 20, mini_batch_size=10, on_failed_mini_batch="bisect", run_max_try=1, output_action="summary_only"
    )
    files = {path.stem: path.read_text().split() for path in done.run.output_dir.rglob("*.txt")}
    assert set(files) == {"0_0-2", "0_2-3", "0_4-5", "0_5-10", "1"}
    assert sorted(int(name) for names in files.values() for name in names) == [n for n in range(20) if n != 3]


DRIVER = """
import sys
from pathlib import Path
from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep

def step(folder):
    config = ParallelRunConfig(
        entry_script=Path(folder) / "script.py", output_action="append_row", error_threshold=-1, mini_batch_size=16,
        on_failed_mini_batch="bisect", run_max_try=2, append_row_order="input", process_count_per_node=2,
    )
    return ParallelRunStep("killed", config, FileDataset.from_files(Path(folder) / "items"), Path(folder) / "output")

if __name__ == "__main__":
    step(sys.argv[1]).submit(run_folder=Path(sys.argv[1]) / "run").wait_for_completion(raise_on_error=False)
"""

WATCHED = """
import os, time

def run(mini_batch):
    names = [int(os.path.basename(path)) for path in mini_batch]
    with open(os.path.join(FOLDER, "seen"), "a") as file:
        file.write(" ".join(map(str, names)) + "\\n")
    if {11} & set(names) and len(names) < 5:
        while not os.path.exists(os.path.join(FOLDER, "go on")):
            time.sleep(0.02)
    if {3, 11} & set(names):
        raise ValueError("poison")
    return names
"""


@pytest.mark.parametrize("retry_failed", [True, False])
def test_after_a_kill_a_resume_goes_on_with_the_parts_that_are_left(command, wait, tmp_path, retry_failed):
    folder = command.folder
    (folder / "script.py").write_text(f"FOLDER = {str(folder)!r}\n{WATCHED}")
    (folder / "driver.py").write_text(DRIVER)
    command.items(32)
    driver = command.start("driver.py", folder, python=True)
    seen = folder / "seen"

    def lines() -> list[list[int]]:
        return [list(map(int, line.split())) for line in seen.read_text().splitlines()] if seen.exists() else []

    wait(lambda: any(11 in names and len(names) < 5 for names in lines()), 30, "the second bad item's part")
    journal = folder / "run" / "journal.jsonl"

    def others_are_done() -> bool:
        bisected = read_journal(journal).bisected
        return 0 in bisected and list(bisected[0].failed) == [3] and len(bisected[0].finished) >= 7

    # The other process does all that is left, also what was meant for the one that hangs.
    wait(others_are_done, 30, "the first bad item and seven good ones in the journal")
    driver.kill()
    driver.wait()
    before = read_journal(journal)
    assert list(before.bisected) == [0]
    ended = before.bisected[0]
    assert list(ended.failed) == [3]
    seen_before = len(lines())
    (folder / "go on").touch()
    command.forget(driver)

    code, _, err = command("resume", "run", *([] if retry_failed else ["--no-retry-failed"]))
    assert code == 0, err
    output = folder / "output" / "parallel_run_step.txt"
    assert [int(row) for row in output.read_text().splitlines()] == [n for n in range(32) if n not in (3, 11)]
    again = {item for names in lines()[seen_before:] for item in names}
    assert not again & set(ended.finished), "what was committed is not run again"
    assert (3 in again) == retry_failed
    told = (folder / "run" / "logs" / "job_result.txt").read_text()
    assert "Mini-batches: 2 (1 succeeded, 1 failed)" in told
    assert "Items: 32 (30 succeeded, 2 failed)" in told
    after = read_journal(journal)
    assert (list(after.finished), list(after.failed), after.failed_items) == ([1], [0], 2)
    assert list(after.bisected[0].failed) == [3, 11]


def test_from_yaml_and_from_the_command_line(command):
    command.script(poison("exception"))
    command.items(20)
    (command.folder / "step.yml").write_text(
        "name: bisected\nentry_script: script.py\ninputs: items\noutput: out 0\noutput_action: append_row\n"
        "error_threshold: -1\nmini_batch_size: 20\nrun_max_try: 1\non_failed_mini_batch: bisect\n"
    )
    flags = ["--entry-script", "script.py", "--input", "items", "--output", "out 1", "--output-action", "append_row"]
    flags += ["--error-threshold", "-1", "--mini-batch-size", "20", "--run-max-try", "1"]
    for number, arguments in enumerate((["step.yml"], [*flags, "--on-failed-mini-batch", "bisect"])):
        code, out, err = command("run", *arguments, "--run-folder", f"run {number}")
        assert code == 0, err
        assert "17 of 20 items succeeded" in out
        rows = (command.folder / f"out {number}" / "parallel_run_step.txt").read_text().split()
        assert sorted(map(int, rows)) == [item for item in range(20) if item not in BAD]

"""What run() may give back: every kind that is allowed, and everything that is not."""

import json
import os
import threading
from pathlib import Path

import psutil
import pytest

from prs_dask import TabularDataset

MANY_KINDS = """
import os
import numpy, pandas

def generated(names):
    for name in names:
        yield name

KINDS = [
    list,
    tuple,
    numpy.array,
    lambda names: pandas.DataFrame({"name": names}),
    pandas.Series,
    generated,
]

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    return KINDS[int(names[0]) // 2 % len(KINDS)](names)
"""

NO_RESULTS = """
import os

def refused_generator():
    yield "a"
    raise OSError("in the middle of a generator")

class NoText:
    def __str__(self):
        raise RuntimeError("no text of mine")

class StrangeLength(list):
    def __len__(self):
        raise RuntimeError("no length")

class NotText:
    def __str__(self):
        return 3

BAD = [
    lambda: None,
    lambda: 3,
    lambda: {"a": 1},
    lambda: "text",
    lambda: b"bytes",
    lambda: True,
    lambda: object(),
    lambda: {1, 2},
    refused_generator,
    lambda: [NoText()],
    lambda: ["good", NoText()],
    lambda: [NotText()],
    lambda: StrangeLength(["a"]),
    lambda: (yield_ for yield_ in [1, NoText()]),
]

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    return [number] if number >= len(BAD) else BAD[number]()
"""
BAD = 14


def test_lists_tuples_arrays_tables_series_and_generators_are_rows(job):
    done = job(MANY_KINDS, 24, mini_batch_size=2)
    assert done.state == "Completed"
    assert done.items == list(range(24))


def test_whatever_is_no_result_fails_its_mini_batch_alone_and_names_the_type(job):
    done = job(NO_RESULTS, BAD + 20, run_max_try=2)
    assert done.state == "Completed"
    assert done.items == list(range(BAD, BAD + 20))
    assert done.tries() == {number: 2 if number < BAD else 1 for number in range(BAD + 20)}
    messages = {int(row["Mini-batch Id"]): row["Error Message"] for row in done.attempts}
    for number, name in enumerate(("None", "int", "dict", "str", "bytes", "bool", "object", "set")):
        assert name in messages[number], messages[number]
    text = done.log("user/error.txt")
    for words in ("in the middle of a generator", "no text of mine", "no length"):
        assert words in text


def test_a_short_result_counts_its_missing_items_as_failed_and_the_mini_batch_as_succeeded(job):
    done = job("def run(mini_batch): return ['row'] * 3", 10, mini_batch_size=5)
    summary = done.run.summary()
    assert done.state == "Completed"
    assert (summary.rows, summary.succeeded_items, summary.failed_items) == (6, 6, 4)
    assert (summary.succeeded_mini_batches, summary.failed_mini_batches) == (2, 0)
    assert summary.attempts == 2
    lines = [json.loads(line) for line in done.log("user/failed_items.jsonl").splitlines()]
    assert [(line["item"], line["items"], line["category"]) for line in lines] == [(None, 2, "missing result")] * 2
    assert {line["mini_batch"] for line in lines} == {0, 1}


def test_an_empty_result_is_a_result(job):
    script = """
        import os
        def run(mini_batch): return [] if int(os.path.basename(mini_batch[0])) != 3 else ["3"]
    """
    done = job(script, 6)
    assert done.rows == ["3"]
    assert done.run.summary().failed_items == 5
    lines = [json.loads(line) for line in done.log("user/failed_items.jsonl").splitlines()]
    assert {os.path.basename(line["item"]) for line in lines} == {f"{number:04d}" for number in (0, 1, 2, 4, 5)}


def test_no_row_at_all_fails_the_step_run_and_says_so(job):
    done = job("def run(mini_batch): return []", 4)
    assert done.state == "Failed"
    assert "no row" in done.run.error


def test_more_results_than_items_are_no_error(job):
    done = job("def run(mini_batch): return ['a', 'b', 'c']", 4)
    summary = done.run.summary()
    assert (summary.rows, summary.succeeded_items, summary.failed_items) == (12, 4, 0)


def test_rows_hold_what_str_says_with_newlines_and_all_and_lone_surrogates_do_not_stop_it(job):
    script = r"""
        import os
        TEXTS = ["two\nlines", "tab\tin it", "ünïcödé 数", "", "nul\0", "\ud800", float("nan"), 2.5, b"b", None, [1]]
        def run(mini_batch): return [TEXTS[int(os.path.basename(mini_batch[0]))]]
    """
    done = job(script, 11, append_row_order="input", run_max_try=1, more_lines=1)
    content = done.file.read_bytes()
    assert done.state == "Completed"
    assert "ünïcödé 数".encode() in content
    assert content.endswith(b"nan\n2.5\nb'b'\nNone\n[1]\n")


def test_tables_get_a_header_once_and_one_with_other_columns_fails(job, tmp_path):
    script = """
        import os, pandas
        def run(mini_batch):
            number = int(os.path.basename(mini_batch[0]))
            return pandas.DataFrame({"number": [number], "other" if number == 7 else "square": [number ** 2]})
    """
    table = {"sep": ",", "header": True}
    done = job(script, 20, run_max_try=1, append_row_format=table, append_row_order="input", more_lines=1)
    rows = done.rows
    assert done.state == "Completed"
    assert rows[1:] == [f"{number},{number**2}" for number in range(20) if number != 7]
    assert rows[0] == "number,square"
    (failed,) = [row for row in done.attempts if row["Status"] == "Failed"]
    assert "other" in failed["Error Message"]
    assert "square" in failed["Error Message"]


def test_input_order_holds_whatever_ends_first_and_whatever_is_tried_again(job):
    script = """
        import os, time
        def run(mini_batch, context):
            number = int(os.path.basename(mini_batch[0]))
            time.sleep(0.03 * (number % 5 == 0))
            if number % 7 == 0 and context.attempt == 1:
                raise ValueError(number)
            return [number]
    """
    done = job(script, 60, append_row_order="input")
    assert [int(row) for row in done.rows] == list(range(60))
    assert done.run.summary().attempts == 60 + 9


def test_summary_only_keeps_what_the_script_stored(job):
    script = """
        import os
        from prs_dask import EntryScript
        def run(mini_batch):
            for path in mini_batch:
                name = os.path.basename(path)
                with open(os.path.join(EntryScript().output_dir, name + ".answer"), "w") as file:
                    file.write(name)
            return mini_batch
    """
    done = job(script, 30, output_action="summary_only", mini_batch_size=4)
    assert done.state == "Completed"
    assert done.run.output_file is None
    assert sorted(int(path.stem) for path in Path(done.run.output_dir).iterdir()) == list(range(30))
    assert done.run.summary().succeeded_items == 30


def test_200_megabytes_of_rows_from_one_mini_batch_come_whole_and_once_and_memory_stays_small(job, cluster):
    script = """
        import os
        def run(mini_batch):
            number = int(os.path.basename(mini_batch[0]))
            return [f"{number} {place:07d} " + "x" * 989 for place in range(200_000)] if number == 3 else [number]
    """
    most = {"driver": 0, "scheduler": 0}
    ended = threading.Event()

    def watch():
        before = psutil.Process().memory_info().rss >> 20, cluster.memory()
        while not ended.wait(0.02):
            now = psutil.Process().memory_info().rss >> 20, cluster.memory()
            most["driver"] = max(most["driver"], now[0] - before[0])
            most["scheduler"] = max(most["scheduler"], now[1] - before[1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = job(script, 10)
    finally:
        ended.set()
        watcher.join()
    assert done.state == "Completed"
    assert done.file.stat().st_size > 199_000_000
    places = []
    others = []
    with done.file.open() as file:
        for line in file:
            number, *rest = line.split()
            if rest:
                assert (number, len(line)) == ("3", 1000)
                places.append(int(rest[0]))
            else:
                others.append(int(number))
    assert places == list(range(200_000))
    assert sorted(others) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert most["scheduler"] < 130, most
    assert most["driver"] < 300, most  # 40 to 200, at 1.5 GB of rows too: as the allocator gives back


def test_rows_of_a_table_are_scored_each_once(job, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "".join(f"{number},{number * 2}\n" for number in range(5000)))
    script = "def run(table): return (table.a + table.b).tolist()"
    done = job(script, inputs=TabularDataset.from_delimited_files(table), mini_batch_size="2KB")
    assert sorted(map(int, done.rows)) == [3 * number for number in range(5000)]
    assert done.run.summary().items == 5000


@pytest.mark.parametrize("size", [1, 7])
def test_names_with_any_bytes_are_items_as_they_are(job, tmp_path, size):
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"a b", b"star*[x]?", b"line\nbreak", b"\xff\xfe", "ünï".encode(), b"-rf", b"%20#?&", b"quote'\""]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).touch()
    script = "import os\ndef run(mini_batch): return [os.fsencode(os.path.basename(p)).hex() for p in mini_batch]"
    done = job(script, folder, mini_batch_size=size)
    assert sorted(bytes.fromhex(row) for row in done.rows) == sorted(names)

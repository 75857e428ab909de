"""Whole jobs over tables: every row of a good file once, whatever lies beside it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prs_dask import TabularDataset

ROWS = "def run(frame): return frame.astype(str).agg(','.join, axis=1).tolist()\n"


def test_records_as_lines_with_a_quoted_line_break_end_the_step_run_and_name_the_place(job, tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes(b"a,b\n" + b"1,x\n" * 5000 + b'2,"x\ny"\n' + b"3,x\n" * 5000)
    dataset = TabularDataset.from_delimited_files(table, support_multi_line=False)
    done = job(ROWS, 0, inputs=dataset, mini_batch_size=1000, error_threshold=-1)
    assert done.state == "Failed"
    assert "table.csv, line 5002, byte 20006" in done.run.error
    assert 'support_multi_line="auto"' in done.run.error
    assert not done.run.output_file.exists()
    assert done.categories()["unsafe cut"] >= 1


def test_a_column_that_does_not_fit_its_type_in_the_head_is_told_in_a_log(job, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a\n" + "1\n" * 600_000 + "x\n")
    dataset = TabularDataset.from_delimited_files(table)
    done = job("def run(frame): return [str(frame['a'].dtype)]\n", 0, inputs=dataset, mini_batch_size=200_000)
    assert "str" in done.rows
    told = "column 'a' is int64 in the dataset's head, but not in"
    logs = [path for path in done.run.log_dir.rglob("*.txt") if told in path.read_text()]
    assert [path.relative_to(done.run.log_dir).parts[:2] for path in logs] == [("user", "stdout")]
    (line,) = (line for line in logs[0].read_text().splitlines() if told in line)
    assert f"{table}: read as str there" in line


@pytest.fixture
def folder(tmp_path):
    """An empty one, for the tables of a dataset."""
    path = tmp_path / "tables"
    path.mkdir()
    return path


def fill(folder, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def check_good_rows_once_and_bad_files_named(done, good: list[str], bad: dict[str, str]) -> None:
    """Rows of good files exactly once; a failed mini-batch for each bad file, with what is wrong in the log."""
    assert sorted(done.rows) == sorted(good)
    failed = [row for row in done.attempts if row["Status"] == "Failed"]
    assert len(failed) == len(bad), sorted(row["Mini-batch Detail"] for row in failed)
    assert set(done.categories()) == {"load error"}
    log = done.log("user/error.txt") + done.logs("user/error/*/*.txt")
    for name, told in bad.items():
        assert re.search(rf"{re.escape(name)}\b.*{told}", log), name


def test_bad_csv_files_fail_alone(job, folder):
    row = b"1,x\n"
    files = {
        "good 1.csv": b"a,b\n" + row * 3,
        "bom.csv": b"\xef\xbb\xbfa,b\r\n" + row,
        "breaks.csv": b"a,b\r\n1,x\r1,x\n\n\r\n1,x",
        "quoted.csv": b'a,b\n1,"x"\n"1",x\n',
        "empty.csv": b"",
        "header.csv": b"a,b\n",
        "good.csv.gz": gzip.compress(b"a,b\n" + row) + gzip.compress(row),
        "good.csv.bz2": bz2.compress(b"a,b\n" + row),
        "nul.csv": b"a,b\n1,x\0\n",
        "latin.csv": "a,b\n1,é\n".encode("latin-1"),
        "utf16.csv": "a,b\n1,x\n".encode("utf-16"),
        "ragged.csv": b"a,b\n1,x,2\n",
        "short.csv": b"a,b\n1\n",
        "packed.csv": gzip.compress(b"a,b\n" + row),
        "plain.csv.gz": b"a,b\n" + row,
        "other.csv.gz": bz2.compress(b"a,b\n" + row),
        "cut.csv.gz": gzip.compress(bytes(range(256)) * 40)[:-100],
        "cut.csv.xz": lzma.compress(bytes(range(256)) * 40)[:-30],
        "open.csv.gz": gzip.compress(b'a,b\n1,"x\n'),
        "semicolon.csv": b"a;b\n1;x,2\n",
    }
    fill(folder, files)
    (folder / "gone.csv").symlink_to(folder.parent / "nowhere")
    done = job(ROWS, 0, inputs=TabularDataset.from_delimited_files(folder), run_max_try=1)
    assert done.state == "Completed"
    check_good_rows_once_and_bad_files_named(
        done,
        ["1,x"] * (3 + 1 + 3 + 2 + 2 + 1) + ["1,x\0"],
        {
            "latin.csv": "not UTF-8.*try encoding=",
            "utf16.csv": "UTF-16",
            "ragged.csv": "line 2: found 3 fields; allowed: 2",
            "short.csv": "line 2: found 1 fields; allowed: 2",
            "packed.csv": "gzip",
            "plain.csv.gz": "cannot be decompressed",
            "other.csv.gz": "cannot be decompressed",
            "cut.csv.gz": "cannot be decompressed",
            "cut.csv.xz": "cannot be decompressed",
            "open.csv.gz": "never closed",
            "semicolon.csv": "line 2: found 2 fields; allowed: 1",
            "gone.csv": "",
        },
    )


def test_bad_json_lines_files_fail_alone(job, folder):
    row = b'{"a": 1, "b": "x"}\n'
    files = {
        "good.jsonl": row * 3,
        "bom.jsonl": b"\xef\xbb\xbf" + row,
        "blank.jsonl": b"\n\n" + row + b"\r\n \t\n" + row,
        "good.jsonl.gz": gzip.compress(row * 2),
        "empty.jsonl": b"",
        "cut.jsonl": row + b'{"a": 1, "b": "x',
        "list.jsonl": b"[1, 2]\n",
        "deep.jsonl": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "latin.jsonl": '{"a": 1, "b": "é"}\n'.encode("latin-1"),
        "half.jsonl": b'{"b": "\\ud800"}\n',
    }
    fill(folder, files)
    done = job(ROWS, 0, inputs=TabularDataset.from_json_lines_files(folder), run_max_try=1)
    assert done.state == "Completed"
    check_good_rows_once_and_bad_files_named(
        done,
        ["1,x"] * (3 + 1 + 2 + 2),
        {
            "cut.jsonl": "line 2: not JSON",
            "list.jsonl": "line 1: found list; allowed: one object per line",
            "deep.jsonl": "nested too deeply",
            "latin.jsonl": "line 1: not UTF-8",
            "half.jsonl": "not Unicode",
        },
    )


def test_bad_parquet_files_fail_alone(job, folder):
    table = pa.table({"a": [1, 1], "b": ["x", "x"]})
    pq.write_table(table, folder / "a.parquet")
    data = (folder / "a.parquet").read_bytes()
    pq.write_table(table.select(["b", "a"]), folder / "b.parquet", row_group_size=1)
    pq.write_table(table.slice(0, 0), folder / "no rows.parquet")
    pq.write_table(pa.table({"a": ["1"], "b": ["x"]}), folder / "other type.parquet")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "cut.parquet").write_bytes(data[:-20])
    (folder / "damaged.parquet").write_bytes(data[:8] + bytes(60) + data[68:])
    (folder / "a.csv").write_bytes(b"a,b\n1,x\n")
    (folder / "folder.parquet").mkdir()
    pq.write_table(table, folder / "folder.parquet" / "c.parquet")
    done = job(ROWS, 0, inputs=TabularDataset.from_parquet_files(folder), run_max_try=1, mini_batch_size=1)
    assert done.state == "Completed"
    unreadable = "not a readable Parquet file"
    check_good_rows_once_and_bad_files_named(
        done,
        ["1,x"] * 6,
        {
            "other type.parquet": "column 'a' is string, but int64 in .*a.parquet",
            "empty.parquet": unreadable,
            "cut.parquet": unreadable,
            "damaged.parquet": unreadable,
            "a.csv": unreadable,
        },
    )


def test_one_very_long_row_and_very_many_columns_are_rows_like_others(job, folder):
    (folder / "long.csv").write_bytes(b"a,b\n1," + b"x" * 50_000_000 + b"\n2,y\n")
    wide = ",".join(f"c{number}" for number in range(20_000)) + "\n" + ",".join(["7"] * 20_000) + "\n"
    (folder / "wide.csv").write_text(wide)
    script = (
        "import resource\n"
        "def run(frame):\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "    return [f'{len(frame)} {frame.shape[1]} {peak}']\n"
    )
    done = job(script, 0, inputs=TabularDataset.from_delimited_files(folder), run_max_try=1, mini_batch_size="1MB")
    assert done.state == "Completed"
    found = sorted(tuple(map(int, row.split())) for row in done.rows)
    assert [shape[:2] for shape in found] == [(1, 2), (1, 2), (1, 20_000)]
    assert max(peak for *_, peak in found) < 800, "MiB: a block, its text and its frame, and some 150 of libraries"


NAMES = [
    "a space.csv", "a%20b.csv", "a#b.csv", "a?b.csv", "[ab]*{c}.csv", "a\nb.csv", "a\tb.csv", "-dash.csv", "dot..csv",
    "caf\u00e9.csv", "cafe\u0301.csv", "\u202eright.csv", "A.csv", "a.csv", "x" * 251 + ".csv", "bad\udcff.csv",
]  # fmt: skip


def test_files_of_any_name_are_read(job, folder):
    for number, name in enumerate(NAMES):
        (folder / name).write_text(f"a\n{number}\n")
    hidden = folder / ".hidden.csv"
    hidden.write_text("a\n99\n")
    dataset = TabularDataset.from_delimited_files([folder, hidden, folder / "[ab]*{c}.csv"])
    done = job("def run(frame): return frame['a'].tolist()\n", 0, inputs=dataset)
    assert done.state == "Completed"
    assert done.items == sorted([*range(len(NAMES)), 99, NAMES.index("[ab]*{c}.csv")])


def test_failed_rows_are_one_line_a_mini_batch_with_their_number_for_they_have_no_names(job, folder):
    fill(folder, {"a.csv": b"a,b\n" + b"1,x\n" * 5, "b.csv": b"a,b\n" + b"2,y\n" * 3})
    dataset = TabularDataset.from_delimited_files(folder)
    script = "def run(frame):\n    if (frame.a == 1).any(): raise ValueError('ones')\n    return frame.b.tolist()[1:]\n"
    done = job(script, 0, inputs=dataset, error_threshold=-1, run_max_try=1)
    lines = [json.loads(text) for text in done.log("user/failed_items.jsonl").splitlines()]
    told = {(line["item"], line["items"], line["category"]) for line in lines}
    assert told == {(None, 5, "exception"), (None, 1, "missing result")}
    assert done.run.summary().failed_items == 6

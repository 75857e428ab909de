"""Whole jobs over stores: every item once, equal to the run over local files."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, SettingsError, TabularDataset

CONTENTS = """
import os

def run(mini_batch):
    rows = []
    for path in mini_batch:
        assert os.path.isabs(path) and "://" not in path, path
        with open(path) as file:
            rows.append(f"{os.path.basename(path)}={file.read()}")
    return rows
"""
URLS = """
def run(mini_batch):
    return list(mini_batch)
"""
ROWS = """
def run(mini_batch):
    return [f"{row.id}:{row.text}" for row in mini_batch.itertuples()]
"""


class Shelf:
    """A bucket of a server, with what a dataset needs to read it."""

    def __init__(self, server: Any) -> None:
        self._server, self.url, self.options = server, server.bucket(), server.options

    def put(self, name: str, data: bytes) -> str:
        url: str = self._server.put(f"{self.url}/{name}", data)
        return url


@pytest.fixture(params=["s3", "azure"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return Shelf(request.getfixturevalue(request.param))


@pytest.fixture
def s3_shelf(s3: Any) -> Shelf:
    return Shelf(s3)


def table(first: int, count: int) -> pd.DataFrame:
    numbers = range(first, first + count)
    return pd.DataFrame({"id": numbers, "text": [f"line {number},\nnext" for number in numbers]})


def test_files_of_a_store_reach_run_as_local_paths(shelf: Shelf, job: Any) -> None:
    names = [f"folder {number % 3}/{number:03d} ü.txt" for number in range(25)]
    for number, name in enumerate(names):
        shelf.put(name, str(number).encode())
    inputs = FileDataset.from_files(shelf.url, storage_options=shelf.options)
    done = job(CONTENTS, inputs=inputs, mini_batch_size=4)
    assert done.state == "Completed", done.run.error
    assert sorted(done.rows) == sorted(f"{name.rpartition('/')[2]}={number}" for number, name in enumerate(names))


def test_direct_mode_hands_over_urls(shelf: Shelf, job: Any) -> None:
    urls = [shelf.put(f"a/{number:03d}", b"x") for number in range(20)]
    inputs = FileDataset.from_files(f"{shelf.url}/a/*", storage_options=shelf.options, mode="direct")
    done = job(URLS, inputs=inputs, mini_batch_size=3)
    assert sorted(done.rows) == urls


def test_files_over_http_and_local_files_in_one_dataset(web: Any, job: Any, tmp_path: Path) -> None:
    urls = [web.put(f"web{number}.txt", b"w") for number in range(5)]
    (tmp_path / "local.txt").write_text("l")
    inputs = FileDataset.from_files([*urls, tmp_path / "local.txt"])
    done = job(CONTENTS, inputs=inputs, mini_batch_size=4)
    assert sorted(done.rows) == ["local.txt=l", *(f"web{number}.txt=w" for number in range(5))]


def written(kind: str, frame: pd.DataFrame) -> bytes:
    if kind == "delimited":
        return frame.to_csv(index=False).encode()
    if kind == "json_lines":
        return frame.to_json(orient="records", lines=True).encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, row_group_size=50)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["delimited", "json_lines", "parquet"])
def test_tables_in_a_store_give_the_rows_of_local_ones(shelf: Shelf, job: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / "tables").mkdir()
    for number in range(4):
        data = written(kind, table(number * 200, 200))
        shelf.put(f"tables/{number}", data)
        (tmp_path / "tables" / str(number)).write_bytes(data)
    make = getattr(TabularDataset, f"from_{kind}_files")
    inputs = make(f"{shelf.url}/tables", storage_options=shelf.options)
    script = ROWS.replace("row.text", "row.text.split(chr(10))[0]")
    done = job(script, inputs=inputs, mini_batch_size="1KB")
    assert done.state == "Completed", done.run.error
    assert done.run.summary().mini_batches == len(make(tmp_path / "tables").plan(1024)) > 4
    assert sorted(done.rows, key=lambda row: int(row.split(":")[0])) == [f"{id}:line {id}," for id in range(800)]


def test_a_table_over_http(web: Any, job: Any) -> None:
    url = web.put("table.csv", b"id,text\n" + b"".join(b"%d,t\n" % number for number in range(1000)))
    done = job(ROWS, inputs=TabularDataset.from_delimited_files(url), mini_batch_size="1KB")
    assert sorted(done.rows, key=lambda row: int(row.split(":")[0])) == [f"{number}:t" for number in range(1000)]
    assert done.run.summary().mini_batches > 5


def test_faults_of_a_store_fail_nothing(s3: Any, s3_shelf: Shelf, faulty_s3: Any, job: Any) -> None:
    for number in range(20):
        s3_shelf.put(f"{number:03d}", str(number).encode())
    seen: dict[str, int] = {}

    def fault(method: str, path: str, span: str | None) -> int | str | None:
        seen[path] = seen.get(path, 0) + 1
        return (503, "cut", "reset", None, None)[hash(path) % 5] if seen[path] == 1 else None

    faulty_s3.fault = fault
    inputs = FileDataset.from_files(s3_shelf.url, storage_options=s3.through(faulty_s3.port))
    done = job(CONTENTS, inputs=inputs, mini_batch_size=2, run_max_try=1)
    assert sorted(done.rows) == [f"{number:03d}={number}" for number in range(20)]
    assert done.run.summary().failed_mini_batches == 0


def test_a_file_that_was_changed_or_refused_fails_its_own_mini_batch(
    s3: Any, s3_shelf: Shelf, faulty_s3: Any, job: Any
) -> None:
    for number in range(10):
        s3_shelf.put(f"{number:03d}", str(number).encode())
    options = s3.through(faulty_s3.port)
    changed = threading.Event()

    def fault(method: str, path: str, span: str | None) -> int | str | None:
        if method == "GET" and "/004" in path and not changed.is_set():
            changed.set()
            s3_shelf.put("004", b"other")
        return 403 if "/007" in path else None

    faulty_s3.fault = fault
    done = job(
        CONTENTS,
        inputs=FileDataset.from_files(s3_shelf.url, storage_options=options),
        mini_batch_size=1,
        run_max_try=2,
        error_threshold=-1,
    )
    assert sorted(done.rows) == [f"{number:03d}={number}" for number in range(10) if number not in (4, 7)]
    errors = done.logs("user/error/*/*.txt")
    failed = done.log("user/failed_items.jsonl")
    assert "the file was changed since it was listed" in errors + failed
    assert "the store refuses access (HTTP 403" in errors + failed


@pytest.mark.parametrize("kind", ["files", "table"])
def test_a_store_that_does_not_answer_costs_its_mini_batch_the_limit_of_reading(
    s3: Any, s3_shelf: Shelf, faulty_s3: Any, job: Any, tmp_path: Path, kind: str
) -> None:
    begun = tmp_path / "begun"
    for number in range(10):
        s3_shelf.put(f"{number:03d}", b"number\n%d" % number)
    options = s3.through(faulty_s3.port)
    if kind == "files":
        script, inputs = CONTENTS, FileDataset.from_files(s3_shelf.url, storage_options=options)
        script = script.replace("file.read()", "file.readlines()[1]")
        rows = [f"{number:03d}={number}" for number in range(10) if number != 4]
    else:
        script = "def run(mini_batch): return mini_batch['number'].tolist()"
        inputs = TabularDataset.from_delimited_files(
            s3_shelf.url, storage_options=options, dtype={"number": "int64"}, support_multi_line=False
        )
        rows = [str(number) for number in range(10) if number != 4]
    script += f"\ndef init(): open({str(begun)!r}, 'w').close()"
    faulty_s3.fault = lambda method, path, _: "hang" if path.endswith("/004") and begun.exists() else None
    done = job(
        script,
        inputs=inputs,
        mini_batch_size=1,
        run_max_try=2,
        error_threshold=-1,
        arguments=["--task_overhead_timeout", "3"],
    )
    slow = [row for row in done.attempts if row["Error Category"]]
    assert [row["Error Category"] for row in slow] == ["time limit"] * 2
    assert all(3 <= float(row["Elapsed Seconds"]) < 4 for row in slow), slow
    assert sorted(done.rows) == rows


def test_a_changed_file_is_an_error_of_its_mini_batch_in_direct_mode_too(s3: Any, s3_shelf: Shelf, job: Any) -> None:
    urls = [s3_shelf.put(f"{number:03d}", b"x") for number in range(10)]

    class Changing(FileDataset):
        def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Any:
            batches = list(super().mini_batches(mini_batch_size, input_index))
            s3_shelf.put("004", b"other")
            return iter(batches)

    inputs = Changing.from_files(s3_shelf.url, storage_options=s3_shelf.options, mode="direct")
    done = job(URLS, inputs=inputs, mini_batch_size=2, run_max_try=2, error_threshold=-1)
    assert sorted(done.rows) == [url for number, url in enumerate(urls) if number not in (4, 5)]
    assert "the file was changed since it was listed" in done.logs("user/error/*/*.txt")


def test_what_is_missing_is_told_before_anything_starts(shelf: Shelf, submit: Any, tmp_path: Path) -> None:
    shelf.put("there", b"x")
    paths = [f"{shelf.url}/there", f"{shelf.url}/missing", f"{shelf.url}/no*match"]
    with pytest.raises(SettingsError) as caught:
        submit(URLS, inputs=FileDataset.from_files(paths, storage_options=shelf.options))
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "run").exists()


def test_memory_is_no_input_of_a_step(submit: Any) -> None:
    with pytest.raises(SettingsError, match="memory:// is this process's own"):
        submit(URLS, inputs=FileDataset.from_files("memory://box/a"))


def test_files_and_tables_of_a_store_are_grouped_by_partition_keys(s3_shelf: Shelf, job: Any) -> None:
    for store in (1, 2):
        for day in range(3):
            frame = table(store * 100 + day * 10, 5)
            s3_shelf.put(f"sales/Store={store}/{day}.csv", frame.to_csv(index=False).encode())
    script = """
        def run(mini_batch, mini_batch_context):
            (store,) = mini_batch_context.partition_key_value.values()
            assert mini_batch["Store"].tolist() == [store] * 15
            return mini_batch["id"].tolist()
    """
    inputs = TabularDataset.from_delimited_files(f"{s3_shelf.url}/sales", storage_options=s3_shelf.options)
    done = job(script, inputs=inputs, mini_batch_size=None, partition_keys=["Store"])
    assert done.state == "Completed", done.run.error
    assert done.items == [store * 100 + day * 10 + row for store in (1, 2) for day in range(3) for row in range(5)]
    assert done.run.summary().mini_batches == 2


def test_files_of_a_store_come_by_combination_as_local_paths(s3_shelf: Shelf, job: Any) -> None:
    for number in range(6):
        s3_shelf.put(f"songs/user {number % 2}/{number}.txt", str(number).encode())
    inputs = FileDataset.from_files(
        f"{s3_shelf.url}/songs", partition_format="user {user}/{song}.txt", storage_options=s3_shelf.options
    )
    script = CONTENTS.replace("run(mini_batch):", "run(mini_batch, context):").replace(
        "return rows", "return [f'{context.partition_key_value} {row}' for row in rows]"
    )
    done = job(script, inputs=inputs, mini_batch_size=None, partition_keys=["user"])
    assert done.state == "Completed", done.run.error
    assert sorted(done.rows) == sorted(f"{{'user': {number % 2}}} {number}.txt={number}" for number in range(6))

"""A PostgreSQL query as input: read whole in a worker process, and its password nowhere to be found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy

from prs_dask import ParallelRunConfig, ParallelRunStep, SettingsError, TabularDataset

SCRIPT = """
import sys
from pathlib import Path

def run(mini_batch, mini_batch_context):
    print(sys.argv, mini_batch_context)
    shown = Path("/proc/self/cmdline").read_bytes() + Path("/proc/self/environ").read_bytes()
    Path(sys.argv[1], "shown").write_bytes(shown)
    return mini_batch
"""


@pytest.fixture(scope="session")
def sales(postgresql: str) -> Iterator[str]:
    engine = sqlalchemy.create_engine(postgresql)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table sales (id int, store text, amount numeric(8,2), day date)"))
        connection.execute(
            sqlalchemy.text(
                "insert into sales select n, 's' || n % 3, n / 4.0, date '2026-01-01' + n "
                "from generate_series(0, 4999) n"
            )
        )
    engine.dispose()
    return postgresql


def step(folder: Path, dataset: TabularDataset, **settings: object) -> ParallelRunStep:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    config = ParallelRunConfig(
        entry_script=script, output_action="append_row", error_threshold=0, process_count_per_node=1, **settings
    )
    return ParallelRunStep("sales", config, dataset.as_named_input("sales"), folder / "output", arguments=[folder])


def test_every_row_is_read_and_the_password_is_nowhere(sales: str, tmp_path: Path, no_leaks: None) -> None:
    password = sqlalchemy.make_url(sales).password
    dataset = TabularDataset.from_sql_query(
        sales, "select * from sales where id >= :least order by id", parameters={"least": 10}
    )
    run = step(tmp_path, dataset).submit(run_folder=tmp_path / "run")
    assert run.wait_for_completion(timeout_seconds=60) == "Completed"
    rows = run.output_file.read_text().splitlines()
    assert len(rows) == 4990
    assert rows[0].split() == ["10", "s1", "2.5", "2026-01-11"]
    found = (
        "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
        + repr(run)
        + repr(dataset)
    )
    for secret in (password, "canary"):
        assert secret not in found
    assert "postgresql+psycopg://prs:***@127.0.0.1" in found
    assert "AZUREML_RUN_ID" in (tmp_path / "shown").read_text()


def test_the_rows_equal_what_pandas_reads(sales: str) -> None:
    query = "select * from sales order by id"
    engine = sqlalchemy.create_engine(sales)
    with engine.connect() as connection:
        expected = pd.read_sql(sqlalchemy.text(query), connection)
    engine.dispose()
    pd.testing.assert_frame_equal(TabularDataset.from_sql_query(sales, query).to_pandas(), expected)


def test_a_wrong_password_is_refused_before_anything_starts(sales: str, tmp_path: Path) -> None:
    url = sqlalchemy.make_url(sales).set(password="canary-that-is-wrong")
    with pytest.raises(SettingsError, match="password authentication failed for user") as caught:
        step(tmp_path, TabularDataset.from_sql_query(url, "select 1")).submit(run_folder=tmp_path / "run")
    assert "canary" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_query_that_fails_fails_its_mini_batch_and_is_told(sales: str, tmp_path: Path, no_leaks: None) -> None:
    dataset = TabularDataset.from_sql_query(sales, "select 1 / (id - id) from sales")
    run = step(tmp_path, dataset, run_max_try=1).submit(run_folder=tmp_path / "run")
    assert run.wait_for_completion(raise_on_error=False, timeout_seconds=60) == "Failed"
    assert "division by zero" in run.error
    found = "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "canary" not in found
    assert "canary" not in "".join(os.environ.values())

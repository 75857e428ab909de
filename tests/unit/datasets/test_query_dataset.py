"""SQL queries: what is refused before anything starts, and what is read, from SQLite."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy

from prs_dask import InputError, SettingsError, TabularDataset
from prs_dask.datasets import query_dataset
from prs_dask.datasets.query import Query, without_secrets
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.reading import read
from prs_dask.mini_batches import QueryMiniBatch, decode, encode

CANARY = "canary/of the%database"
URL = f"postgresql+psycopg://me:canary%2Fof+the%25database@nowhere.invalid:5/db?sslpassword={CANARY.split('/')[0]}-2"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "sales.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table sales (id integer, store text, amount real, note text)")
        connection.executemany(
            "insert into sales values (?, ?, ?, ?)",
            [(number, f"s{number % 3}", number / 4, None if number % 2 else "ü") for number in range(100)],
        )
    connection.close()
    return path


def rows(dataset: TabularDataset) -> pd.DataFrame:
    [mini_batch] = dataset.plan(1)
    assert decode(encode(mini_batch)) == mini_batch == QueryMiniBatch(0)
    frame = read(mini_batch, pickle.loads(pickle.dumps(dataset.reader())))
    assert isinstance(frame, pd.DataFrame)
    return frame


def test_the_whole_result_is_one_mini_batch_and_equals_what_pandas_reads(database: Path) -> None:
    dataset = TabularDataset.from_sql_query(f"sqlite:///{database}", "select * from sales order by id")
    dataset.check()
    with sqlite3.connect(database) as connection:
        expected = pd.read_sql("select * from sales order by id", connection)
    connection.close()
    pd.testing.assert_frame_equal(rows(dataset), expected)
    pd.testing.assert_frame_equal(dataset.to_dask().compute(scheduler="threads"), expected)
    assert list(dataset.files()) == []


def test_parameters_and_dtypes_are_passed_on(database: Path) -> None:
    dataset = TabularDataset.from_sql_query(
        sqlalchemy.make_url(f"sqlite:///{database}"),
        "select id, amount from sales where store = :store and id > :least",
        parameters={"store": "s1", "least": 90},
        dtype={"id": "int8"},
    )
    frame = rows(dataset)
    assert frame["id"].tolist() == [91, 94, 97]
    assert frame["id"].dtype == "int8"


def test_a_relative_path_means_the_same_in_every_process(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    dataset = TabularDataset.from_sql_query("sqlite:///sales.db", "select id from sales")
    monkeypatch.chdir("/")
    assert len(rows(dataset)) == 100


def test_what_the_query_changes_is_undone(database: Path) -> None:
    dataset = TabularDataset.from_sql_query(f"sqlite:///{database}", "delete from sales returning id")
    assert len(rows(dataset)) == 100
    assert len(rows(dataset)) == 100


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select * from absent", "no such table: absent"),
        ("selct 1", "syntax error"),
        ("delete from sales", "does not return rows"),
    ],
)
def test_a_query_that_cannot_be_run_fails_its_mini_batch(database: Path, query: str, told: str) -> None:
    with pytest.raises(ReadError, match=told) as caught:
        rows(TabularDataset.from_sql_query(f"sqlite:///{database}", query))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_missing_file_is_refused_and_not_made(tmp_path: Path) -> None:
    dataset = TabularDataset.from_sql_query(f"sqlite:///{tmp_path}/sales.db", "select 1")
    with pytest.raises(InputError, match=r"connection: .*sales\.db is no file"):
        dataset.check()
    with pytest.raises(ReadError, match="no such file"):
        rows(dataset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="SQLite database in memory"):
        TabularDataset.from_sql_query(url, "select 1")


def test_a_live_connection_is_refused_and_told_what_to_give(database: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    for live in (engine, engine.connect(), sqlite3.connect(database)):
        with pytest.raises(SettingsError, match="cannot travel to the worker processes") as caught:
            TabularDataset.from_sql_query(live, "select 1")  # type: ignore[arg-type]
        assert ("engine.url" in str(caught.value)) == (not isinstance(live, sqlite3.Connection))
        if not isinstance(live, sqlalchemy.Engine):
            live.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        (f"no url with {CANARY}", "no URL"),
        (f"postgresql://me:{CANARY[:6]}@host:port/db", "no URL"),
        ("nodatabase://me:canary@host/db", "'nodatabase', which SQLAlchemy does not know"),
        ("oracle+oracledb://me:canary@host/db", "pip install oracledb"),
        ("", "no URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_shown(connection: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        TabularDataset.from_sql_query(connection, "select 1")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "parameters", "told"),
    [
        ("", None, "query: found ''"),
        (None, None, "query: found ''|query: found None"),
        ("select :a, ':b'", {"b": 1}, ":a, which has no value"),
        ("select 1", {"b": 1}, "parameters: found 'b'"),
    ],
)
def test_a_query_that_cannot_work_is_refused(query: Any, parameters: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        TabularDataset.from_sql_query("sqlite:///x.db", query, parameters=parameters)


def test_colons_that_are_no_parameters_pass(database: Path) -> None:
    dataset = TabularDataset.from_sql_query(f"sqlite:///{database}", "select '12:30' as a, 'a\\:b' as b")
    assert rows(dataset).values.tolist() == [["12:30", "a:b"]]


def test_without_sqlalchemy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(SettingsError, match=r'pip install "prs-dask\[sql\]"'):
        TabularDataset.from_sql_query("sqlite:///x.db", "select 1")


def test_no_text_of_the_dataset_holds_the_password() -> None:
    dataset = TabularDataset.from_sql_query(URL, "select 1")
    shown = [repr(dataset), str(dataset), repr(dataset.reader()), repr(dataset.plan()), repr(dataset.spec.query)]
    with pytest.raises(InputError) as refused:
        dataset.check()
    with pytest.raises(ReadError) as failed:
        rows(dataset)
    shown += [str(refused.value), repr(refused.value.faults), str(failed.value)]
    assert all("canary" not in text for text in shown)
    assert "nowhere.invalid" in shown[0]


@pytest.mark.parametrize("secret", ["a secret/with%marks", "ab"])
def test_errors_of_drivers_are_searched_for_secrets(secret: str) -> None:
    url = sqlalchemy.URL.create("postgresql+psycopg", "me", secret, "host", 1, "db").render_as_string(False)
    query = Query(url, "shown", "select 1", {})
    for text in (f"cannot connect with password={secret}", f"bad dsn {url}"):
        told = without_secrets(ValueError(text), query)
        assert secret not in told
        assert "a%20secret" not in told
    assert without_secrets(ValueError("refused"), query) == "ValueError: refused"


def test_a_server_that_does_not_answer_is_refused_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def connect(self) -> None:
            __import__("time").sleep(0.5)

    monkeypatch.setattr(query_dataset, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(query_dataset, "connectable", lambda query: Slow())
    with pytest.raises(InputError, match="no answer within 0.05 s"):
        TabularDataset.from_sql_query(URL, "select 1").check()

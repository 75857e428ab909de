"""A TabularDataset of the rows of a SQL query: one mini-batch, read by the worker process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prs_dask.datasets.fileless_dataset import FilelessDataset, by_type
from prs_dask.datasets.query import INSTALL_SQL, Query, connectable, missing_database, without_secrets
from prs_dask.datasets.read_spec import ReadError, ReadSpec
from prs_dask.errors import Fault, InputError, SettingsError
from prs_dask.mini_batches import MiniBatch, QueryMiniBatch

__all__ = ["QueryDataset", "query_dataset"]

CHECK_SECONDS = 15.0
_EXAMPLE = "'postgresql+psycopg://user:password@host/database'"


@dataclass(frozen=True, kw_only=True)
class QueryDataset(FilelessDataset):
    """The rows of a SQL query; made by ``TabularDataset.from_sql_query``."""

    @property
    def query(self) -> Query:
        """The query, with its connection."""
        query: Query = self.spec.query
        return query

    @property
    def secrets(self) -> list[Any]:
        return [*self.query.secrets, *self.query.parameters.values()]

    def check(self) -> None:
        """Connect once, without running anything.

        Raises
        ------
        InputError
            The driver is not installed, or the database does not answer within 15 s or refuses the connection.
        """
        problem = _connection_problem(self.query)
        if problem:
            allowed = "a database that can be reached"
            raise InputError([Fault("connection", f"{self.query.shown_url!r}: {problem}", allowed)])

    def _cut(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        return iter([QueryMiniBatch(input_index)])


def query_dataset(connection: Any, query: Any, parameters: Mapping[str, Any] | None, dtype: Any) -> QueryDataset:
    """See ``TabularDataset.from_sql_query``."""
    try:
        import sqlalchemy
    except ModuleNotFoundError:
        fault = Fault("from_sql_query", "no SQLAlchemy installed here", "the extra sql", INSTALL_SQL)
        raise SettingsError([fault]) from None
    faults: list[Fault] = []
    url = _url(connection, faults)
    if isinstance(query, sqlalchemy.TextClause):
        query = query.text
    if not isinstance(query, str) or not query.strip():
        faults.append(Fault("query", type(query).__name__ if query else repr(query), "a SELECT statement, as text"))
    else:
        faults += _parameter_faults(query, parameters or {})
    if faults or url is None:
        raise SettingsError(faults)
    shown = url.set(query={}).render_as_string(hide_password=True)
    value = Query(url.render_as_string(hide_password=False), shown, query, dict(parameters or {}), dtype)
    return QueryDataset(paths=(), spec=ReadSpec("query", query=value))


def _url(connection: Any, faults: list[Fault]) -> Any:
    """SQLAlchemy's URL, with an absolute path where the database is a file."""
    from sqlalchemy import make_url
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    if not isinstance(connection, (str, URL)):
        allowed = "a SQLAlchemy URL: a live connection cannot travel to the worker processes"
        example = "engine.url" if hasattr(connection, "url") or hasattr(connection, "engine") else _EXAMPLE
        faults.append(Fault("connection", by_type(connection), allowed, example))
        return None
    try:
        url = make_url(connection)
    except (ArgumentError, ValueError):  # the message may show the whole text
        faults.append(Fault("connection", "a text that is no URL (not shown)", "a SQLAlchemy URL", _EXAMPLE))
        return None
    try:
        url.get_dialect().import_dbapi()
    except NoSuchModuleError:
        found = f"the database {url.drivername!r}, which SQLAlchemy does not know here"
        faults.append(Fault("connection", found, "a SQLAlchemy URL whose dialect is installed", _EXAMPLE))
        return None
    except ModuleNotFoundError as error:
        found = f"{url.drivername!r}, which needs {error.name}"
        faults.append(Fault("connection", found, "an installed driver", f"pip install {error.name}"))
        return None
    if url.get_backend_name() == "sqlite":
        database = url.database or ""
        if database in ("", ":memory:") or database.startswith("file::memory:") or url.query.get("mode") == "memory":
            allowed = "a database file: one in memory is seen by one process only"
            faults.append(Fault("connection", "a SQLite database in memory", allowed, "'sqlite:///data/sales.db'"))
            return None
        if not database.startswith("file:"):
            url = url.set(database=os.path.abspath(os.path.expanduser(database)))
    return url


def _parameter_faults(query: str, parameters: Mapping[str, Any]) -> Iterator[Fault]:
    from sqlalchemy import text

    names = set(text(query)._bindparams)
    for name in sorted(names - set(parameters)):
        allowed = "a value for it in parameters, or a backslash before the colon where it is no parameter"
        yield Fault("query", f":{name}, which has no value", allowed, f"parameters={{{name!r}: ...}}")
    for name in sorted(set(parameters) - names):
        yield Fault("parameters", repr(name), f"names that stand in the query, with a colon: :{name}")


def _connection_problem(query: Query) -> str | None:
    """Why no connection can be made; in a thread, as drivers wait for minutes where nobody answers."""
    from sqlalchemy import make_url

    if path := missing_database(make_url(query.url)):
        return f"{path} is no file"
    try:
        engine = connectable(query)
    except ReadError as error:
        return str(error)
    problems: list[str] = []

    def connect() -> None:
        try:
            engine.connect().close()
        except Exception as error:
            problems.append(without_secrets(error, query))

    thread = threading.Thread(target=connect, name="prs-connection-check", daemon=True)
    thread.start()
    thread.join(CHECK_SECONDS)
    if thread.is_alive():
        return f"no answer within {CHECK_SECONDS:g} s"
    return problems[0] if problems else None

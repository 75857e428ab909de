"""A SQL query: what a worker process needs to run it, and how its rows are read.

The connection's URL may hold a password. No text that this module makes shows it: not a repr, not
an error (those of drivers are searched for it), and no exception of a driver is kept as a cause.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

from prs_dask.datasets.read_spec import ReadError
from prs_dask.redaction import HIDDEN, redact_text

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import URL, Engine

__all__ = ["INSTALL_SQL", "Query", "connectable", "missing_database", "read_query", "without_secrets"]

INSTALL_SQL = 'pip install "prs-dask[sql]"'
_SHORTEST_SHOWN = 4


class Query(NamedTuple):
    """A query and the database that answers it; its repr shows no secret.

    Parameters
    ----------
    url
        SQLAlchemy's, with the password.
    shown_url
        The same without password and options, for people.
    text
        The query.
    parameters
        Values of its ``:names``.
    dtype
        As for ``pandas.read_sql``.
    """

    url: str
    shown_url: str
    text: str
    parameters: Mapping[str, Any]
    dtype: Any = None

    def __repr__(self) -> str:
        return f"Query({redact_text(' '.join(self.text.split()))!r} on {self.shown_url!r})"

    @property
    def secrets(self) -> list[str]:
        """What must never be shown: the password, and the values of the URL's options."""
        from sqlalchemy import make_url

        return list(_secrets(make_url(self.url)))


def _secrets(url: URL) -> Iterator[str]:
    values = [str(url.password)] if url.password is not None else []
    for one in url.query.values():
        values += [one] if isinstance(one, str) else list(one)
    for value in filter(None, values):
        yield from dict.fromkeys((value, quote(value), quote_plus(value), quote(value, safe="")))


def without_secrets(error: BaseException, query: Query) -> str:
    """What an error says, on one line, without the secrets of the connection."""
    secrets = sorted(query.secrets, key=len, reverse=True)
    original = _of_the_driver(error)
    text = " ".join(str(original).split())
    if any(len(secret) < _SHORTEST_SHOWN and secret in text for secret in secrets):
        return type(original).__name__  # taking so short a text out would tell what it is
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return f"{type(original).__name__}: {redact_text(text)}"


def _of_the_driver(error: BaseException) -> BaseException:
    """The error below those of pandas and SQLAlchemy, which show the query and what it was given."""
    if type(error).__module__.startswith("pandas.") and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "orig", None) or error


def missing_database(url: URL) -> str | None:
    """Path of a SQLite file that does not exist, and that connecting would create."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    path = url.database
    if path.startswith("file:"):
        path = path.removeprefix("file:").partition("?")[0]
    return None if os.path.isfile(path) else path


def connectable(query: Query) -> Engine:
    """SQLAlchemy's engine for the query; keeps no connection.

    Raises
    ------
    ReadError
        SQLAlchemy or the driver is not installed here, or the database is a file that does not exist.
    """
    try:
        from sqlalchemy import create_engine, make_url
        from sqlalchemy.pool import NullPool
    except ModuleNotFoundError as error:
        raise ReadError(f"SQL query: {error.name} is not installed here; {INSTALL_SQL}") from None
    url = make_url(query.url)
    if path := missing_database(url):
        raise ReadError(f"SQL query: {path}: no such file here")
    try:
        return create_engine(url, poolclass=NullPool, hide_parameters=True)
    except ModuleNotFoundError as error:
        raise ReadError(
            f"SQL query: the driver {error.name} of {query.shown_url} is not installed here; pip install {error.name}"
        ) from None


def read_query(query: Query) -> pd.DataFrame:
    """All rows of the query's result, as ``pandas.read_sql`` makes them; whatever the query changes is undone.

    Raises
    ------
    ReadError
        The database cannot be reached, or refuses the query.
    """
    import pandas as pd

    engine = connectable(query)
    from sqlalchemy import text

    try:
        with engine.connect() as connection:
            return pd.read_sql(text(query.text), connection, params=dict(query.parameters), dtype=query.dtype)
    except Exception as error:
        told = f"SQL query on {query.shown_url}: {without_secrets(error, query)}"
    raise ReadError(told)  # outside of the handler: the driver's error, which may hold secrets, is not its context

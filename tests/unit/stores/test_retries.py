"""A store is asked again where that may help."""

import pytest

from prs_dask.stores import AccessRefused, StoreFailed, retries
from prs_dask.stores.retries import TRIES, patiently


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.0)


def failing(times, error):
    calls = []

    def ask():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "answer"

    return ask, calls


def test_transient_faults_are_asked_again():
    ask, calls = failing(TRIES - 1, ConnectionResetError())
    assert patiently(ask, "s3://b/k", None) == "answer"
    assert len(calls) == TRIES


def test_a_store_that_keeps_failing_is_given_up():
    ask, calls = failing(100, TimeoutError())
    with pytest.raises(StoreFailed, match="also when asked again: TimeoutError"):
        patiently(ask, "s3://b/k", None)
    assert len(calls) == TRIES


@pytest.mark.parametrize(
    ("error", "raised"),
    [(FileNotFoundError(), FileNotFoundError), (PermissionError(), AccessRefused), (ValueError(), StoreFailed)],
)
def test_nothing_else_is_asked_again(error, raised):
    ask, calls = failing(100, error)
    with pytest.raises(raised):
        patiently(ask, "s3://b/k", None)
    assert len(calls) == 1


def test_the_clients_own_error_does_not_come_along():
    ask, _ = failing(100, ValueError("https://h/x?sig=secret"))
    with pytest.raises(StoreFailed) as caught:
        patiently(ask, "s3://b/k", None)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__

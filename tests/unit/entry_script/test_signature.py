"""Which signatures of run() are called with one argument, which with two, which are refused."""

from __future__ import annotations

import functools

import pytest

from prs_dask.entry_script.signature import check_callable, takes_context
from prs_dask.errors import EntryScriptError


class Scorer:
    def one(self, mini_batch): ...
    def two(self, mini_batch, context): ...
    @classmethod
    def of_class(cls, mini_batch): ...
    @staticmethod
    def static(mini_batch, context): ...
    def __call__(self, mini_batch, context): ...
    async def later(self, mini_batch): ...


class AsyncScorer:
    async def __call__(self, mini_batch): ...


@functools.wraps(Scorer.static)
def decorated(*args, **kwargs): ...


async def coroutine(mini_batch): ...
async def async_generator(mini_batch):
    yield


def wrapped_one(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): ...

    return wrapper


@pytest.mark.parametrize(
    ("run", "two"),
    [
        (lambda m: ..., False),
        (lambda m, c: ..., True),
        (lambda m, c=None: ..., True),
        (lambda m, *rest: ..., True),
        (lambda *args: ..., True),
        (lambda m, *, debug=False: ..., False),
        (lambda m, **options: ..., False),
        (lambda m, c, extra=1: ..., True),
        (Scorer().one, False),
        (Scorer().two, True),
        (Scorer.of_class, False),
        (Scorer.static, True),
        (Scorer(), True),
        (decorated, True),
        (wrapped_one(lambda m: ...), False),
        (functools.partial(lambda m, c: ..., c=1), False),
        (functools.partial(lambda model, m: ..., "model"), False),
        (functools.partial(Scorer().two), True),
        (len, False),
        (list, False),
    ],
)
def test_two_positionals_get_the_context(run, two):
    check_callable("run", run)
    assert takes_context(run) is two


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (lambda: ..., "without positional arguments"),
        (lambda **options: ..., "without positional arguments"),
        (lambda a, b, c: ..., "needs 3 arguments"),
        (lambda m, *, context: ..., "keyword-only arguments without default (context)"),
        (functools.partial(lambda m: ..., 1), "without positional arguments"),
    ],
)
def test_signatures_that_cannot_be_called_are_refused_with_what_is_allowed(run, found):
    with pytest.raises(EntryScriptError) as caught:
        takes_context(run)
    assert found in str(caught.value)
    assert "run(mini_batch, mini_batch_context)" in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [coroutine, async_generator, Scorer().later, AsyncScorer(), functools.partial(coroutine)],
)
def test_async_functions_are_refused(run):
    with pytest.raises(EntryScriptError, match="async def run"):
        check_callable("run", run)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(EntryScriptError, match="init: found an object of type int"):
        check_callable("init", 3)

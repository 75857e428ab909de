"""Does ``run`` take one positional or two, and can it be called at all?

``inspect`` takes 15 ms to import: plain functions and methods, nearly all there is, are judged by
their code object, everything else by ``inspect.signature``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from prs_dask.errors import EntryScriptError

__all__ = ["check_callable", "takes_context"]

_VARARGS, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x80, 0x200
_MANY = 99


def check_callable(name: str, function: Any) -> None:
    """Refuse what cannot be called, or only with ``await``.

    Raises
    ------
    EntryScriptError
        Saying what was found.
    """
    if not callable(function):
        raise EntryScriptError(f"{name}: found an object of type {type(function).__name__}; allowed: a function")
    code = getattr(_innermost(function), "__code__", None)
    if getattr(code, "co_flags", 0) & (_COROUTINE | _ASYNC_GENERATOR):
        raise EntryScriptError(
            f"{name}: found `async def {name}`; allowed: a plain function; "
            f"try: `def {name}` with asyncio.run(...) inside"
        )


def takes_context(run: Callable[..., Any]) -> bool:
    """Whether ``run`` is called with a ``mini_batch_context``: its signature takes two positionals.

    Raises
    ------
    EntryScriptError
        It can be called neither with one argument nor with two.
    """
    fewest, most, keywords = _positionals(run)
    if keywords or fewest > 2 or most < 1:
        raise EntryScriptError(
            f"run: found {_wanted(fewest, most, keywords)}; "
            "allowed: run(mini_batch) or run(mini_batch, mini_batch_context)"
        )
    return most >= 2


def _wanted(fewest: int, most: int, keywords: tuple[str, ...]) -> str:
    if keywords:
        return f"keyword-only arguments without default ({', '.join(keywords)})"
    return "a function without positional arguments" if most < 1 else f"a function that needs {fewest} arguments"


def _innermost(function: Any) -> Any:
    """What is really called: behind methods, callable objects and functools.partial."""
    for _ in range(10):
        if isinstance(function, FunctionType):
            break
        if isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "func") and hasattr(function, "keywords"):  # functools.partial
            function = function.func
        elif callable(function) and isinstance(vars(type(function)).get("__call__"), FunctionType):
            function = vars(type(function))["__call__"]
        else:
            break
    return function


def _positionals(run: Any) -> tuple[int, int, tuple[str, ...]]:
    """Fewest and most positional arguments, and the keyword-only ones that must be given."""
    method = isinstance(run, MethodType)
    function = run.__func__ if method else run
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        code = function.__code__
        most = code.co_argcount - method
        fewest = most - len(function.__defaults__ or ())
        names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        keywords = tuple(name for name in names if name not in (function.__kwdefaults__ or {}))
        return max(fewest, 0), _MANY if code.co_flags & _VARARGS else most, keywords
    import inspect

    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return 1, 1, ()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    missing = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
    most = _MANY if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    return sum(p.default is p.empty for p in positional), most, missing

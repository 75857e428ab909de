"""Names of options that a store's class would not know: told at once, for what becomes of them differs.

s3fs hands them to botocore's session, which raises a TypeError at the first request; adlfs drops them silently, so that
a misspelt key looks like none. Classes that pass options on to something else, as HTTP's does, are not judged.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from prs_dask.errors import Fault
from prs_dask.stores.failures import ways_in
from prs_dask.stores.urls import AZURE

__all__ = ["unknown_options"]

_OF_EVERY_CLASS = frozenset(
    {
        "asynchronous",
        "batch_size",
        "listings_expiry_time",
        "loop",
        "max_paths",
        "skip_instance_cache",
        "use_listings_cache",
    }
)


def unknown_options(kind: type[Any], protocol: str, options: Iterable[str]) -> list[Fault]:
    """A fault for each name that ``kind``, fsspec's class for the protocol, does not take; values are not looked at."""
    if protocol in ("s3", "s3a"):
        from aiobotocore.session import AioSession

        known = {*_parameters(kind), *_parameters(AioSession)}
    elif protocol in AZURE:
        known = set(_parameters(kind))
    else:
        return []
    known |= _OF_EVERY_CLASS
    return [
        Fault(
            "storage_options",
            f"{name!r}, which {kind.__name__} does not take",
            f"{ways_in(f'{protocol}://')}; or another option of that class",
            next(iter(difflib.get_close_matches(name, sorted(known), 1)), ""),
        )
        for name in sorted(set(options) - known)
    ]


def _parameters(kind: type[Any]) -> Iterator[str]:
    """Of the constructors of a class and those that it inherits."""
    for one in kind.__mro__:
        if "__init__" in vars(one) and one is not object:
            for name, parameter in inspect.signature(vars(one)["__init__"]).parameters.items():
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and name != "self":
                    yield name

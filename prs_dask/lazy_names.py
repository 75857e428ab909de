"""Names of a package that are loaded on first use (PEP 562).

A worker process imports these packages too, and is to be ready before Dask, pandas or pyarrow could have been imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["loaded_on_first_use"]


def loaded_on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package calls ``__getattr__``.

    Parameters
    ----------
    package
        Its ``__name__``.
    homes
        For each name the module below the package that has it.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load

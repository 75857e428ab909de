"""StorageOptions: how to get into a store, without ever showing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prs_dask.errors import Fault, SettingsError

__all__ = ["StorageOptions"]


class StorageOptions(Mapping[str, Any]):
    """Options for a store's fsspec class. No text made of them shows a value; only what asks for one gets it.

    They travel in pickles between the processes of a step run, and are never written to a disk.

    Parameters
    ----------
    values
        By name, as fsspec's class for the store takes them (``key``, ``account_key``, ...).

    Raises
    ------
    SettingsError
        It is no mapping of names to values.

    Examples
    --------
    >>> StorageOptions({"key": "AKIA", "secret": "abc"})
    StorageOptions(key=***, secret=***)
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        given = {} if values is None else values
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            found = f"a {type(given).__name__}" if not isinstance(given, Mapping) else "names that are no str"
            allowed = "a mapping from the names of the store's options to values"
            raise SettingsError([Fault("storage_options", found, allowed, "{'anon': True}")])
        self._values = dict(given)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"StorageOptions({', '.join(f'{name}=***' for name in sorted(self._values))})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StorageOptions):
            return self._values == other._values
        return self._values == other if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._values))

    def __reduce__(self) -> tuple[type[StorageOptions], tuple[dict[str, Any]]]:
        return StorageOptions, (self._values,)

"""Partition keys in paths: ``partition_format``, and hive folders such as ``Store=2/Brand=a%2Fb/``.

Pure text: a local path and a URL are the same here. What counts is the part of a path below the
dataset's root: the folder that was given; of a pattern, the folder before its first wildcard. A
file that was given by name counts with its whole path.

``partition_format`` describes the end of that part, from a folder or the file's name on:

- ``{name}`` is a key: at least one character, no ``/``. Where what follows it leaves a choice it is as
  short as possible: ``{a}-{b}.csv`` takes ``x-y-z.csv`` for a = ``x``, b = ``y-z``.
- ``{name:yyyy/MM/dd/HH/mm/ss}`` is a date and time, in digits: of these six parts as many as there are, from
  ``yyyy`` on, each once, in any order, with anything but letters between them (``T`` is allowed).
- Everything else is literal, also what would be a wildcard elsewhere; ``{{`` and ``}}`` are braces.
- It may begin with ``/``, which changes nothing, and with literal folders.

Hive folders are all folders with a ``=`` in their names. Key and value are decoded (``%2F`` is ``/``);
``__HIVE_DEFAULT_PARTITION__`` is a missing value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from prs_dask.datasets.key_types import KeyText
from prs_dask.errors import Fault, SettingsError

__all__ = ["MISSING", "KeysNotFound", "PathFormat", "TextsOf", "check_format", "hive_pairs", "outermost", "path_below"]

MISSING = "__HIVE_DEFAULT_PARTITION__"

TextsOf: TypeAlias = Callable[[str], tuple[KeyText, ...]]

_TOKEN = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}|([{}])|([^{}]+)")
_DATE_TOKEN = re.compile(r"(yyyy|MM|dd|HH|mm|ss)|([A-SU-Za-z])|(T|[^A-Za-z]+)")
_DATE_PARTS = ("yyyy", "MM", "dd", "HH", "mm", "ss")
_EXAMPLE = '"{user}/{season}/{genres}.wav"'


class KeysNotFound(ValueError):
    """A path does not have the keys that it should; says which path, and why."""

    def __init__(self, path: str, found: str, allowed: str) -> None:
        self.path, self.found, self.allowed = path, found, allowed
        super().__init__(f"{path}: found {found}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[KeysNotFound], tuple[str, str, str]]:
        return type(self), (self.path, self.found, self.allowed)


class PathFormat(NamedTuple):
    """Which keys the paths of a dataset hold, and where.

    Parameters
    ----------
    keys
        Their names, in the order of the path.
    roots
        Folders below which paths count, each with a ``/`` at its end, none within another.
    template
        The ``partition_format``; None: hive folders.
    types
        Of the keys, as far as they are decided; see ``key_types``.
    dtypes
        pandas dtypes of the keys' columns; empty: what suits their types.
    """

    keys: tuple[str, ...]
    roots: tuple[str, ...]
    template: str | None = None
    types: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()

    def texts_of(self, required: Collection[str] = ()) -> TextsOf:
        """A function from a path to the texts of its keys, in the order of ``keys``; raises KeysNotFound.

        A path lacks its keys if it does not fit the template; with hive folders, if it has another key, or
        none of the ``required`` ones: others that it lacks are missing values.
        """
        roots = frozenset(self.roots)
        if self.template is None:
            # The files of a folder come one after the other: its name is looked at once.
            in_folder = lru_cache(maxsize=1)(lambda folder: self._in_folders(folder, roots, required))
            return lambda path: in_folder(path[: path.rfind("/") + 1])
        pattern, make = _compiled(self.template)

        def in_format(path: str) -> tuple[KeyText, ...]:
            below = path_below(path, roots)
            found = pattern.search(below)
            if found is None:
                raise KeysNotFound(path, f"{below!r} below the dataset's folder", f"paths that end in {self.template}")
            try:
                return tuple(value(found) for value in make)
            except ValueError as error:
                raise KeysNotFound(path, f"what is no date: {error}", f"paths that end in {self.template}") from None

        return in_format

    def _in_folders(self, folder: str, roots: frozenset[str], required: Collection[str]) -> tuple[KeyText, ...]:
        found = hive_pairs(folder, path_below(folder, roots))
        if more := found.keys() - self.keys:
            allowed = f"{', '.join(self.keys) or 'none'}, as the first files have"
            raise KeysNotFound(folder, f"the key {', '.join(sorted(more))}", allowed)
        if lacking := [key for key in required if key not in found]:
            raise KeysNotFound(folder, f"no folder {lacking[0]}=...", "one in every path")
        return tuple(found.get(key) for key in self.keys)


def path_below(path: str, roots: frozenset[str]) -> str:
    """The part of a path that may hold keys: below the outermost of ``roots``, or all of it."""
    end = path.find("/")
    while end >= 0:
        if path[: end + 1] in roots:
            return path[end + 1 :]
        end = path.find("/", end + 1)
    return path


def outermost(roots: Iterable[str]) -> tuple[str, ...]:
    """``roots`` with a ``/`` at the end of each, without those that lie within another; sorted."""
    kept: list[str] = []
    for root in sorted({root if root.endswith("/") else root + "/" for root in roots}):
        if not kept or not root.startswith(kept[-1]):
            kept.append(root)
    return tuple(kept)


def hive_pairs(path: str, below: str) -> dict[str, str | None]:
    """Keys and texts of the folders ``key=value`` in ``below``, in order; KeysNotFound where one comes twice."""
    pairs: dict[str, str | None] = {}
    for folder in below.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if not equals or not name:
            continue
        key = unquote(name, errors="surrogateescape")
        if key in pairs:
            raise KeysNotFound(path, f"the key {key} twice", "each key once")
        pairs[key] = None if value == MISSING else unquote(value, errors="surrogateescape")
    return pairs


def check_format(template: str) -> tuple[str, ...]:
    """The keys of a ``partition_format``, in its order.

    Raises
    ------
    SettingsError
        It is no text, empty, without a key, with a key twice, with two keys side by side, with a date that
        cannot be read, with a brace that is left over, or ends with ``/``.
    """
    faults = []
    if not isinstance(template, str) or not template.strip("/"):
        faults.append(_fault(repr(template), "a format with at least one key"))
    else:
        faults += list(_faults(template))
    if faults:
        raise SettingsError(faults)
    return tuple(_split_key(inner)[0] for inner in _keys(template))


def _fault(found: str, allowed: str, try_this: str = "") -> Fault:
    return Fault("partition_format", found, allowed, try_this or f"partition_format={_EXAMPLE}")


def _keys(template: str) -> list[str]:
    return [token[2] for token in _TOKEN.finditer(template) if token[2] is not None]


def _split_key(inner: str) -> tuple[str, str | None]:
    name, colon, date_format = inner.partition(":")
    return name, date_format if colon else None


def _faults(template: str) -> Iterator[Fault]:
    if any(token[3] for token in _TOKEN.finditer(template)):
        yield _fault(f"{template!r} with a brace that has no partner", "{name} for a key, {{ and }} for braces")
    keys = [_split_key(inner) for inner in _keys(template)]
    names = [name for name, _ in keys]
    if not names:
        yield _fault(f"{template!r}, which has no key", "at least one key, as {name}")
    if not all(name.strip() for name in names):
        yield _fault(f"{template!r} with a key that has no name", "{name}")
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield _fault(f"the key {name!r} twice in {template!r}", "each key once", "another name for one of the two")
    tokens = list(_TOKEN.finditer(template))
    for one, other in pairwise(tokens):
        if one[2] and other[2] and ":" not in one[2] + other[2]:
            found = f"nothing between {one[0]} and {other[0]} in {template!r}"
            yield _fault(found, "keys with something between them", f"{one[0]}-{other[0]}")
    for name, date_format in keys:
        if date_format is not None:
            yield from _date_faults(name, date_format)
    if template.endswith("/"):
        yield _fault(
            f"{template!r}, which ends with '/'", "a format up to the end of a file's path", f"{template}data.csv"
        )


def _date_faults(name: str, date_format: str) -> Iterator[Fault]:
    tokens = list(_DATE_TOKEN.finditer(date_format))
    parts = [token[1] for token in tokens if token[1]]
    letters = sorted({token[2] for token in tokens if token[2]})
    in_order = [part for part in _DATE_PARTS if part in parts]
    if letters or len(set(parts)) < len(parts) or tuple(in_order) != _DATE_PARTS[: len(in_order)] or not parts:
        yield _fault(
            f"the date format {date_format!r} of {name!r}",
            "yyyy, MM, dd, HH, mm, ss: from yyyy on as many as there are, each once, no other letters between them",
            f"{{{name}:yyyy/MM/dd}}",
        )


def _compiled(template: str) -> tuple[re.Pattern[str], list[Callable[[re.Match[str]], KeyText]]]:
    """What finds the format at the end of a path, and for each key what takes its value from the match."""
    pattern, values, group = "", [], 1
    for token in _TOKEN.finditer(template.removeprefix("/")):
        if token[1]:
            pattern += re.escape(token[1][0])
        elif token[2] is None:
            pattern += re.escape(token[4])
        elif (date_format := _split_key(token[2])[1]) is None:
            pattern += "([^/]+?)"
            values.append(_text_at(group))
            group += 1
        else:
            parts = []
            for date_token in _DATE_TOKEN.finditer(date_format):
                pattern += f"([0-9]{{{len(date_token[1])}}})" if date_token[1] else re.escape(date_token[0])
                parts += [date_token[1]] if date_token[1] else []
            values.append(_date_at(group, tuple(parts)))
            group += len(parts)
    # The number of slashes is fixed, so there is one place at most where the match can begin.
    return re.compile(rf"(?:\A|/){pattern}\Z"), values


def _text_at(group: int) -> Callable[[re.Match[str]], KeyText]:
    return lambda found: found[group]


def _date_at(first: int, parts: tuple[str, ...]) -> Callable[[re.Match[str]], KeyText]:
    places = [first + parts.index(part) for part in _DATE_PARTS if part in parts]

    def date(found: re.Match[str]) -> datetime:
        given = [int(found[place]) for place in places]
        year, month, day, hour, minute, second = given + [0, 1, 1, 0, 0, 0][len(given) :]
        return datetime(year, month, day, hour, minute, second)

    return date

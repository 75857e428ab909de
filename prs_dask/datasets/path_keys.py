"""The partition keys of a dataset's paths: which there are, and the files of each combination.

``find_path_format`` looks at a listing's head; ``with_keys`` sees that every path has its keys while
the listing streams; ``group_files`` reads a listing to its end and groups it. All of it in the driver.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.datasets.glob_pattern import is_pattern
from prs_dask.datasets.key_types import Form, KeyText, form, key_type, type_of_forms, typed
from prs_dask.datasets.path_format import KeysNotFound, PathFormat, check_format, hive_pairs, outermost, path_below
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.store_listing import ListedPath, listed_version
from prs_dask.datasets.text_file import open_stream
from prs_dask.errors import Fault, InputError

if TYPE_CHECKING:
    from prs_dask.stores import StorageOptions

__all__ = ["KEYS_FILE", "Group", "column_faults", "find_path_format", "group_files", "key_faults", "with_keys"]

KEYS_FILE = "_partition_keys.json"
"""Beside hive folders: the types of their keys, where the texts do not tell them."""

_HEAD = 1000
_SEPARATOR = b"\0\0"
_VERSION = "\0"


class Group(NamedTuple):
    """The files of one combination of keys.

    Parameters
    ----------
    values
        Typed, in the order of the keys that were grouped by.
    paths
        In the order of the listing.
    types
        Of all keys, in the order of ``PathFormat.keys``.
    """

    values: tuple[Any, ...]
    paths: tuple[str, ...]
    types: tuple[str, ...]


def find_path_format(
    paths: Sequence[str],
    files: Iterable[str],
    template: str | None,
    storage: StorageOptions | None = None,
    *,
    hive: bool,
) -> PathFormat | None:
    """The keys of a dataset's paths, typed by those of the first 1000 files; None where there are none.

    Parameters
    ----------
    paths
        As the dataset was given them.
    files
        Its listing; not read beyond its head.
    template
        ``partition_format``; None: none was given.
    storage
        Options of the store, for ``KEYS_FILE``.
    hive
        Whether to look for hive folders where there is no template.

    Raises
    ------
    InputError
        A path of the head does not have the keys that it should.
    """
    if template is None and not hive:
        return None
    roots = outermost(map(_root, paths))
    head = list(islice(files, _HEAD))
    if template is not None:
        keys = check_format(template)
    else:
        below, found = frozenset(roots), dict[str, None]()
        for path in head:
            found |= dict.fromkeys(_or_refused(path, lambda path: hive_pairs(path, path_below(path, below)), None))
        keys = tuple(found)
        if not keys:
            return None
    path_format = PathFormat(keys, roots, template)
    texts_of = path_format.texts_of()
    rows = [_or_refused(path, texts_of, template) for path in head]
    types = tuple(key_type(column) for column in zip(*rows, strict=True)) or ("str",) * len(keys)
    return _as_written(path_format._replace(types=types), paths, storage)


def _root(path: str) -> str:
    """The folder below which a given path's files count."""
    if not is_pattern(path) or ("://" not in path and os.path.lexists(path)):
        return path
    fixed: list[str] = []
    for part in path.split("/"):
        if is_pattern(part):
            break
        fixed.append(part)
    return "/".join(fixed) + "/"


def _as_written(path_format: PathFormat, paths: Sequence[str], storage: StorageOptions | None) -> PathFormat:
    """The same with the types that ``partition_by`` wrote down, if it made this dataset's only folder."""
    if path_format.template is not None or len(paths) != 1:
        return path_format
    try:
        with open_stream(f"{paths[0].rstrip('/')}/{KEYS_FILE}", storage) as file:
            written = {key["name"]: key for key in json.load(file)["partition_keys"]}
            types = tuple(str(written[name]["type"]) for name in path_format.keys)
            return path_format._replace(types=types, dtypes=tuple(str(written[n]["dtype"]) for n in path_format.keys))
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError, KeyError, TypeError):
        return path_format  # no such file (of a store, one that may not even be asked for), or not ours
    except OSError as error:
        raise InputError([Fault("path", f"{paths[0]}/{KEYS_FILE}: {error}", "a file that can be read")]) from None


def _or_refused(path: str, look: Callable[[str], Any], template: str | None) -> Any:
    try:
        return look(path)
    except KeysNotFound as error:
        raise _refusal(path, error, template) from None


def _refusal(path: str, error: KeysNotFound, template: str | None) -> InputError:
    found = f"{path!r} with {error.found}"
    if template is None:
        return InputError([Fault("partition_keys", found, error.allowed, "the same folders key=value for all files")])
    return InputError([Fault("partition_format", found, error.allowed, "another format, or a path without this file")])


def key_faults(
    keys: Sequence[str], path_format: PathFormat | None, paths: Sequence[str], *, table: bool
) -> list[Fault]:
    """What is wrong with grouping the files of these paths by ``keys``; nothing where there are none."""
    if not keys:
        return []
    write = f"TabularDataset.partition_by({list(keys)!r}, target) for columns of the table" if table else ""
    if not paths:
        found = f"{list(keys)!r}, but these rows have no paths that could tell keys"
        return [Fault("partition_keys", found, "datasets of files", write)]
    shown = f"{paths[0]!r}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if path_format is None:
        found = f"{list(keys)!r}, but the paths in {shown} tell no keys"
        allowed = "keys of partition_format, or of folders such as Store=2/"
        return [
            Fault("partition_keys", found, allowed, f'partition_format="{{{keys[0]}}}/..."{write and ", or "}{write}')
        ]
    known = ", ".join(path_format.keys)
    return [
        Fault("partition_keys", f"{key!r}, which the paths in {shown} do not tell", known, write)
        for key in keys
        if key not in path_format.keys
    ]


def column_faults(spec: ReadSpec, path_format: PathFormat) -> list[Fault]:
    """A fault for each key that has the name of another column, as far as those are known from the files' head."""
    columns = {*(name for name, _ in spec.column_types), *(spec.names or ()), *(["Path"] if spec.include_path else [])}
    name = "partition_keys" if path_format.template is None else "partition_format"
    allowed = "keys with other names than the columns: both would be columns of the table"
    return [
        Fault(name, f"the key {key!r}, which is a column of the table without it", allowed)
        for key in path_format.keys
        if key in columns
    ]


def with_keys(files: Iterable[str], path_format: PathFormat | None) -> Iterator[str]:
    """The files, each seen to have its keys; InputError for the first that does not."""
    if path_format is None:
        yield from files
        return
    texts_of = path_format.texts_of()
    for path in files:
        try:
            texts_of(path)
        except KeysNotFound as error:
            raise _refusal(path, error, path_format.template) from None
        yield path


def group_files(
    files: Iterable[str], path_format: PathFormat, keys: Sequence[str], types_before: Sequence[str | None] = ()
) -> Iterator[Group]:
    """The files of each combination of ``keys``, in the order of the first file of each.

    The listing is read to its end before the first group comes. Meanwhile the paths, and the versions
    that stores have told, are kept as bytes, one buffer for each group.

    Parameters
    ----------
    types_before
        Of all keys, as they were decided over a listing of which some files may be gone, None where that is not known:
        those files count too. Empty: there was none.

    Raises
    ------
    InputError
        A path does not have all keys.
    """
    texts_of = path_format.texts_of(keys)
    places = [path_format.keys.index(key) for key in keys]
    forms: list[set[Form]] = [set() for _ in path_format.keys]
    groups: dict[tuple[KeyText, ...], bytearray] = {}
    before: tuple[KeyText, ...] | None = None
    paths = bytearray()
    for path in files:
        try:
            texts = texts_of(path)
        except KeysNotFound as error:
            raise _refusal(path, error, path_format.template) from None
        if texts is not before:
            before = texts
            for text, known in zip(texts, forms, strict=True):
                known.add(form(text))
            combination = tuple([texts[place] for place in places])
            found = groups.get(combination)
            paths = groups[combination] = bytearray() if found is None else found
        version = listed_version(path)
        line = path if not version else f"{path}{_VERSION}{version}"
        paths += line.encode("utf-8", "surrogatepass") + _SEPARATOR
    types = path_format.types
    if not path_format.dtypes:
        types = tuple(map(type_of_forms, forms, types_before or [None] * len(forms)))
    yield from _typed_groups(groups, types, places)


def _typed_groups(
    groups: dict[tuple[KeyText, ...], bytearray], types: tuple[str, ...], places: Sequence[int]
) -> Iterator[Group]:
    """Groups as they are handed out; those of equal values (``1`` and ``1.0`` of a float) are one."""
    combinations: dict[tuple[Any, ...], list[tuple[KeyText, ...]]] = {}
    for texts in groups:
        values = tuple(typed(text, types[place]) for text, place in zip(texts, places, strict=True))
        combinations.setdefault(values, []).append(texts)
    for values, same in combinations.items():
        buffers = b"".join(groups.pop(texts) for texts in same)  # the memory of a group ends with it
        lines = buffers[: -len(_SEPARATOR)].split(_SEPARATOR)
        yield Group(values, tuple([_listed(line.decode("utf-8", "surrogatepass")) for line in lines]), types)


def _listed(line: str) -> str:
    path, separator, version = line.partition(_VERSION)
    return ListedPath.with_version(path, version) if separator else path

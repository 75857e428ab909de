"""What every dataset can do, whatever its items are.

A dataset is an immutable value: it says where data lies and how it is to be read, and holds
none of it. ``as_named_input``, ``as_mount`` and ``as_download`` give changed copies.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, Literal, Self, TypeAlias

from prs_dask.datasets.path_format import PathFormat, check_format
from prs_dask.datasets.path_keys import Group, find_path_format, group_files, key_faults
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.store_listing import check_inputs, list_inputs
from prs_dask.errors import Fault, InputError, SettingsError
from prs_dask.mini_batches import MiniBatch
from prs_dask.quantities import parse_mini_batch_size
from prs_dask.stores import StorageOptions, is_url, separated, without_credentials

__all__ = ["Dataset", "PathLike", "Paths", "absolute_paths"]

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Sequence[PathLike]


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """Base of FileDataset and TabularDataset; made by their ``from_...`` methods.

    Parameters
    ----------
    paths
        Absolute paths and URLs: files, folders or glob patterns, as the user gave them, in that order. Credentials
        in URLs become ``storage_options``.
    include_hidden
        Whether entries of folders that start with ``.`` or ``_`` count.
    mode
        How files reach ``run()``: ``"download"``, ``"mount"`` (the same), ``"direct"``, or None for the
        default. Local files are always used where they lie.
    storage_options
        For the store; never shown.
    partition_format
        Where the paths tell keys; None: only hive folders may.
    group_by
        The keys of which each combination is one mini-batch; empty: ``mini_batch_size`` decides.
    name
        Given by ``as_named_input``; None otherwise.
    path_on_compute
        Where ``as_mount`` or ``as_download`` asked for the data on the node; None otherwise.
    left_out
        Files that are no items: the ``MLTable`` file of an MLTable folder.
    earlier
        What `reader` found when the step run began that is resumed, see `read_as`; None otherwise.
    templates
        Options as a step file has them, with ``${env:NAME}`` in place of secrets, where it has.
    """

    kind: ClassVar[Literal["file", "tabular"]]
    item_word: ClassVar[str]
    default_mini_batch_size: ClassVar[int]
    finds_hive_folders: ClassVar[bool] = False

    paths: tuple[str, ...]
    include_hidden: bool = False
    mode: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    partition_format: str | None = None
    group_by: tuple[str, ...] = ()
    name: str | None = None
    path_on_compute: str | None = None
    left_out: frozenset[str] = field(default=frozenset(), repr=False)
    earlier: ReadSpec | None = field(default=None, repr=False, compare=False)
    templates: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        paths, options = separated(self.paths, self.storage_options)
        object.__setattr__(self, "paths", paths)
        object.__setattr__(self, "storage_options", options)
        if self.partition_format is not None:
            check_format(self.partition_format)

    @property
    def storage(self) -> StorageOptions | None:
        """``storage_options`` as what they are."""
        options = self.storage_options
        return options if options is None or isinstance(options, StorageOptions) else StorageOptions(options)

    @property
    def stores(self) -> tuple[str, ...]:
        """A URL in each store that ``paths`` lie in, without what follows the first name (bucket, container, host)."""
        return tuple(sorted({"/".join(path.split("/", 3)[:3]) for path in self.paths if is_url(path)}))

    def as_named_input(self, name: str) -> Self:
        """A copy with a name, by which the entry script can tell inputs apart."""
        return replace(self, name=name)

    def as_mount(self, path: str | None = None) -> Self:
        """A copy whose files appear under ``path`` on the node; the same as ``as_download``."""
        return replace(self, mode="mount", path_on_compute=path)

    def as_download(self, path: str | None = None) -> Self:
        """A copy whose files are brought to ``path`` on the node, or to a place of the engine's choice."""
        return replace(self, mode="download", path_on_compute=path)

    def grouped_by(self, partition_keys: Sequence[str]) -> Self:
        """A copy of which each occurring combination of these keys is one mini-batch, over files and folders.

        ``ParallelRunConfig.partition_keys`` does this for the inputs of a step.

        Parameters
        ----------
        partition_keys
            Some or all of ``self.partition_keys``; empty: none. Whether the paths have them is seen by ``check()``.

        Raises
        ------
        InputError
            The dataset has no paths: its rows come from a query or from memory.
        """
        if partition_keys and not self.paths:
            raise InputError(key_faults(partition_keys, None, self.paths, table=self.kind == "tabular"))
        return replace(self, group_by=tuple(partition_keys))

    def read_as(self, reader: ReadSpec) -> Self:
        """A copy that goes by what a reader has found before, where today's files may tell other things.

        That is: the keys in the paths, and which file has the header. (Names and types of columns are the reader's
        own affair.)
        """
        return replace(self, earlier=reader)

    @property
    def partition_keys(self) -> tuple[str, ...]:
        """The keys that the files' paths tell, in the order of the path; looks at the first 1000 files.

        Those of ``partition_format``, or where there is none those of hive folders (``Store=2/``).

        Raises
        ------
        InputError
            A path is missing, or does not fit ``partition_format``.
        """
        found = self._path_format(hive=True)
        return found.keys if found else ()

    def _path_format(self, *, hive: bool) -> PathFormat | None:
        return find_path_format(self.paths, self.files(), self.partition_format, self.storage, hive=hive)

    def keys_in_paths(self) -> PathFormat | None:
        """The keys that mini-batches and tables of this dataset have; InputError where ``group_by`` has others."""
        if self.earlier is not None and self.earlier.path_format is not None:
            return self.earlier.path_format
        found = self._path_format(hive=bool(self.group_by) or self.finds_hive_folders)
        if faults := key_faults(self.group_by, found, self.paths, table=self.kind == "tabular"):
            raise InputError(faults)
        return found

    def groups(self) -> Iterator[Group]:
        """The files of each combination of ``group_by``, in the order of the first of each; lists them all first."""
        found = self.keys_in_paths()
        assert found is not None  # noqa: S101 - keys_in_paths has seen to it
        return group_files(self.files(), found, self.group_by)

    @property
    def secrets(self) -> list[Any]:
        """Values that no log may show, by name where they have one."""
        return [dict(self.storage_options or {})]

    def files(self) -> Iterator[str]:
        """The dataset's files, lazily.

        Of a local folder its files, sorted by their bytes, then its folders in turn; of a store in the order of whole
        paths.
        """
        found = list_inputs(self.paths, self.include_hidden, self.storage)
        return (path for path in found if path not in self.left_out) if self.left_out else found

    def check(self) -> None:
        """See that there is something to read; stops at the first file of each path.

        Raises
        ------
        InputError
            A path is missing, matches nothing or cannot be read (names every such path), its first files do
            not fit ``partition_format``, or the paths tell no such keys as ``group_by``.
        """
        check_inputs(self.paths, self.include_hidden, self.storage)
        self.keys_in_paths()

    @abstractmethod
    def reader(self) -> ReadSpec:
        """What a worker process needs to read any mini-batch of this dataset: small, picklable."""

    @abstractmethod
    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        """Descriptors of all mini-batches, lazily, the same at every call as long as the files are.

        Parameters
        ----------
        mini_batch_size
            Files (FileDataset) or stored bytes (TabularDataset), at least 1. Without effect with ``group_by``.
        input_index
            The dataset's place among the step's inputs.

        Raises
        ------
        InputError
            While iterating: a path is gone, or a file cannot be cut safely as told.
        """

    @abstractmethod
    def cut(self, files: Iterable[str], mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        """Descriptors of the mini-batches of these files, which come behind others of the dataset, lazily.

        Parameters
        ----------
        files
            As `files` lists them.
        mini_batch_size, input_index
            As in `mini_batches`.
        """

    @abstractmethod
    def cut_groups(self, groups: Iterable[Group], input_index: int = 0) -> Iterator[MiniBatch]:
        """Descriptors of the mini-batches of these combinations of ``group_by``, lazily."""

    def plan(self, mini_batch_size: int | str | None = None, n: int | None = None) -> list[MiniBatch]:
        """The first ``n`` mini-batches (None: all), without reading or running any.

        Parameters
        ----------
        mini_batch_size
            As in ``ParallelRunConfig``: files of a FileDataset, bytes of a TabularDataset (``"10MB"``); None: the
            default.
        n
            How many at most; None: all.
        """
        return list(islice(self.mini_batches(self.size_of(mini_batch_size)), n))

    def size_of(self, mini_batch_size: int | str | None) -> int:
        """A size as a number of files or bytes; None: the default.

        Raises
        ------
        SettingsError
            It is none, or has a unit though items are files.
        """
        try:
            size = parse_mini_batch_size(self.default_mini_batch_size if mini_batch_size is None else mini_batch_size)
        except ValueError:
            allowed = "a whole number of at least 1, or a text such as '1024', '512KB', '10MB'"
            example = str(self.default_mini_batch_size)
            raise SettingsError([Fault("mini_batch_size", repr(mini_batch_size), allowed, example)]) from None
        if size.has_unit and self.kind == "file":
            allowed = "a number of files without a unit, because this is a FileDataset"
            raise SettingsError([Fault("mini_batch_size", repr(mini_batch_size), allowed, "10")])
        return size.number


def absolute_paths(path: Paths) -> tuple[str, ...]:
    """The paths a user gave, made absolute so that they mean the same in every process.

    Raises
    ------
    InputError
        Nothing was given, or something that is no path.
    """
    given: list[Any] = list(path) if isinstance(path, (list, tuple)) else [path]
    faults, found = [], []
    for one in given:
        text = os.fspath(one) if isinstance(one, os.PathLike) else one
        if not isinstance(text, str) or not text:
            faults.append(Fault("path", repr(text), "a str or os.PathLike, or a list of them", "'data/'"))
        elif os.path.lexists(text):
            found.append(_absolute(text))
        elif text.lower().startswith(("file://", "local://")):
            found.append(_absolute(text.partition("://")[2]))
        elif is_url(text):
            try:
                without_credentials(text)
                found.append(text)
            except InputError as error:
                faults += error.faults
        else:
            found.append(_absolute(os.path.expanduser(text)))
    if not given:
        faults.append(Fault("path", "an empty list", "at least one file, folder or pattern", "'data/'"))
    if faults:
        raise InputError(faults)
    return tuple(found)


def _absolute(path: str) -> str:
    if os.pardir in path.split(os.sep):  # behind a link, x/.. is not the folder x lies in
        return os.path.join(os.getcwd(), path)
    return os.path.abspath(path)

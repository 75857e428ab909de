"""FileDataset: items are whole files; ``run()`` receives their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prs_dask.datasets.cutting import cut_file_groups, cut_files
from prs_dask.datasets.dataset import Dataset, PathLike, Paths, absolute_paths
from prs_dask.datasets.path_keys import Group, with_keys
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.errors import Fault, SettingsError
from prs_dask.mini_batches import MiniBatch
from prs_dask.stores import is_url

if TYPE_CHECKING:
    from dask.bag import Bag

__all__ = ["FileDataset"]

_MODES = ("download", "mount", "direct")


@dataclass(frozen=True, kw_only=True)
class FileDataset(Dataset):
    """Files as items: a mini-batch is a list of paths.

    Make one with ``FileDataset.from_files``.
    """

    kind: ClassVar[Literal["file", "tabular"]] = "file"
    item_word: ClassVar[str] = "file"
    default_mini_batch_size: ClassVar[int] = 10

    @classmethod
    def from_files(
        cls,
        path: Paths,
        *,
        partition_format: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        mode: str | None = None,
        include_hidden: bool = False,
    ) -> FileDataset:
        """A dataset of the files that one or more paths mean.

        Parameters
        ----------
        path
            A file, a folder (read recursively) or a glob pattern (``*``, ``?``, ``[...]``, ``**``), local or as a URL
            of a store (``s3://``, ``abfs://``, ``gs://``, ``https://``, ...), or a list of them. Something that exists
            under the very name is taken literally. Files come in the order of the list; a local folder's sorted
            by the bytes of their names, then its folders'; a store's in the order of whole paths. A path given
            twice is read twice. Credentials in a URL become ``storage_options``.
        partition_format
            Where the files' paths below ``path`` tell partition keys, as ``"{user}/{season}/{genres}.wav"`` or
            ``"{day:yyyy/MM/dd}/scan.png"``; every path must fit. It describes the end of a path, from a folder
            or the file's name on; all but the keys is literal. Hive folders (``Store=2/``) need none.
        storage_options
            Options of the store, as fsspec's class for it takes them; never shown or written. Local files need none.
        mode
            How files of a store reach ``run()``: ``"download"`` (the default) and ``"mount"`` as local paths,
            ``"direct"`` as URLs. Local files are always used where they lie. A file that was changed since it was
            listed fails its mini-batch: seen after the download, or, of URLs, by one request for each file just
            before ``run()``, where the store tells versions.
        include_hidden
            Whether entries of folders whose names start with ``.`` or ``_`` count. Named ones always do.

        Raises
        ------
        InputError
            ``path`` is no path. Whether there is something is looked at by ``check()``.
        SettingsError
            A mode that does not exist, or a format that cannot work.
        """
        if mode is not None and mode not in _MODES:
            raise SettingsError([Fault("mode", repr(mode), ", ".join(map(repr, _MODES)), "mode='download'")])
        return cls(
            paths=absolute_paths(path),
            include_hidden=include_hidden,
            mode=mode,
            storage_options=storage_options,
            partition_format=partition_format,
        )

    @classmethod
    def from_mltable(cls, folder: PathLike, *, storage_options: Mapping[str, Any] | None = None) -> FileDataset:
        """The files that an MLTable folder of Azure Machine Learning lists, where its file ``MLTable`` reads no table.

        Parameters
        ----------
        folder, storage_options
            As for ``TabularDataset.from_mltable``.
        """
        from prs_dask.datasets.mltable import read_mltable

        dataset = read_mltable(folder, storage_options)
        if not isinstance(dataset, FileDataset):
            found = f"an MLTable file that reads a table, in {os.fspath(folder)!r}"
            raise SettingsError(
                [Fault("from_mltable", found, "one without read_...", "TabularDataset.from_mltable(...)")]
            )
        return dataset

    @property
    def spec(self) -> ReadSpec:
        """How the files are read, before anything is known of their paths."""
        return ReadSpec("files", storage=self.storage, stores=self.stores, mode=self._mode_of_files())

    def reader(self) -> ReadSpec:
        path_format = self.keys_in_paths() if self.group_by else None
        return self.spec._replace(keys=self.group_by, path_format=path_format)

    def _mode_of_files(self) -> Literal["download", "direct"] | None:
        if not any(map(is_url, self.paths)):
            return None
        return "direct" if self.mode == "direct" else "download"

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        size = self.size_of(mini_batch_size)
        if self.group_by:
            return self.cut_groups(self.groups(), input_index)
        return self.cut(self.files(), size, input_index)

    def cut(self, files: Iterable[str], mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        return cut_files(with_keys(files, self.keys_in_paths()), mini_batch_size, input_index)

    def cut_groups(self, groups: Iterable[Group], input_index: int = 0) -> Iterator[MiniBatch]:
        return cut_file_groups(groups, input_index)

    def to_dask(self, mini_batch_size: int | str | None = None) -> Bag:
        """A Dask Bag of paths with one partition per mini-batch; of URLs, for files in stores."""
        from dask.bag import from_sequence

        from prs_dask.datasets.reading import read

        bag: Bag = from_sequence(self.plan(mini_batch_size), partition_size=1).map(read, self.reader()).flatten()
        return bag

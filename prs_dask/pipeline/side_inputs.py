"""Side inputs, and datasets among the arguments: where they lie on the node.

A side input is a path, or a dataset of one file or one folder. Its place is the absolute path of that; what lies in
a store is brought below the run folder before workers start. Workers that do not see it there get a copy a node, see
`prs_dask.engine.node_preparation`. Where ``as_mount(path)`` or
``as_download(path)`` asked for a place, a link of that name leads to the data while the step run is under way. The
entry script is told by its arguments, in which a dataset stands for its place, and by
``Run.get_context().input_datasets`` where it has a name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from prs_dask.cancellation import Cancellation
from prs_dask.datasets import Dataset
from prs_dask.engine.parcels import SideInput, sight
from prs_dask.errors import Fault, SettingsError
from prs_dask.stores import FileInfo, Store, is_url, store_of

__all__ = ["Places", "dataset_faults", "side_input_faults"]

_DOWNLOADS = 8


def side_input_faults(side_inputs: Sequence[object]) -> list[Fault]:
    """A fault for each side input that is no path or dataset, is missing, or has no one place."""
    faults: list[Fault] = []
    for one in side_inputs:
        if isinstance(one, Dataset):
            faults += dataset_faults("side_inputs", one)
        elif not isinstance(one, (str, os.PathLike)):
            faults.append(Fault("side_inputs", repr(one), "paths and datasets", '["labels.txt"]'))
        elif "://" in os.fspath(one):
            allowed = "local paths, or a FileDataset for what lies in a store"
            faults.append(Fault("side_inputs", "a URL as text", allowed, "FileDataset.from_files(...)"))
        elif not os.path.exists(one):
            found = f"{os.fspath(one)!r}, which does not exist"
            faults.append(Fault("side_inputs", found, "an existing file or folder"))
    return faults


def dataset_faults(setting: str, dataset: Dataset) -> Iterator[Fault]:
    """Why a dataset has no one place on the node, if it has none."""
    paths = dataset.paths
    if not paths:
        yield Fault(setting, f"a {type(dataset).__name__}, which has no path", "datasets of one file or one folder")
    elif len(paths) > 1:
        found = f"a dataset of {len(paths)} paths, {paths[0]!r} the first"
        yield Fault(setting, found, "datasets of one file or one folder", "a dataset for each of them")
    elif not is_url(paths[0]) and not os.path.exists(paths[0]):
        found = f"{paths[0]!r}, which does not exist under this very name"
        yield Fault(setting, found, "datasets of one existing file or folder", "the folder instead of a pattern")
    elif dataset.path_on_compute is not None:
        yield from _link_faults(setting, dataset.path_on_compute, paths[0])


def _link_faults(setting: str, path: str, target: str) -> Iterator[Fault]:
    if not isinstance(path, (str, os.PathLike)) or not os.path.isabs(path):
        yield Fault(setting, f"as_mount({path!r})", "an absolute path", "as_mount('/tmp/labels')")
    elif os.path.lexists(path) and (is_url(target) or not os.path.samefile(path, target)):
        yield Fault(setting, f"as_mount({os.fspath(path)!r}), where something else lies", "a path that is free")


class Places:
    """Where side inputs lie while a step run is under way. Nothing is made or brought before `link` and `bring`.

    Parameters
    ----------
    side_inputs
        All side inputs and arguments, without faults.
    folder
        For what is brought from stores; its subfolders are numbered.
    """

    def __init__(self, side_inputs: Iterable[object], folder: Path) -> None:
        self._made: dict[str, str] = {}
        self._all = tuple(side_inputs)
        self._datasets = [one for one in self._all if isinstance(one, Dataset)]
        self._brought: dict[str, Path] = {}
        for one in self._datasets:
            url = one.paths[0]
            if is_url(url) and url not in self._brought:
                name = PurePosixPath(url.partition("://")[2]).name
                self._brought[url] = folder / str(len(self._brought)) / name

    def of(self, side_input: object) -> str:
        """The absolute path of a side input."""
        if not isinstance(side_input, Dataset):
            return os.path.abspath(os.fspath(side_input))  # type: ignore[call-overload, no-any-return]
        return os.path.abspath(side_input.path_on_compute or self._data(side_input))

    def _data(self, dataset: Dataset) -> str:
        path = dataset.paths[0]
        return str(self._brought[path]) if is_url(path) else os.path.abspath(path)

    def named(self, inputs: Iterable[Dataset]) -> tuple[tuple[str, str], ...]:
        """(name, place) of all that have a name, for ``Run.get_context().input_datasets``.

        Inputs are among them where they are one local path.
        """
        local = [one for one in inputs if not any(map(is_url, one.paths)) and not list(dataset_faults("", one))]
        return tuple({one.name: self.of(one) for one in (*local, *self._datasets) if one.name}.items())

    def sent(self, inputs: Iterable[Dataset]) -> tuple[SideInput, ...]:
        """All of them, as workers are told; none twice, and no input of the step, which may be all there is.

        Raises
        ------
        OSError
            One is gone.
        """
        links: dict[str, tuple[str, ...]] = {}
        left_out = list(inputs)
        for one in self._all:
            if isinstance(one, Dataset):
                if one in left_out:
                    continue
                path = self._data(one)
                linked = (self.of(one),) if one.path_on_compute is not None else ()
            else:
                path, linked = self.of(one), ()
            links[path] = tuple(dict.fromkeys((*links.get(path, ()), *linked)))
        return tuple(SideInput(path, places, sight(path)) for path, places in links.items())

    def link(self) -> None:
        """Make the links that were asked for.

        Raises
        ------
        SettingsError
            One cannot be made; those already made are removed.
        """
        wanted = {self.of(one): self._data(one) for one in self._datasets if one.path_on_compute is not None}
        for link, target in wanted.items():
            if os.path.lexists(link):
                continue
            try:
                os.makedirs(os.path.dirname(link), exist_ok=True)
                os.symlink(target, link)
            except OSError as error:
                self.remove()
                fault = Fault("side_inputs", f"as_mount({link!r}): {error.strerror}", "a path that can be made")
                raise SettingsError([fault]) from None
            self._made[link] = target

    def bring(self, cancellation: Cancellation) -> None:
        """Bring what lies in stores.

        Raises
        ------
        OSError, ReadError
            It is missing, cannot be read, or was changed meanwhile.
        Canceled
            It is not to be waited for any longer; requests that are under way are the last ones.
        """
        for dataset in self._datasets:
            url = dataset.paths[0]
            if is_url(url) and not self._brought[url].exists():
                _bring(store_of(url, dataset.storage), url, self._brought[url], cancellation)

    def remove(self) -> None:
        """Remove the links that were made, and nothing else."""
        for link, target in self._made.items():
            try:
                if os.readlink(link) == target:
                    os.unlink(link)
            except OSError:
                continue
        self._made.clear()


def _bring(store: Store, url: str, target: Path, cancellation: Cancellation) -> None:
    """One file, or all files below a folder."""
    try:
        files = [(store.info(url), target)]
    except FileNotFoundError:
        folder = url.rstrip("/") + "/"
        files = [(info, _below(target, info, folder)) for info in store.list(folder)]
        if not files:
            raise
    stop = threading.Event()
    with (
        ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="prs-side-inputs") as pool,
        cancellation.by(stop.set),
    ):
        list(pool.map(lambda file: _download(store, file[0], file[1], stop), files))


def _download(store: Store, info: FileInfo, target: Path, stop: threading.Event) -> Any:
    target.parent.mkdir(parents=True, exist_ok=True)
    store.download(info, target, stop)


def _below(target: Path, info: FileInfo, folder: str) -> Path:
    """A file's place below the target; a key such as ``a/../../b`` leads nowhere else."""
    parts = info.path.removeprefix(folder).split("/")
    if not info.path.startswith(folder) or any(part in ("", ".", "..") for part in parts):
        raise OSError(f"{info.path}: found a name that no local file can have; allowed: names without . and ..")
    return target.joinpath(*parts)

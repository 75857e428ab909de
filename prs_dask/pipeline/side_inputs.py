"""Side inputs, and datasets among the arguments: where they lie on the node.

A side input is a path, or a dataset of one file or one folder; its place is the absolute path of that. Where
``as_mount(path)`` or ``as_download(path)`` asked for a place, a link of that name leads to the data while the
step run is under way. The entry script is told by its arguments, in which a dataset stands for its
place, and by ``Run.get_context().input_datasets`` where it has a name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from prs_dask.datasets import Dataset
from prs_dask.errors import Fault, SettingsError

__all__ = ["Links", "dataset_faults", "named_places", "place_of", "side_input_faults"]

SideInput: TypeAlias = str | os.PathLike[str] | Dataset


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
            faults.append(Fault("side_inputs", repr(os.fspath(one)), allowed, "FileDataset.from_files(...)"))
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
    elif "://" in paths[0]:
        allowed = "local files and folders; stores are not supported here yet"
        yield Fault(setting, f"{paths[0]!r}", allowed, "a download of it, or the URL as text")
    elif not os.path.exists(paths[0]):
        found = f"{paths[0]!r}, which does not exist under this very name"
        yield Fault(setting, found, "datasets of one existing file or folder", "the folder instead of a pattern")
    elif dataset.path_on_compute is not None:
        yield from _link_faults(setting, dataset.path_on_compute, paths[0])


def _link_faults(setting: str, path: str, target: str) -> Iterator[Fault]:
    if not isinstance(path, (str, os.PathLike)) or not os.path.isabs(path):
        yield Fault(setting, f"as_mount({path!r})", "an absolute path", "as_mount('/tmp/labels')")
    elif os.path.lexists(path) and not os.path.samefile(path, target):
        yield Fault(setting, f"as_mount({os.fspath(path)!r}), where something else lies", "a path that is free")


def place_of(side_input: object) -> str:
    """The absolute path of a side input that has no faults."""
    if not isinstance(side_input, Dataset):
        return os.path.abspath(os.fspath(side_input))  # type: ignore[call-overload, no-any-return]
    return os.path.abspath(side_input.path_on_compute or side_input.paths[0])


def named_places(datasets: Iterable[object]) -> tuple[tuple[str, str], ...]:
    """(name, place) of the datasets that have a name and a place, for ``Run.get_context().input_datasets``."""
    named = [one for one in datasets if isinstance(one, Dataset) and one.name]
    return tuple({one.name: place_of(one) for one in named if not list(dataset_faults("", one))}.items())  # type: ignore[arg-type]


class Links:
    """The links that lead to side inputs, while a step run is under way.

    Parameters
    ----------
    side_inputs
        All side inputs and arguments; those without a path of their own need no link.

    Raises
    ------
    SettingsError
        A link cannot be made; those already made are removed.
    """

    def __init__(self, side_inputs: Iterable[object]) -> None:
        self._made: dict[str, str] = {}
        wanted: dict[str, str] = {
            place_of(one): os.path.abspath(one.paths[0])
            for one in side_inputs
            if isinstance(one, Dataset) and one.path_on_compute is not None
        }
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

    def remove(self) -> None:
        """Remove what was made, and nothing else."""
        for link, target in self._made.items():
            try:
                if os.readlink(link) == target:
                    os.unlink(link)
            except OSError:
                continue
        self._made.clear()

"""What of a dataset's files is not as it was when they were listed: removed, changed, added.

The files of the mini-batches that were listed (`InputComparison.take`) are brought together with a listing of
today, in order, so that inputs that are equal need no memory. A file counts as changed where its version is another
one; a local file whose path ``run()`` gets where it was changed after its mini-batch was handed out, for its time of
change is set by nobody.

Files of mini-batches that are finished may be gone or changed: that is noted only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Any, NamedTuple

from prs_dask.datasets.dataset import Dataset
from prs_dask.datasets.pairing import Pairing
from prs_dask.datasets.path_keys import Group, group_files
from prs_dask.datasets.store_listing import listed_version
from prs_dask.errors import Fault, InputError
from prs_dask.mini_batches import FileMiniBatch, MiniBatch, PartMiniBatch, RowGroupMiniBatch, TextMiniBatch
from prs_dask.mini_batches.json_form import KeptMiniBatch
from prs_dask.stores import is_url

__all__ = ["InputChanges", "InputComparison", "Names", "changed_files"]

SHOWN = 20
"""Files that a message names."""

TICK_SECONDS = 0.01
"""The clock of a file system lags behind by so much at most."""

ACCEPT = "accept_changes=True (--accept-changes)"


@dataclass(slots=True)
class Names:
    """Files of one kind of change: how many, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return f"{self.count:,} file{'s' if self.count > 1 else ''}: {', '.join(map(repr, self.first))}{more}"


@dataclass(slots=True)
class InputChanges:
    """How one input differs from what was listed of it.

    Parameters
    ----------
    name
        The input, for messages.
    removed, changed
        Files of mini-batches that are still to be run.
    changed_whole
        The same, of files that ``run()`` gets as paths, so that what they hold now can be taken.
    added
        Files that were not there.
    joined
        Files that were added to combinations of partition keys that there were.
    retyped
        Why the keys of partitions have other types now; empty where they have not.
    removed_since, changed_since
        Files of mini-batches that are finished.
    problems
        Why parts of the input cannot be listed.
    """

    name: str
    removed: Names = field(default_factory=Names)
    changed: Names = field(default_factory=Names)
    changed_whole: Names = field(default_factory=Names)
    added: Names = field(default_factory=Names)
    joined: Names = field(default_factory=Names)
    retyped: str = ""
    removed_since: Names = field(default_factory=Names)
    changed_since: Names = field(default_factory=Names)
    problems: list[Fault] = field(default_factory=list)

    def faults(self, accept: bool) -> list[Fault]:
        """What a resume is refused for.

        Parameters
        ----------
        accept
            Are added files taken, and the content that whole files have now?
        """
        found = []
        if self.removed:
            found.append(self._fault("removed", self.removed, "all that are still to be read", "put them back"))
        if self.changed:
            why = "as they were when they were cut into mini-batches"
            found.append(self._fault("changed", self.changed, why, "a new step run"))
        if self.changed_whole and not accept:
            allowed = "none that was written, moved or given other rights since its mini-batch was made"
            found.append(self._fault("changed", self.changed_whole, allowed, f"{ACCEPT} takes them as they are now"))
        if self.retyped:
            found.append(Fault(f"{self.name}: partition keys", self.retyped, "the types they had", "a new step run"))
        elif self.joined:
            allowed = (
                "combinations of partition keys with the files they had: each is one mini-batch, and may have ended"
            )
            found.append(
                self._fault("added to what there was", self.joined, allowed, "take them out, or a new step run")
            )
        if self.added and not accept and not self.retyped:
            take = f"{ACCEPT} takes them behind the others"
            found.append(self._fault("added", self.added, "the files that there were", take))
        return [*self.problems, *found] if found else []

    def _fault(self, what: str, names: Names, allowed: str, try_this: str) -> Fault:
        return Fault(f"{self.name}: {what}", str(names), allowed, try_this)

    def notes(self) -> list[str]:
        """What a resume goes on in spite of."""
        kinds = (
            (self.removed_since, "removed since its mini-batches were finished"),
            (self.changed_since, "changed since its mini-batches were finished"),
            (self.changed_whole, "changed, and taken as they are now"),
            (self.added, "added, and taken behind the others"),
        )
        return [f"{self.name}: {what}: {names}" for names, what in kinds if names]


class _File(NamedTuple):
    """A file as it was listed."""

    path: str
    version: str
    at: float
    done: bool


class _Combination(NamedTuple):
    """The files of one combination of partition keys, as they were listed."""

    files: tuple[tuple[str, str], ...]
    at: float
    done: bool


class InputComparison:
    """Brings one input's mini-batches together with its files of today.

    Attributes
    ----------
    changes
        What was found so far; all of it after `end`.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.changes = InputChanges(name)
        self._dataset = dataset
        self._open: TextMiniBatch | RowGroupMiniBatch | None = None
        self._open_at, self._open_done = 0.0, False
        self._added: list[str] = []
        self._new_groups: list[Group] = []
        self._files: Pairing[_File, str] = Pairing(self._files_now(), key=str)
        self._groups: Pairing[_Combination, Group] | None = None

    def _files_now(self) -> Iterator[str]:
        for path in self._dataset.paths:
            try:
                yield from replace(self._dataset, paths=(path,)).files()
            except InputError as error:
                self.changes.problems += error.faults

    def _pair_groups(self, first: Sequence[KeptMiniBatch]) -> Pairing[_Combination, Group]:
        """Combinations are told by their values, so those of today get the types that they had before."""
        return Pairing(self._groups_now(first), key=lambda group: _exact(group.values))

    def _groups_now(self, first: Sequence[KeptMiniBatch]) -> Iterator[Group]:
        found = self._dataset.keys_in_paths()
        assert found is not None  # noqa: S101 - keys_in_paths has seen to it
        before = _types_before(first, found.keys, self._dataset.group_by)
        groups = group_files(self._files_now(), found, self._dataset.group_by, before)
        for group in islice(groups, 1):
            if not found.dtypes:
                self.changes.retyped = _other_types(found.keys, before, group.types)
            yield group
        yield from groups

    def take(self, mini_batches: Sequence[KeptMiniBatch], done: Sequence[bool], at: float) -> None:
        """Mini-batches that were listed, in the order of their ids.

        Parameters
        ----------
        done
            Of each: is it finished?
        at
            Seconds since the epoch, when they were handed out at the earliest.
        """
        if self._dataset.group_by:
            self._groups = self._groups or self._pair_groups(mini_batches)
        elif self._take_equal(mini_batches, done, at):
            return
        for mini_batch, ended in zip(mini_batches, done, strict=True):
            if isinstance(mini_batch, TextMiniBatch | RowGroupMiniBatch):
                self._take_part(mini_batch, ended, at)
            elif isinstance(mini_batch, FileMiniBatch | PartMiniBatch) and self._groups is not None:
                for pair in self._groups.add(_exact(mini_batch.values), _combination(mini_batch, at, ended)):
                    self._compare_groups(*pair)
            elif isinstance(mini_batch, FileMiniBatch):
                for path, version in _files_of(mini_batch):
                    self._take_file(_File(path, version, at, ended))

    def _take_equal(self, mini_batches: Sequence[KeptMiniBatch], done: Sequence[bool], at: float) -> bool:
        """Lists of files, in one go, if the next files of today are just these."""
        lists = [one for one in mini_batches if isinstance(one, FileMiniBatch)]
        paths = tuple([path for one in lists for path in one.paths])
        if len(lists) < len(mini_batches) or not (equal := self._files.add_equal(paths)):
            return False
        place = 0
        for mini_batch, ended in zip(lists, done, strict=True):
            for path, version in _files_of(mini_batch):
                if _is_changed(path, version, at, equal[place]):
                    self._note_changed(_File(path, version, at, ended))
                place += 1
        return True

    def _take_part(self, mini_batch: TextMiniBatch | RowGroupMiniBatch, done: bool, at: float) -> None:
        """Mini-batches of one file come one after the other."""
        if self._open is not None and mini_batch.path == self._open.path and mini_batch[2] > self._open[2]:
            self._open_done = self._open_done and done
        else:
            self._close_file()
            self._open_at, self._open_done = at, done
        self._open = mini_batch

    def _close_file(self) -> None:
        if self._open is not None:
            self._take_file(_File(self._open.path, self._open.version, self._open_at, self._open_done))
            self._open = None

    def _take_file(self, file: _File) -> None:
        for before, now in self._files.add(file.path, file):
            self._compare_files(before, now)

    def end(self, *, listed_to_the_end: bool, last_is_whole: bool) -> None:
        """All mini-batches that were listed have been given.

        Parameters
        ----------
        listed_to_the_end
            Had all of the input's files been listed?
        last_is_whole
            Had all mini-batches of the last file been listed?
        """
        if not last_is_whole:
            self._open_done = False
        self._close_file()
        if self._dataset.group_by:
            self._groups = self._groups or self._pair_groups([])
            self._end_of_groups(self._groups, listed_to_the_end)
        else:
            self._end_of_files(listed_to_the_end)
        if not listed_to_the_end and self.changes.problems:
            raise InputError(self.changes.problems)

    def _end_of_files(self, listed_to_the_end: bool) -> None:
        for before, now in self._files.search(listed_to_the_end):
            self._compare_files(before, now)
        for file in self._files.only_before():
            (self.changes.removed_since if file.done else self.changes.removed).add(file.path)
        self._added = list(filter(self._has_something, self._files.only_now()))
        if listed_to_the_end:
            self._added += filter(self._has_something, self._files.rest())
        for path in self._added:
            self.changes.added.add(path)

    def _has_something(self, path: str) -> bool:
        """A table's file without rows has no mini-batch: it may have been there."""
        dataset = self._dataset
        return dataset.kind == "file" or any(True for _ in dataset.cut([path], dataset.default_mini_batch_size))

    def _end_of_groups(self, groups: Pairing[_Combination, Group], listed_to_the_end: bool) -> None:
        for before, now in groups.search(listed_to_the_end):
            self._compare_groups(before, now)
        if self.changes.retyped:
            return  # values of another type have no partners: that says nothing of their files
        self._new_groups = groups.only_now()
        if listed_to_the_end:
            self._new_groups += groups.rest()
        for combination in groups.only_before():
            for path, _ in combination.files:
                (self.changes.removed_since if combination.done else self.changes.removed).add(path)
        for group in self._new_groups:
            for path in group.paths:
                self.changes.added.add(path)

    # ---------------------------------------------------------------- pairs

    def _compare_files(self, before: _File, now: str) -> None:
        if _is_changed(before.path, before.version, before.at, now):
            self._note_changed(before)

    def _note_changed(self, before: _File) -> None:
        changes = self.changes
        if before.done:
            changes.changed_since.add(before.path)
        elif before.version or self._dataset.kind == "tabular":
            changes.changed.add(before.path)
        else:
            changes.changed_whole.add(before.path)

    def _compare_groups(self, before: _Combination, now: Group) -> None:
        changes = self.changes
        pairing = Pairing[_File, str](now.paths, key=str)
        pairs = [
            pair
            for path, version in before.files
            for pair in pairing.add(path, _File(path, version, before.at, before.done))
        ]
        for one, path in [*pairs, *pairing.search(to_the_end=True)]:
            self._compare_files(one, path)
        for file in pairing.only_before():
            (changes.removed_since if before.done else changes.removed).add(file.path)
        for path in [*pairing.only_now(), *pairing.rest()]:
            changes.joined.add(path)

    # ---------------------------------------------------------------- what goes on behind

    def rest(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        """Mini-batches of what had not been listed."""
        if self._groups is not None:
            return self._dataset.cut_groups(self._groups.rest(), input_index)
        return self._dataset.cut(self._files.rest(), size, input_index)

    def added(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        """Mini-batches of the files that were added."""
        if self._groups is not None:
            return self._dataset.cut_groups(self._new_groups, input_index)
        return self._dataset.cut(self._added, size, input_index)


def _combination(mini_batch: FileMiniBatch | PartMiniBatch, at: float, done: bool) -> _Combination:
    if isinstance(mini_batch, PartMiniBatch):
        files = tuple((part.path, part.version) for part in mini_batch.parts)
        return _Combination(files, at, done)
    return _Combination(tuple(_files_of(mini_batch)), at, done)


def _files_of(mini_batch: FileMiniBatch) -> Iterable[tuple[str, str]]:
    """Whole files, with the versions of those in stores: of local ones the time of change tells more."""
    paths, versions = mini_batch.paths, mini_batch.versions
    if not versions:
        return zip(paths, repeat(""))
    return ((path, version if is_url(path) else "") for path, version in zip(paths, versions, strict=True))


def _exact(values: Iterable[Any]) -> Hashable:
    """Values that are told apart as keys are: 1, 1.0 and True are three."""
    return tuple([(type(value), value) for value in values])


def _types_before(
    mini_batches: Iterable[KeptMiniBatch], keys: Sequence[str], group_by: Sequence[str]
) -> tuple[str | None, ...]:
    """The types that the keys of paths had, as far as mini-batches tell them: those of a table do, others by values."""
    types: dict[str, str] = {}
    for one in mini_batches:
        if isinstance(one, PartMiniBatch) and one.key_types:
            return one.key_types
        if isinstance(one, FileMiniBatch | PartMiniBatch):
            for key, value in zip(group_by, one.values, strict=False):
                if value is not None:
                    types.setdefault(key, type(value).__name__)
    return tuple(map(types.get, keys))


def _other_types(keys: Sequence[str], before: Sequence[str | None], now: Sequence[str]) -> str:
    """Which keys have other types than before, and why; empty where none has."""
    differing = [
        f"{key}: {old} became {new}"
        for key, old, new in zip(keys, before, now, strict=True)
        if old is not None and old != new
    ]
    return f"{', '.join(differing)}, by the files that were added" if differing else ""


def _is_changed(path: str, version: str, at: float, now: str) -> bool:
    """Is a file another one than it was; one that cannot be looked at is not."""
    if is_url(path):
        version_now = listed_version(now)
        return bool(version and version_now) and version != version_now
    try:
        found = os.stat(path)
    except OSError:
        return bool(version)
    if version:
        return not stat.S_ISREG(found.st_mode) or version != f"{found.st_size}-{found.st_mtime_ns}"
    # Every write moves the time of change, and nobody can set it: a time of modification may lie ahead for good. Some
    # file systems in user space keep no times of change, and tell 0.
    return (found.st_ctime or found.st_mtime) > at - TICK_SECONDS


def changed_files(mini_batch: KeptMiniBatch, at: float) -> list[str]:
    """Local files of one mini-batch that are not what they were when it was listed, or gone.

    Parameters
    ----------
    at
        When it was handed out at the earliest, in seconds since the epoch.
    """
    if isinstance(mini_batch, TextMiniBatch | RowGroupMiniBatch):
        files = [(mini_batch.path, mini_batch.version)]
    elif isinstance(mini_batch, PartMiniBatch):
        files = [(part.path, part.version) for part in mini_batch.parts]
    elif isinstance(mini_batch, FileMiniBatch):
        files = list(_files_of(mini_batch))
    else:
        files = []
    local = dict((path, version) for path, version in files if not is_url(path))
    return [path for path, version in local.items() if not os.path.exists(path) or _is_changed(path, version, at, path)]


def continued(mini_batches: Iterable[MiniBatch], last: TextMiniBatch | RowGroupMiniBatch) -> Iterator[MiniBatch]:
    """Of a file's mini-batches those behind the last one that was listed."""
    if last.stop < 0:
        return
    for mini_batch in mini_batches:
        if mini_batch[2] >= last.stop:  # type: ignore[misc, operator]
            yield mini_batch

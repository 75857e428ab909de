"""What a resume finds changed in its inputs, named; and the mini-batches it goes on with, none twice and none lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prs_dask import FileDataset, TabularDataset
from prs_dask.datasets.kept_reader import kept_reader
from prs_dask.datasets.local_files import local_version
from prs_dask.datasets.reading import read
from prs_dask.errors import OutputError, ResumeError
from prs_dask.mini_batches.json_form import from_line
from prs_dask.output.manifest import ManifestWriter, read_manifest, read_members
from prs_dask.pipeline.earlier_inputs import EarlierInputs

LONG_AGO = time.time() - 3600


def write(path: Path, text: str = "x", when: float = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))
    return path


def listed(path: Path, inputs: list[Any], size: int, count: int | None = None, at: float | None = None) -> list[Any]:
    """A manifest as the first part of a step run leaves it: of all, or broken off after some mini-batches."""
    path.unlink(missing_ok=True)
    writer = ManifestWriter.create(path, {"inputs": [kept_reader(one.reader()) for one in inputs]})
    every = [one for number, dataset in enumerate(inputs) for one in dataset.mini_batches(size, number)]
    writer.append(0, every[:count], at=time.time() + 0.05 if at is None else at)  # files have a ctime of just now
    if count is None:
        writer.end()
    writer.close()
    return every


def later() -> None:
    """Let the time pass at which `listed` says that a manifest was written: what is written now is written after it."""
    time.sleep(0.08)


class Resume:
    """One resume after another, over one manifest."""

    def __init__(self, path: Path, inputs: list[Any], size: int) -> None:
        self.path, self.inputs, self.size = path, inputs, size

    def compared(self, done: Any = (), accept: bool = False) -> EarlierInputs:
        earlier = EarlierInputs(self.path, self.inputs, self.size, lambda number: number in done)
        earlier.compare(accept)
        return earlier

    def refused(self, done: Any = (), accept: bool = False) -> str:
        with pytest.raises(ResumeError) as caught:
            self.compared(done, accept)
        return str(caught.value)

    def goes_on(self, done: Any = (), accept: bool = False, most: int | None = None) -> list[Any]:
        """What is run, by ids; written into the manifest, all or as far as it comes."""
        earlier = self.compared(done, accept)
        found = list(islice(earlier.mini_batches(), most))
        writer = ManifestWriter.reopen(self.path, earlier.state)
        writer.append(0, found, time.time() + 0.05)
        if most is None:
            writer.end()
        writer.close()
        assert all((one is None) == (number in done) for number, one in enumerate(found))
        return found

    def held(self) -> list[Any]:
        return [from_line(line) for member in read_members(self.path) for line in member.lines]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "inputs.jsonl.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        write(tmp_path / "data" / f"{number}.txt")
    return tmp_path / "data"


@pytest.fixture
def files(folder: Path, manifest: Path) -> Resume:
    inputs = [FileDataset.from_files(folder)]
    listed(manifest, inputs, 3)
    return Resume(manifest, inputs, 3)


def names(mini_batches: list[Any]) -> list[str]:
    return [Path(path).name for one in mini_batches if one is not None for path in one.paths]


# ---------------------------------------------------------------- whole files


def test_nothing_has_changed_and_what_is_finished_is_not_there_again(files: Resume) -> None:
    length = files.path.stat().st_size
    assert names(files.goes_on(done={0, 2})) == ["3.txt", "4.txt", "5.txt", "9.txt"]
    assert files.path.stat().st_size == length, "no byte is written where nothing is new"


def test_removed_and_changed_files_are_refused_and_named(files: Resume, folder: Path) -> None:
    (folder / "1.txt").unlink()
    later()
    write(folder / "4.txt", "other")
    message = files.refused()
    assert "removed: found 1 file: " in message
    assert "1.txt" in message
    assert "changed: found 1 file: " in message
    assert "4.txt" in message
    assert "removed" in files.refused(accept=True), "what is gone cannot be accepted"


def test_of_finished_mini_batches_it_is_noted_only(files: Resume, folder: Path) -> None:
    (folder / "1.txt").unlink()
    later()
    write(folder / "4.txt", "other")
    assert files.compared(done={0, 1}).notes == [
        f"inputs[0]: removed since its mini-batches were finished: 1 file: {str(folder / '1.txt')!r}",
        f"inputs[0]: changed since its mini-batches were finished: 1 file: {str(folder / '4.txt')!r}",
    ]


def test_the_first_twenty_are_named_and_how_many_there_are(tmp_path: Path, manifest: Path) -> None:
    for number in range(50):
        write(tmp_path / "data" / f"{number:02}.txt")
    inputs = [FileDataset.from_files(tmp_path / "data" / "*.txt")]
    listed(manifest, inputs, 10)
    for number in range(30):
        (tmp_path / "data" / f"{number:02}.txt").unlink()
    message = Resume(manifest, inputs, 10).refused()
    assert "found 30 files" in message
    assert "19.txt' and 10 more" in message
    assert "20.txt" not in message


@pytest.mark.parametrize("change", ["touch", "mode", "link"])
def test_a_local_file_counts_as_changed_where_its_times_are_later_than_its_listing(
    tmp_path: Path, manifest: Path, change: str
) -> None:
    path = write(tmp_path / "data" / "a.txt")
    inputs = [FileDataset.from_files(tmp_path / "data")]
    listed(manifest, inputs, 1, at=time.time() - 60)  # so its time of change, which nobody can set, is later
    if change == "touch":
        os.utime(path)
    elif change == "mode":
        path.chmod(0o600)
    else:
        os.link(path, tmp_path / "other")
    resume = Resume(manifest, inputs, 1)
    assert "changed: found 1 file" in resume.refused()
    assert "accept_changes=True" in resume.refused()
    assert resume.compared(accept=True).notes == [
        f"inputs[0]: changed, and taken as they are now: 1 file: {str(path)!r}"
    ]


def test_a_changed_file_that_is_taken_has_the_version_of_now(tmp_path: Path, manifest: Path) -> None:
    path = write(tmp_path / "data" / "a.txt")
    write(tmp_path / "data" / "b.txt")
    inputs = [FileDataset.from_files(tmp_path / "data")]
    before = listed(manifest, inputs, 1, at=time.time() - 60)
    path.write_text("other")
    after = Resume(manifest, inputs, 1).goes_on(accept=True)
    assert [one.versions for one in after] == [(version,) for version in map(local_version, inputs[0].files())]
    assert after[0] != before[0]
    assert [one.paths for one in after] == [one.paths for one in before]


class WithoutVersions(FileDataset):
    """Listed as by earlier versions, which looked at no local file."""

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[Any]:
        for one in super().mini_batches(mini_batch_size, input_index):
            yield one._replace(versions=())


def test_a_manifest_without_versions_of_local_files_goes_on(tmp_path: Path, manifest: Path) -> None:
    path = write(tmp_path / "data" / "a.txt")
    write(tmp_path / "data" / "b.txt")
    every = listed(manifest, [WithoutVersions.from_files(tmp_path / "data")], 1)
    resume = Resume(manifest, [FileDataset.from_files(tmp_path / "data")], 1)
    assert resume.goes_on() == every
    assert resume.goes_on(accept=True) == every
    later()
    path.write_text("other")
    assert "changed: found 1 file" in resume.refused()


def test_a_file_whose_time_of_modification_lies_ahead_has_not_changed(tmp_path: Path, manifest: Path) -> None:
    path = write(tmp_path / "data" / "a.txt", when=time.time() + 86_400)
    inputs = [FileDataset.from_files(tmp_path / "data")]
    every = listed(manifest, inputs, 1)
    resume = Resume(manifest, inputs, 1)
    assert resume.goes_on() == every
    later()
    path.write_text("other")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert "changed: found 1 file" in resume.refused(), "no time of modification hides that it was written"


def test_where_a_file_system_keeps_no_times_of_change_those_of_modification_count(
    files: Resume, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "4.txt", "other", when=time.time() + 10)
    stat = os.stat

    def without_changes(*args: Any, **more: Any) -> os.stat_result:
        found = stat(*args, **more)
        return os.stat_result((*found[:9], 0), {"st_ctime": 0.0, "st_mtime": found.st_mtime})

    monkeypatch.setattr("prs_dask.datasets.input_changes.os.stat", without_changes)
    message = files.refused()
    assert "changed: found 1 file" in message
    assert "4.txt" in message


def test_a_file_that_became_a_folder_is_removed_and_what_is_in_it_added(files: Resume, folder: Path) -> None:
    (folder / "5.txt").unlink()
    write(folder / "5.txt" / "inner")
    message = files.refused()
    assert "removed: found 1 file" in message
    assert "added: found 1 file" in message
    assert names(files.goes_on(done={1}, accept=True))[-1] == "inner"


def test_added_files_are_refused_and_with_accept_changes_come_behind_cut_apart(files: Resume, folder: Path) -> None:
    for name in ("0a.txt", "zz.txt"):
        write(folder / name)
    message = files.refused()
    assert "added: found 2 files" in message
    assert "0a.txt" in message
    assert "accept_changes=True (--accept-changes)" in message
    found = files.goes_on(done={0, 1, 2}, accept=True)
    assert names(found) == ["9.txt", "0a.txt", "zz.txt"]
    assert [len(one.paths) for one in found[3:]] == [1, 2], "the old ones are as they were"
    write(folder / "0b.txt")
    assert "0b.txt" in files.refused()
    assert names(files.goes_on(done={0, 1, 2, 3, 4}, accept=True)) == ["0b.txt"]
    assert names(files.goes_on()) == [f"{n}.txt" for n in range(10)] + ["0a.txt", "zz.txt", "0b.txt"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_listing_that_had_not_ended_goes_on(folder: Path, manifest: Path, count: int) -> None:
    inputs = [FileDataset.from_files(folder)]
    every = listed(manifest, inputs, 3, count)
    resume = Resume(manifest, inputs, 3)
    assert resume.goes_on(most=count + 1) == every[: count + 1]
    assert resume.goes_on() == every
    assert read_manifest(manifest).complete


def test_what_is_added_where_the_listing_has_been_is_refused_and_behind_it_is_just_listed(
    folder: Path, manifest: Path
) -> None:
    inputs = [FileDataset.from_files(folder)]
    listed(manifest, inputs, 3, count=2)
    resume = Resume(manifest, inputs, 3)
    write(folder / "7a.txt")
    assert names(resume.goes_on(most=2)) == [f"{n}.txt" for n in range(6)]
    write(folder / "2a.txt")
    assert "2a.txt" in resume.refused()
    assert "7a.txt" not in resume.refused()
    assert names(resume.goes_on(accept=True))[6:] == ["6.txt", "7.txt", "7a.txt", "8.txt", "9.txt", "2a.txt"]


def test_several_inputs_are_each_compared_and_gone_on_with(tmp_path: Path, manifest: Path) -> None:
    for name in ("a", "b", "c"):
        for number in range(4):
            write(tmp_path / name / f"{name}{number}")
    inputs = [FileDataset.from_files(tmp_path / name).as_named_input(f"the_{name}") for name in ("a", "b", "c")]
    every = listed(manifest, inputs, 3)
    for count in range(len(every)):
        listed(manifest, inputs, 3, count)
        assert Resume(manifest, inputs, 3).goes_on() == every
    write(tmp_path / "a" / "a9")
    (tmp_path / "b" / "b1").unlink()
    resume = Resume(manifest, inputs, 3)
    assert "inputs[0] (the_a): added" in resume.refused()
    assert "inputs[1] (the_b): removed" in resume.refused()
    found = resume.goes_on(done={2}, accept=True)
    assert (found[-1].input, names(found[-1:])) == (0, ["a9"])
    write(tmp_path / "c" / "c9")
    found = resume.goes_on(done={2}, accept=True)
    assert (found[-1].input, names(found[-1:])) == (2, ["c9"])
    assert resume.held() == [*every, *found[-2:]]


def test_a_path_that_is_gone_is_told_and_does_not_matter_where_all_of_it_is_finished(
    tmp_path: Path, manifest: Path
) -> None:
    inputs = [FileDataset.from_files([write(tmp_path / name) for name in ("a", "b")])]
    listed(manifest, inputs, 1)
    (tmp_path / "a").unlink()
    resume = Resume(manifest, inputs, 1)
    assert "No such file" in resume.refused()
    assert names(resume.goes_on(done={0})) == ["b"]


def test_a_file_listed_twice_is_two(tmp_path: Path, manifest: Path) -> None:
    path = write(tmp_path / "a")
    inputs = [FileDataset.from_files([path, path])]
    every = listed(manifest, inputs, 1)
    assert Resume(manifest, inputs, 1).goes_on() == every


def test_a_manifest_that_is_none_of_this_step_is_refused(files: Resume, folder: Path) -> None:
    other = Resume(files.path, [FileDataset.from_files(folder), FileDataset.from_files(folder)], 3)
    with pytest.raises(OutputError, match="its first line"):
        other.compared()
    writer = ManifestWriter.reopen(files.path, read_manifest(files.path))
    writer._write(['{"first":4,"at":1}', '["files",7,"/a"]'])
    writer.close()
    with pytest.raises(OutputError, match="mini-batches from 4 on"):
        files.compared()


# ---------------------------------------------------------------- tables


def csv(path: Path, rows: int, first: int = 0) -> Path:
    return write(path, "a,b\n" + "".join(f"{first + row},{'x' * 10}\n" for row in range(rows)))


@pytest.mark.parametrize("count", range(12))
def test_a_table_goes_on_in_the_middle_of_a_file(tmp_path: Path, manifest: Path, count: int) -> None:
    for number in range(3):
        csv(tmp_path / "data" / f"{number}.csv", 30 * number, 100 * number)
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data")]
    every = listed(manifest, inputs, 100, count)
    resume = Resume(manifest, inputs, 100)
    assert resume.goes_on(most=count + 2) == every[: count + 2]
    assert resume.goes_on() == every


@pytest.mark.parametrize("count", range(6))
def test_parquet_goes_on_in_the_middle_of_a_file(tmp_path: Path, manifest: Path, count: int) -> None:
    (tmp_path / "data").mkdir()
    for number in range(2):
        frame = pd.DataFrame({"a": range(100)})
        frame.to_parquet(tmp_path / "data" / f"{number}.parquet", row_group_size=30)
    inputs = [TabularDataset.from_parquet_files(tmp_path / "data")]
    every = listed(manifest, inputs, 1, count)
    assert len(every) == 8
    assert Resume(manifest, inputs, 1).goes_on() == every


def test_the_one_file_with_the_header_is_the_one_it_was(tmp_path: Path, manifest: Path) -> None:
    csv(tmp_path / "data" / "0.csv", 20)
    write(tmp_path / "data" / "1.csv", "100,y\n" * 10)
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data", header="only_first_file")]
    every = listed(manifest, inputs, 100)
    for count in range(len(every)):
        listed(manifest, inputs, 100, count)
        assert Resume(manifest, inputs, 100).goes_on() == every
    resume = Resume(manifest, inputs, 100)
    write(tmp_path / "data" / "00.csv", "7,z\n")
    found = resume.goes_on(accept=True)
    assert (found[-1].path, found[-1].start, found[-1].stop) == (str(tmp_path / "data" / "00.csv"), 0, 4)


def test_the_one_file_with_the_header_may_hold_nothing_else(tmp_path: Path, manifest: Path) -> None:
    write(tmp_path / "data" / "00.csv", "a,b\n")
    write(tmp_path / "data" / "01.csv", "1,2\n3,4\n")
    write(tmp_path / "data" / "02.csv", "5,6\n")
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data", header="only_first_file")]
    every = listed(manifest, inputs, 100)
    assert len(every) == 2
    for count in (0, 1, None):
        listed(manifest, inputs, 100, count)
        for accept in (False, True):
            assert Resume(manifest, inputs, 100).goes_on(accept=accept) == every


def test_the_one_file_with_the_header_stays_the_one_though_it_is_gone_and_nothing_was_listed(
    tmp_path: Path, manifest: Path
) -> None:
    write(tmp_path / "data" / "00.csv", "a,b\n")
    write(tmp_path / "data" / "01.csv", "1,2\n3,4\n")
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data", header="only_first_file")]
    every = listed(manifest, inputs, 100, count=0)
    (tmp_path / "data" / "00.csv").unlink()
    assert Resume(manifest, inputs, 100).goes_on() == every


def without_header_file(path: Path) -> None:
    """A manifest as it was written before the file with the header was kept."""
    state, lines = read_manifest(path), [list(member) for member in read_members(path)]
    header = {name: value for name, value in state.header.items() if name != "format"}
    for one in header["inputs"]:
        del one["header_file"]
    path.unlink()
    writer = ManifestWriter.create(path, header)
    for first, at, mini_batches, complete in lines:
        if mini_batches:
            writer.append(first, [from_line(line) for line in mini_batches], at)
        if complete:
            writer.end()
    writer.close()


@pytest.mark.parametrize("keys", [[], ["K"]])
def test_a_manifest_that_does_not_tell_the_file_with_the_header_goes_on(
    tmp_path: Path, manifest: Path, keys: list[str]
) -> None:
    for key, text in ((2, "a,b\n1,2\n"), (3, "3,4\n"), (4, "5,6\n")):
        write(tmp_path / "data" / f"K={key}" / "0.csv", text)
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data", header="only_first_file").grouped_by(keys)]
    for count in (0, 1, 2, None):
        every = listed(manifest, inputs, 100, count)
        without_header_file(manifest)
        assert Resume(manifest, inputs, 100).goes_on() == every


def test_a_table_is_compared_by_size_and_time_exactly_and_changes_of_it_are_never_accepted(
    tmp_path: Path, manifest: Path
) -> None:
    path = csv(tmp_path / "data" / "0.csv", 20)
    csv(tmp_path / "data" / "1.csv", 20)
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data")]
    every = listed(manifest, inputs, 100, at=LONG_AGO)
    resume = Resume(manifest, inputs, 100)
    path.chmod(0o600)
    assert resume.goes_on() == every, "other rights change no rows"
    os.utime(path, (LONG_AGO - 10, LONG_AGO - 10))
    assert "changed: found 1 file" in resume.refused(accept=True)
    assert "0.csv" in resume.refused(done={0})
    mine = {number for number, one in enumerate(every) if one.path == str(path)}
    assert resume.compared(done=mine).notes


def test_the_last_file_of_a_listing_that_broke_off_counts_as_unfinished(tmp_path: Path, manifest: Path) -> None:
    path = csv(tmp_path / "data" / "0.csv", 20)
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data")]
    listed(manifest, inputs, 100, count=2)
    os.utime(path)
    assert "changed" in Resume(manifest, inputs, 100).refused(done={0, 1})


def test_files_without_rows_are_not_taken_for_added_ones(tmp_path: Path, manifest: Path) -> None:
    write(tmp_path / "data" / "0.csv", "")
    csv(tmp_path / "data" / "1.csv", 5)
    write(tmp_path / "data" / "2.csv", "a,b\n")
    inputs = [TabularDataset.from_delimited_files(tmp_path / "data")]
    every = listed(manifest, inputs, 100)
    resume = Resume(manifest, inputs, 100)
    assert resume.goes_on() == every
    csv(tmp_path / "data" / "2.csv", 1)
    assert "2.csv" in resume.refused()


def test_types_that_were_inferred_stay_though_the_first_file_is_gone(tmp_path: Path, manifest: Path) -> None:
    write(tmp_path / "data" / "0.csv", "a,b\n1.5,x\n")
    write(tmp_path / "data" / "1.csv", "a,b\n1,2\n")
    dataset = TabularDataset.from_delimited_files(tmp_path / "data", dtype={"b": "str"})
    reader = dataset.reader()
    listed(manifest, [dataset], 100)
    (tmp_path / "data" / "0.csv").unlink()
    assert Resume(manifest, [dataset], 100).compared(done={0}).readers == (reader,)
    assert dataset.reader() != reader


# ---------------------------------------------------------------- partition keys


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    for store in (1, 2, 3):
        for number in range(2):
            csv(tmp_path / "data" / f"store={store}" / f"{number}.csv", 3)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["files", "table"])
def test_combinations_of_keys_go_on(stores: Path, manifest: Path, kind: str) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    inputs = [make(stores).grouped_by(["store"])]
    every = listed(manifest, inputs, 1)
    assert len(every) == 3
    for count in range(3):
        listed(manifest, inputs, 1, count)
        assert Resume(manifest, inputs, 1).goes_on() == every


@pytest.mark.parametrize("kind", ["files", "table"])
def test_new_combinations_go_on_behind_and_files_added_to_old_ones_are_refused(
    stores: Path, manifest: Path, kind: str
) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    inputs = [make(stores).grouped_by(["store"])]
    every = listed(manifest, inputs, 1)
    resume = Resume(manifest, inputs, 1)
    csv(stores / "store=0" / "0.csv", 3)
    assert "added: found 1 file" in resume.refused()
    found = resume.goes_on(accept=True)
    assert found[:3] == every
    assert found[3].values == (0,)
    csv(stores / "store=2" / "9.csv", 3)
    assert "added to what there was: found 1 file" in resume.refused(accept=True)
    assert "each is one mini-batch" in resume.refused(accept=True)
    (stores / "store=2" / "9.csv").unlink()
    (stores / "store=3" / "1.csv").unlink()
    assert "removed: found 1 file" in resume.refused(accept=True)
    assert resume.goes_on(done={2}) == [*every[:2], None, found[3]]


@pytest.fixture
def one_header(tmp_path: Path) -> Path:
    """Files of which only the first has a header, one for each key."""
    for key, text in ((2, "a,b\n1,2\n"), (3, "3,4\n"), (4, "5,6\n")):
        write(tmp_path / "data" / f"K={key}" / "0.csv", text)
    return tmp_path / "data"


def starts(mini_batches: list[Any]) -> list[list[int] | None]:
    return [None if one is None else [part.start for part in one.parts] for one in mini_batches]


def test_of_keys_the_one_file_with_the_header_is_the_one_it_was_though_it_is_gone(
    one_header: Path, manifest: Path
) -> None:
    inputs = [TabularDataset.from_delimited_files(one_header, header="only_first_file").grouped_by(["K"])]
    every = listed(manifest, inputs, 100, count=1)
    assert starts(every) == [[4], [-1], [-1]]
    (one_header / "K=2" / "0.csv").unlink()
    resume = Resume(manifest, inputs, 100)
    found = resume.goes_on(done={0})
    assert found == [None, *every[1:]]
    (reader,) = resume.compared(done={0}).readers
    assert [read(one, reader).to_dict("split")["data"] for one in found[1:]] == [[[3, 4, 3]], [[5, 6, 4]]]


def test_of_keys_an_added_file_that_sorts_before_the_one_with_the_header_keeps_its_first_row(
    one_header: Path, manifest: Path
) -> None:
    inputs = [TabularDataset.from_delimited_files(one_header, header="only_first_file").grouped_by(["K"])]
    every = listed(manifest, inputs, 100)
    write(one_header / "K=1" / "0.csv", "7,8\n9,10\n")
    found = Resume(manifest, inputs, 100).goes_on(accept=True)
    assert (found[:3], found[3].values, starts(found)[3]) == (every, (1,), [-1])


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A key whose texts are numbers but for one."""
    for key in ("1", "2", "x"):
        csv(tmp_path / "data" / f"K={key}" / "0.csv", 3)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["files", "table"])
def test_keys_keep_the_types_they_had_though_files_that_made_them_so_are_gone(
    mixed: Path, manifest: Path, kind: str
) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    inputs = [make(mixed).grouped_by(["K"])]
    every = listed(manifest, inputs, 1)
    assert [one.values for one in every] == [("1",), ("2",), ("x",)]
    (mixed / "K=x" / "0.csv").unlink()
    resume = Resume(manifest, inputs, 1)
    for accept in (False, True):
        assert resume.compared(done={2}, accept=accept).notes == [
            f"inputs[0]: removed since its mini-batches were finished: 1 file: {str(mixed / 'K=x' / '0.csv')!r}"
        ]
        assert resume.goes_on(done={2}, accept=accept) == [*every[:2], None]
    message = resume.refused()
    assert "removed: found 1 file" in message
    assert "K=1" not in message, "no other reasons than there are"
    csv(mixed / "K=3" / "0.csv", 3)
    assert resume.goes_on(done={2}, accept=True)[3].values == ("3",)


@pytest.mark.parametrize("kind", ["files", "table"])
def test_keys_that_had_not_been_listed_have_the_types_of_those_that_had(mixed: Path, manifest: Path, kind: str) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    inputs = [make(mixed).grouped_by(["K"])]
    every = listed(manifest, inputs, 1, count=1)
    (mixed / "K=x" / "0.csv").unlink()
    csv(mixed / "K=3" / "0.csv", 3)
    found = Resume(manifest, inputs, 1).goes_on()
    assert found[:2] == every[:2]
    assert [one.values for one in found] == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize("kind", ["files", "table"])
def test_keys_stay_though_the_folders_that_had_one_of_them_are_gone(tmp_path: Path, manifest: Path, kind: str) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    csv(tmp_path / "data" / "K=1" / "0.csv", 3)
    csv(tmp_path / "data" / "K=1" / "L=2" / "0.csv", 3)
    csv(tmp_path / "data" / "K=2" / "0.csv", 3)
    inputs = [make(tmp_path / "data").grouped_by(["K"])]
    every = listed(manifest, inputs, 1)
    (tmp_path / "data" / "K=1" / "L=2" / "0.csv").unlink()
    resume = Resume(manifest, inputs, 1)
    assert resume.goes_on(done={0}) == [None, every[1]]
    message = resume.refused()
    assert "removed: found 1 file" in message
    assert "partition keys" not in message


def test_a_key_that_is_missing_in_the_first_files_has_the_type_of_the_next(tmp_path: Path, manifest: Path) -> None:
    for folder in ("K=1/L=__HIVE_DEFAULT_PARTITION__", "K=2/L=5", "K=3/L=x"):
        write(tmp_path / "data" / folder / "0")
    inputs = [FileDataset.from_files(tmp_path / "data").grouped_by(["L"])]
    every = listed(manifest, inputs, 1)
    assert [one.values for one in every] == [(None,), ("5",), ("x",)]
    (tmp_path / "data" / "K=3" / "L=x" / "0").unlink()
    assert Resume(manifest, inputs, 1).goes_on(done={2}) == [*every[:2], None]


def test_of_keys_a_table_is_compared_by_size_and_time_exactly_and_changes_of_it_are_never_accepted(
    stores: Path, manifest: Path
) -> None:
    inputs = [TabularDataset.from_delimited_files(stores).grouped_by(["store"])]
    every = listed(manifest, inputs, 1, at=LONG_AGO)
    resume = Resume(manifest, inputs, 1)
    path = stores / "store=2" / "1.csv"
    path.chmod(0o600)
    assert resume.goes_on() == every, "other rights change no rows"
    csv(path, 4)
    assert "changed: found 1 file" in resume.refused(accept=True)
    assert "1.csv" in resume.refused(accept=True)
    assert "accept_changes" not in resume.refused()
    assert resume.goes_on(done={1}) == [every[0], None, every[2]]


@pytest.mark.parametrize("kind", ["delimited", "parquet"])
def test_of_keys_a_file_of_a_table_that_was_listed_without_its_version_is_never_accepted_when_it_was_written(
    tmp_path: Path, manifest: Path, kind: str
) -> None:
    path = tmp_path / "data" / "store=1" / "0"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    inputs = [getattr(TabularDataset, f"from_{kind}_files")(tmp_path / "data").grouped_by(["store"])]
    (one,) = listed(manifest, inputs, 1)
    manifest.unlink()
    writer = ManifestWriter.create(manifest, {"inputs": [kept_reader(inputs[0].reader())]})
    writer.append(0, [one._replace(parts=tuple(part._replace(version="") for part in one.parts))], at=LONG_AGO)
    writer.end()
    writer.close()
    assert "changed: found 1 file" in Resume(manifest, inputs, 1).refused(accept=True)


@pytest.mark.parametrize("kind", ["files", "table"])
def test_keys_that_would_have_another_type_are_refused_with_the_reason(stores: Path, manifest: Path, kind: str) -> None:
    make = FileDataset.from_files if kind == "files" else TabularDataset.from_delimited_files
    inputs = [make(stores).grouped_by(["store"])]
    listed(manifest, inputs, 1)
    csv(stores / "store=main" / "0.csv", 3)
    message = Resume(manifest, inputs, 1).refused(accept=True)
    assert "one difference" in message
    assert "store: int became str" in message


# ---------------------------------------------------------------- no files


def test_rows_in_memory_are_told_by_their_hash_and_the_first_that_differ_are_named(manifest: Path) -> None:
    frame = pd.DataFrame({"a": range(100)})
    inputs = [TabularDataset.from_pandas(frame)]
    every = listed(manifest, inputs, 200)
    assert len(every) == 4
    assert b"rows" in next(read_members(manifest)).lines[0]
    assert Resume(manifest, inputs, 200).goes_on(done={1}) == [every[0], None, *every[2:]]
    other = frame.copy()
    other.loc[60, "a"] = -1
    assert (
        "mini-batch 2 (rows 50..75) is not what it was (rows 50..75)"
        in Resume(manifest, [TabularDataset.from_pandas(other)], 200).refused()
    )
    shorter = Resume(manifest, [TabularDataset.from_pandas(frame[:75])], 200)
    assert "no rows for mini-batch 3 (rows 75..100) any more" in shorter.refused(accept=True)
    longer = Resume(manifest, [TabularDataset.from_pandas(pd.DataFrame({"a": range(130)}))], 200)
    assert "more rows than before" in longer.refused()


@pytest.mark.parametrize("count", range(4))
def test_rows_in_memory_go_on_where_the_listing_broke_off(manifest: Path, count: int) -> None:
    inputs = [TabularDataset.from_pandas(pd.DataFrame({"a": range(100)}))]
    every = listed(manifest, inputs, 200, count)
    assert Resume(manifest, inputs, 200).goes_on() == every
    listed(manifest, inputs, 200, count)
    done = set(range(count))
    assert Resume(manifest, inputs, 200).goes_on(done=done) == [None] * count + every[count:]


def test_a_dask_dataframe_is_compared_as_it_is_computed_and_only_where_something_is_left(manifest: Path) -> None:
    import dask.dataframe as dd

    computed = []

    def partition(part: pd.DataFrame) -> pd.DataFrame:
        computed.append(len(part))
        return part

    frame = pd.DataFrame({"a": range(40)})
    ddf = dd.from_pandas(frame, npartitions=4).map_partitions(partition, meta=frame)
    inputs = [TabularDataset.from_dask(ddf)]
    every = listed(manifest, inputs, 10_000)
    resume = Resume(manifest, inputs, 10_000)
    computed.clear()
    assert resume.goes_on(done={0, 1, 2, 3}) == [None] * 4
    assert computed == []
    assert resume.goes_on(done={0, 1, 2}) == [None, None, None, every[3]]
    changed = ddf.assign(a=ddf.a.where(ddf.a != 15, -1))
    other = Resume(manifest, [TabularDataset.from_dask(changed)], 10_000).compared()
    with pytest.raises(ResumeError, match=r"mini-batch 1 \(rows 10..20\) is not what it was"):
        list(other.mini_batches())


def test_a_query_is_one_mini_batch_once(tmp_path: Path, manifest: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "sales.db") as database:
        database.execute("create table sales (a int)")
    inputs = [TabularDataset.from_sql_query(f"sqlite:///{tmp_path}/sales.db", "select * from sales")]
    (query,) = listed(manifest, inputs, 1)
    assert Resume(manifest, inputs, 1).goes_on() == [query]
    assert Resume(manifest, inputs, 1).goes_on(done={0}) == [None]
    listed(manifest, inputs, 1, count=1)
    assert Resume(manifest, inputs, 1).goes_on(done={0}) == [None]
    listed(manifest, inputs, 1, count=0)
    assert Resume(manifest, inputs, 1).goes_on() == [query]

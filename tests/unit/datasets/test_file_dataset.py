"""Files as items: N at a time, in listing order."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from prs_dask.datasets import FileDataset, TabularDataset
from prs_dask.datasets.cutting import listed_again
from prs_dask.datasets.reading import read
from prs_dask.errors import InputError, ReadError, SettingsError
from prs_dask.mini_batches import BisectedMiniBatch, FileMiniBatch, decode, encode
from prs_dask.mini_batches.parts import Part


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.png").touch()
    return tmp_path


def test_files_come_n_at_a_time_and_the_last_mini_batch_may_be_shorter(folder):
    dataset = FileDataset.from_files(folder)
    batches = list(dataset.mini_batches(3, input_index=2))
    assert [[os.path.basename(path) for path in batch.paths] for batch in batches] == [
        ["0.png", "1.png", "2.png"],
        ["3.png", "4.png", "5.png"],
        ["6.png"],
    ]
    assert {batch.input for batch in batches} == {2}
    assert [batch.items for batch in batches] == [3, 3, 1]
    assert len(dataset.plan()) == 1
    assert len(dataset.plan(1, n=4)) == 4


def test_run_receives_a_fresh_list_of_paths(folder):
    dataset = FileDataset.from_files(folder)
    (batch,) = dataset.plan()
    spec = pickle.loads(pickle.dumps(dataset.reader()))
    paths = read(batch, spec)
    assert paths == [str(folder / f"{number}.png") for number in range(7)]
    paths.clear()
    assert len(read(batch, spec)) == 7


def gone(path):
    path.unlink()


def grown(path):
    path.write_text("more")


def touched(path):
    os.utime(path, (1, 1))


def became_a_folder(path):
    path.unlink()
    path.mkdir()


CHANGES = pytest.mark.parametrize(
    ("change", "told"),
    [
        (gone, "the file is gone: it was removed since it was listed, or this node .*"),
        (grown, r"the file was changed since it was listed \(0 bytes then, 4 now\)"),
        (touched, r"the file was changed since it was listed \(written anew\)"),
        (became_a_folder, "the file was changed since it was listed"),
    ],
)


@CHANGES
@pytest.mark.parametrize("keys", [(), ("part",)], ids=["listed", "grouped"])
def test_a_file_that_is_not_what_was_listed_is_an_error_of_its_mini_batch_only(folder, change, told, keys):
    dataset = FileDataset.from_files(folder, partition_format="{part}.png" if keys else None)
    dataset = dataclasses.replace(dataset, group_by=keys)
    batches, spec = dataset.plan(1), dataset.reader()
    change(folder / "3.png")
    for number, one in enumerate(batches):
        batch = decode(encode(one))
        if number == 3:
            with pytest.raises(ReadError, match=rf"^{folder}/3.png: {told}$"):
                read(batch, spec)
        else:
            assert read(batch, spec) == [f"{folder}/{number}.png"]


def test_of_a_mini_batch_of_many_files_the_changed_one_is_named(folder):
    dataset = FileDataset.from_files([folder, folder / "5.png"])
    (batch,) = dataset.plan(100)
    touched(folder / "5.png")
    with pytest.raises(ReadError, match="5.png"):
        read(batch, dataset.reader())
    (first, second) = (BisectedMiniBatch.of(batch, Part(0, *cut, 8)) for cut in ((0, 5), (5, 8)))
    assert len(read(first, dataset.reader())) == 5
    with pytest.raises(ReadError, match="5.png"):
        read(second, dataset.reader())


def test_a_link_that_leads_nowhere_is_an_error_of_its_mini_batch(folder):
    (folder / "3.png").unlink()
    (folder / "3.png").symlink_to(folder / "nowhere")
    dataset = FileDataset.from_files(folder)
    with pytest.raises(FileNotFoundError, match="3.png"):
        read(dataset.plan(1)[3], dataset.reader())


def test_files_of_which_no_version_was_kept_are_handed_out_as_they_are(folder):
    assert read(FileMiniBatch(0, ("/nowhere",)), FileDataset.from_files(folder).reader()) == ["/nowhere"]


def test_listed_again_local_files_have_the_versions_of_now(folder):
    dataset = FileDataset.from_files(folder)
    (batch,) = dataset.plan(100)
    touched(folder / "2.png")
    mixed = batch._replace(paths=(*batch.paths, "s3://b/a"), versions=(*batch.versions, "3-etag"))
    again = listed_again(mixed)
    assert again.versions == (*dataset.plan(100)[0].versions, "3-etag")
    assert listed_again(batch._replace(versions=())).versions == ()


def test_paths_are_absolute_whatever_the_current_folder_becomes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    dataset = FileDataset.from_files([".", Path("0.png"), "../" + folder.name + "/1.png", f"file://{folder}/2.png"])
    monkeypatch.chdir("/")
    dataset.check()
    assert all(os.path.isabs(path) for path in dataset.files())
    assert len(list(dataset.files())) == 10


def test_a_parent_folder_behind_a_link_is_the_one_the_system_means(folder):
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/x.png").touch()
    (folder / "link").symlink_to(folder / "deep/er")
    (found,) = FileDataset.from_files(folder / "link" / ".." / "x.png").files()
    assert os.path.samefile(found, folder / "deep/x.png")


def test_a_dataset_is_a_value_and_named_or_mounted_ones_are_copies(folder):
    dataset = FileDataset.from_files(folder, storage_options={"account_key": "canary"})
    named = dataset.as_named_input("images").as_mount("/data")
    assert (named.name, named.mode, named.path_on_compute) == ("images", "mount", "/data")
    assert named.as_download().mode == "download"
    assert dataset.name is None
    assert dataset.mode is None
    assert "canary" not in repr(named)
    assert pickle.loads(pickle.dumps(named)) == named
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.mode = "direct"
    assert (dataset.kind, dataset.item_word, dataset.default_mini_batch_size) == ("file", "file", 10)


def test_a_size_with_which_nothing_can_be_cut_is_refused(folder):
    with pytest.raises(SettingsError, match="mini_batch_size: found 0"):
        FileDataset.from_files(folder).plan(0)


def test_a_size_with_a_unit_is_refused_for_files():
    with pytest.raises(SettingsError, match="found '10MB'; allowed: a number of files"):
        FileDataset.from_files("x").plan("10MB")


@pytest.mark.parametrize("path", [[], None, 3, "", b"x", [3]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(InputError, match="path: found"):
        FileDataset.from_files(path)


def test_a_missing_path_is_told_by_check_and_by_listing(tmp_path):
    dataset = FileDataset.from_files(tmp_path / "missing")
    with pytest.raises(InputError, match="missing.*No such file"):
        dataset.check()
    with pytest.raises(InputError, match="missing.*No such file"):
        dataset.plan()


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="'download', 'mount', 'direct'"):
        FileDataset.from_files(tmp_path, mode="copy")


def test_to_dask_is_a_bag_with_a_partition_for_every_mini_batch(folder):
    bag = FileDataset.from_files(folder).to_dask(3)
    assert bag.npartitions == 3
    assert bag.compute(scheduler="synchronous") == [str(folder / f"{number}.png") for number in range(7)]


def test_reading_is_light_to_import():
    code = (
        "import sys, prs_dask.datasets.reading, prs_dask.datasets\n"
        "prs_dask.datasets.FileDataset, prs_dask.datasets.TabularDataset\n"
        "print([name for name in ('pandas', 'pyarrow', 'numpy', 'fsspec', 'dask') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["files", "table"])
def test_where_a_file_is_not_seen_it_is_told_what_to_do(tmp_path, kind):
    path = tmp_path / "one.csv"
    path.write_text("a\n1\n")
    dataset = FileDataset.from_files(path) if kind == "files" else TabularDataset.from_delimited_files(path)
    (batch,), spec = list(dataset.mini_batches(1000)), dataset.reader()
    gone(path)
    with pytest.raises(ReadError, match=r"this node \(.+\) does not see .* in a folder that all nodes share, or in a"):
        read(decode(encode(batch)), spec)

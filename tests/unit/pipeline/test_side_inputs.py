"""Side inputs and datasets among the arguments: their places, and what has none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, SettingsError, TabularDataset
from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.pipeline.local_arguments import local_arguments
from prs_dask.pipeline.side_inputs import Places
from prs_dask.stores import Store, store


@pytest.fixture
def step(tmp_path: Path) -> Any:
    (tmp_path / "script.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "one").touch()
    (tmp_path / "labels.txt").write_text("a\n")
    config = ParallelRunConfig(entry_script=tmp_path / "script.py", output_action="append_row", error_threshold=0)

    def make(inputs: Any = None, **more: Any) -> ParallelRunStep:
        return ParallelRunStep("sides", config, inputs or FileDataset.from_files(tmp_path / "items"), **more)

    return make


def arguments(step: ParallelRunStep) -> tuple[str, ...]:
    return local_arguments(step, Path("/output"), Places(step.placed, Path("/run/side_inputs")))


def test_a_dataset_of_one_file_or_folder_becomes_its_path(step: Any, tmp_path: Path) -> None:
    file = FileDataset.from_files(tmp_path / "labels.txt").as_named_input("labels")
    folder = FileDataset.from_files(tmp_path / "items").as_download()
    made = step(side_inputs=[file, tmp_path], arguments=["--labels", file, "--items", folder.as_mount(), 3])
    assert arguments(made) == ("--labels", str(tmp_path / "labels.txt"), "--items", str(tmp_path / "items"), "3")


def test_a_relative_path_is_made_absolute(step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = step(side_inputs=["labels.txt"], arguments=[FileDataset.from_files("labels.txt")])
    monkeypatch.chdir("/")
    assert arguments(made) == (str(tmp_path / "labels.txt"),)
    assert Places([], Path("/run")).of(tmp_path / "labels.txt") == str(tmp_path / "labels.txt")


@pytest.mark.parametrize("setting", ["side_inputs", "arguments"])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda here: FileDataset.from_files([here / "items", here / "labels.txt"]), "a dataset of 2 paths"),
        (lambda here: FileDataset.from_files(here / "*.txt"), "the folder instead of a pattern"),
        (lambda here: FileDataset.from_files(here / "nowhere"), "does not exist"),
        (lambda here: TabularDataset.from_pandas(pd.DataFrame({"a": [1]})), "a PandasDataset, which has no path"),
        (lambda here: FileDataset.from_files(here / "items").as_mount("x/y"), "an absolute path"),
        (lambda here: FileDataset.from_files(here / "items").as_mount(str(here)), "where something else lies"),
    ],
)
def test_what_has_no_one_place_is_refused(step: Any, tmp_path: Path, setting: str, make: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        step(**{setting: [make(tmp_path)]})
    assert caught.value.faults[0].name == setting


@pytest.mark.parametrize(
    ("side_input", "told"),
    [("s3://bucket/labels", "local paths, or a FileDataset"), ("nowhere", "does not exist"), (3, "found 3")],
)
def test_a_side_input_that_no_process_could_read_is_refused(step: Any, side_input: object, told: str) -> None:
    with pytest.raises(SettingsError, match=f"side_inputs: found .*{told}|side_inputs: {told}"):
        step(side_inputs=[side_input])


def test_an_input_with_a_place_that_nothing_leads_to_is_refused(step: Any, tmp_path: Path) -> None:
    mounted = FileDataset.from_files(tmp_path / "items").as_mount(str(tmp_path / "there"))
    with pytest.raises(SettingsError, match="inputs: found as_mount"):
        step(mounted)
    assert arguments(step(mounted, arguments=[mounted])) == (str(tmp_path / "there"),)


def test_links_lead_to_the_data_and_are_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    link = tmp_path / "deep" / "link"
    dataset = FileDataset.from_files(data).as_mount(str(link))
    links = Places([dataset, dataset, "x"], tmp_path)
    links.link()
    links.bring(Cancellation())
    assert os.path.samefile(link, data)
    links.remove()
    assert not os.path.lexists(link)
    links.remove()


def test_what_lay_there_before_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for place in (tmp_path / "link", data):
        places = Places([FileDataset.from_files(data).as_mount(str(place))], tmp_path)
        places.link()
        places.remove()
    assert (tmp_path / "link").is_symlink()
    assert data.is_dir()


def test_a_link_that_cannot_be_made_is_told_and_the_others_are_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.touch()
    good = FileDataset.from_files(data).as_mount(str(tmp_path / "good"))
    with pytest.raises(SettingsError, match="side_inputs: found as_mount"):
        Places([good, FileDataset.from_files(data).as_mount(str(data / "below"))], tmp_path).link()
    assert not (tmp_path / "good").exists()


def test_names_lead_to_places(tmp_path: Path) -> None:
    data = FileDataset.from_files(tmp_path).as_named_input("data")
    several = FileDataset.from_files([tmp_path, tmp_path]).as_named_input("several")
    side = FileDataset.from_files(tmp_path).as_named_input("side")
    named = Places(["x", side, FileDataset.from_files(tmp_path)], tmp_path).named([data, several])
    assert named == (("data", str(tmp_path)), ("side", str(tmp_path)))


def test_what_lies_in_a_store_has_a_place_below_the_run_folder(step: Any, tmp_path: Path) -> None:
    model = FileDataset.from_files("s3://bucket/models/best/")
    labels = FileDataset.from_files("s3://bucket/labels.txt").as_mount(str(tmp_path / "link"))
    made = step(side_inputs=[model, labels], arguments=[model, labels])
    assert arguments(made) == ("/run/side_inputs/0/best", str(tmp_path / "link"))


def test_a_name_may_not_be_the_number_of_another_input(step: Any, tmp_path: Path) -> None:
    files = FileDataset.from_files(tmp_path / "items")
    with pytest.raises(SettingsError, match="inputs: found the name '1' twice"):
        step([files.as_named_input("1"), files])


def test_what_is_brought_is_let_go_of_between_two_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("memory://side-inputs/labels", bytes(1000))
    cancellation, offsets = Cancellation(), []

    def read_at(self: Store, url: str, offset: int, *more: Any, **settings: Any) -> bytes:
        offsets.append(offset)
        if offset:
            cancellation.ask()
        return read_before(self, url, offset, *more, **settings)

    read_before = Store.read_at
    monkeypatch.setattr(store, "REQUEST_BYTES", 100)
    monkeypatch.setattr(Store, "read_at", read_at)
    places = Places([FileDataset.from_files("memory://side-inputs/labels")], tmp_path / "side_inputs")
    with pytest.raises(Canceled):
        places.bring(cancellation)
    memory.rm("memory://side-inputs", recursive=True)
    assert offsets == [0, 100]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

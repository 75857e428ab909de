"""Where an output goes."""

from pathlib import Path

import pytest

from prs_dask import OutputFileDatasetConfig, SettingsError
from prs_dask.pipeline.outputs import output_path


def test_nothing_is_the_run_folder():
    assert output_path(None) is None
    assert output_path(OutputFileDatasetConfig()) is None
    assert output_path(OutputFileDatasetConfig("scores")) is None


@pytest.mark.parametrize("output", ["scores", Path("scores"), OutputFileDatasetConfig(destination="scores")])
def test_a_relative_folder_lies_where_the_driver_is_when_it_is_named(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_path(output) == tmp_path / "scores"


def test_a_file_url_is_a_folder():
    assert output_path("file:///data/scores") == Path("/data/scores")


@pytest.mark.parametrize("output", ["", 3, b"scores", ["a"], "s3://bucket/scores", "abfs://x@y/z"])
def test_what_is_no_local_folder_is_refused(output):
    with pytest.raises(SettingsError, match="output"):
        output_path(output)


def test_as_mount_says_where_and_as_upload_changes_nothing():
    config = OutputFileDatasetConfig("scores", "here")
    assert config.as_mount("there").destination == "there"
    assert config.as_mount().destination == "here"
    assert config.as_upload() == config

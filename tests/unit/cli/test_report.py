"""``prs-dask report``: writes a page and says where."""

import pytest
from click.testing import CliRunner

from prs_dask.cli import main
from prs_dask.logs.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.logs.mkdir(parents=True)
    folder.write_record({"name": "score", "created": "2026-01-01T00:00:00Z"})
    return folder


def test_the_report_lies_in_the_run_folder(folder):
    done = CliRunner().invoke(main, ["report", str(folder.path)])
    assert (done.exit_code, done.output.strip()) == (0, str(folder.report))
    assert folder.report.read_text().startswith("<!doctype html>")


def test_it_can_lie_elsewhere_and_be_opened(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", opened.append)
    done = CliRunner().invoke(main, ["report", str(folder.path), "--output", str(tmp_path / "x.html"), "--open"])
    assert done.exit_code == 0
    assert opened == [(tmp_path / "x.html").as_uri()]
    assert not folder.report.exists()


def test_a_folder_of_another_kind_is_refused(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert "the run folder of a step run" in done.output

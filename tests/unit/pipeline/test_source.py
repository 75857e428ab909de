"""The source travels whole, and the same folder is the same archive."""

import io
import os
import stat
import zipfile

import pytest

from prs_dask import SettingsError
from prs_dask.pipeline.source import SETTINGS_FILE, pack_source


def members(archive):
    return {info.filename: info for info in zipfile.ZipFile(io.BytesIO(archive.data)).infolist()}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "score.py"
    path.write_text("def run(mini_batch): return mini_batch\n")
    return path


def test_without_a_source_directory_only_the_script_travels(script, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    archive = pack_source(script, None)
    assert list(members(archive)) == ["score.py"]
    assert archive.script == "score.py"


def test_the_settings_file_beside_the_script_comes_along(script, tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("{}")
    assert set(members(pack_source(script, None))) == {"score.py", SETTINGS_FILE}


def test_a_source_directory_travels_with_its_folders_but_not_with_what_tools_keep_there(script, tmp_path):
    for name in ("package/module.py", "__pycache__/x.pyc", ".git/config", "docs/a.md", "tests/b.py", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(members(pack_source(script, tmp_path))) == {
        "score.py", "package/module.py", "docs/a.md", "tests/b.py", ".hidden",
    }  # fmt: skip


def test_a_script_may_lie_deep_in_the_source_directory(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    script = tmp_path / "a" / "b" / "score.py"
    script.write_text("x")
    assert pack_source(script, tmp_path).script == "a/b/score.py"


def test_a_script_outside_of_the_source_directory_is_refused(script, tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(SettingsError, match="within source_directory"):
        pack_source(script, tmp_path / "source")
    with pytest.raises(SettingsError, match="within source_directory"):
        pack_source(tmp_path / "source" / ".." / "score.py", tmp_path / "source")


@pytest.mark.parametrize("with_directory", [True, False])
def test_a_script_that_is_a_link_travels_as_the_file_it_leads_to(script, tmp_path, with_directory):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "linked.py").symlink_to(script)
    archive = pack_source(folder / "linked.py", folder if with_directory else None)
    assert archive.script == "linked.py"
    assert zipfile.ZipFile(io.BytesIO(archive.data)).read("linked.py") == script.read_bytes()


def test_a_source_directory_may_be_reached_by_a_link(script, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    script.rename(folder / "score.py")
    (tmp_path / "link").symlink_to(folder)
    assert pack_source(tmp_path / "link" / "score.py", folder).script == "score.py"


def test_links_that_lead_nowhere_or_around_in_a_circle_are_left_out(script, tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert set(members(pack_source(script, tmp_path))) == {"score.py"}


def test_modes_are_kept(script, tmp_path):
    script.chmod(0o750)
    info = members(pack_source(script, None))["score.py"]
    assert stat.S_IMODE(info.external_attr >> 16) == 0o750


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(script, tmp_path):
    (tmp_path / "z.py").write_text("1")
    (tmp_path / "a.py").write_text("2")
    before = pack_source(script, tmp_path)
    os.utime(script, (1, 1))
    assert pack_source(script, tmp_path) == before
    (tmp_path / "a.py").write_text("3")
    assert pack_source(script, tmp_path).digest != before.digest


def test_files_older_than_zip_archives_can_tell_travel_too(script):
    os.utime(script, (0, 0))
    assert "score.py" in members(pack_source(script, None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_that_cannot_be_read_is_named(script, tmp_path):
    (tmp_path / "locked").write_text("x")
    (tmp_path / "locked").chmod(0)
    with pytest.raises(SettingsError, match="locked"):
        pack_source(script, tmp_path)

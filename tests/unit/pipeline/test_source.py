"""The source travels whole, and the same folder is the same archive."""

import io
import os
import stat
import subprocess
import zipfile

import pytest

from prs_dask import SettingsError
from prs_dask.pipeline import source_files
from prs_dask.pipeline.source import SETTINGS_FILE, changed_files, pack_source, unpack_source


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


def test_links_within_the_folder_still_work_where_it_is_unpacked(script, tmp_path):
    source = tmp_path / "source"
    (source / "package").mkdir(parents=True)
    (source / "package" / "module.py").write_text("x = 1")
    script.rename(source / "score.py")
    for link, target in {
        "relative": "package/module.py",
        "absolute": source / "package" / "module.py",
        "folder": "package",
        "package/up": "../score.py",
        "circle": source,
        "nowhere": "missing",
        ".#lock": "user@host.1234",
    }.items():
        (source / link).symlink_to(target)
    (source / "left out").symlink_to("/nowhere/at/all")
    archive = pack_source(source / "score.py", source)
    target = tmp_path / "unpacked"
    unpack_source(archive.data, target)
    links = {path.relative_to(target).as_posix(): os.readlink(path) for path in target.rglob("*") if path.is_symlink()}
    assert links == {
        "relative": "package/module.py",
        "absolute": "package/module.py",
        "folder": "package",
        "package/up": "../score.py",
        "circle": ".",
        "nowhere": "missing",
        ".#lock": "user@host.1234",
    }
    assert (target / "folder" / "module.py").read_text() == (target / "absolute").read_text() == "x = 1"
    assert (target / "circle" / "package" / "up").read_text() == (source / "score.py").read_text()


@pytest.mark.parametrize("through", ["", "another"])
def test_a_link_that_leads_out_is_refused_with_its_name(script, tmp_path, through):
    source = tmp_path / "source"
    source.mkdir()
    script.rename(source / "score.py")
    (tmp_path / "common.py").write_text("x")
    (source / (through or "common.py")).symlink_to(tmp_path / "common.py")
    if through:
        (source / "z.py").symlink_to(through)
    with pytest.raises(SettingsError, match=f"links that lead out of it: {through or 'common.py'} -> ") as caught:
        pack_source(source / "score.py", source)
    assert ">> " + str(source / ".amlignore") in str(caught.value)
    (source / ".amlignore").write_text("common.py\nanother\nz.py\n")
    assert set(members(pack_source(source / "score.py", source))) == {"score.py", ".amlignore"}


@pytest.mark.parametrize("name", [".amlignore", ".gitignore"])
def test_what_the_ignore_file_names_stays_at_home(script, tmp_path, name):
    for path in ("data/big.bin", "data/keep.txt", "a.log", "deep/a.log", "deep/data/x", "keep.log", "build/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / name).write_text("# comment\n/data/*\n!/data/keep.txt\n*.log\n!keep.log\nbuild/\n")
    assert set(members(pack_source(script, tmp_path))) == {
        "score.py", name, "data/keep.txt", "deep/data/x", "keep.log",
    }  # fmt: skip


def test_an_amlignore_counts_alone(script, tmp_path):
    (tmp_path / ".amlignore").write_text("a.txt\n")
    (tmp_path / ".gitignore").write_text("b.txt\n")
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    assert set(members(pack_source(script, tmp_path))) == {"score.py", ".amlignore", ".gitignore", "b.txt"}


def test_what_git_keeps_secret_is_not_sent(script, tmp_path):
    for path in ("src/secrets/key", "src/module.py", "token"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / ".gitignore").write_text("\ufefftoken\nsecrets/\n!/src/\n")
    assert set(members(pack_source(script, tmp_path))) == {"score.py", ".gitignore", "src/module.py"}


def test_an_ignore_file_in_a_subfolder_counts_for_nothing(script, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / ".gitignore").write_text("*\n")
    (tmp_path / "package" / "module.py").touch()
    names = {"score.py", "package/.gitignore", "package/module.py"}
    assert set(members(pack_source(script, tmp_path))) == names


def test_an_ignore_file_that_cannot_be_read_is_refused(script, tmp_path):
    (tmp_path / ".amlignore").write_bytes("data/\n".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"\.amlignore: .* allowed: git's patterns, in UTF-8"):
        pack_source(script, tmp_path)


def test_what_the_step_run_makes_stays_at_home_wherever_links_lead(script, tmp_path):
    source = tmp_path / "source"
    for name in ("source/deep/out", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    script.rename(source / "score.py")
    (tmp_path / "link").symlink_to(source)
    (source / "scores").symlink_to(tmp_path / "elsewhere")
    (source / "deep" / "out" / "rows").touch()
    (source / "deep" / "kept").touch()
    made = [str(tmp_path / name) for name in ("link/deep/out", "link/scores", "elsewhere/more", "nowhere")]
    assert set(members(pack_source(source / "score.py", source, made))) == {"score.py", "deep/kept"}
    assert set(members(pack_source(tmp_path / "link" / "score.py", tmp_path / "link", made))) == {
        "score.py", "deep/kept",
    }  # fmt: skip


def test_a_run_folder_is_no_source_whatever_its_name(script, tmp_path):
    for name in ("a/first/run.json", "a/first/journal.jsonl", "a/first/logs/x", "b/run.json", ".prs-dask-run-1/coming"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "run.json").touch()
    (tmp_path / "journal.jsonl").touch()
    assert set(members(pack_source(script, tmp_path))) == {"score.py", "b/run.json", "run.json", "journal.jsonl"}


def test_a_script_that_the_ignore_file_names_is_told(script, tmp_path):
    (tmp_path / ".gitignore").write_text("*.py\n")
    with pytest.raises(SettingsError, match="entry_script: found score.py, which is left out by .gitignore"):
        pack_source(script, tmp_path)


def test_a_folder_with_a_dataset_in_it_is_refused_before_it_is_read(script, tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(3):
        with open(tmp_path / "data" / f"{number}.bin", "wb") as file:
            file.truncate(200 << 20)
    with pytest.raises(SettingsError) as caught:
        pack_source(script, tmp_path)
    told = str(caught.value)
    assert "the largest: data/ 600.0 MB (3 files), score.py" in told
    assert told.endswith(f"echo /data/ >> {tmp_path}/.amlignore")
    (tmp_path / ".amlignore").write_text("/data/\n")
    assert len(pack_source(script, tmp_path).data) < 1000


@pytest.mark.parametrize("name", ["it's [1] *", "back\\slash", "new ", "-n"])
def test_the_line_to_add_leaves_out_what_it_names(script, tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        file.truncate(400 << 20)
    with pytest.raises(SettingsError) as caught:
        pack_source(script, tmp_path)
    line = str(caught.value).partition("try: ")[2]
    subprocess.run(["bash", "-c", line], check=True)
    assert set(members(pack_source(script, tmp_path))) == {"score.py", ".amlignore"}


def test_too_many_files_are_refused(script, tmp_path, monkeypatch):
    monkeypatch.setattr(source_files, "MOST_FILES", 2)
    monkeypatch.setattr(source_files, "MOST_LOOKED_AT", 3)
    (tmp_path / "many").mkdir()
    for number in range(5):
        (tmp_path / "many" / str(number)).touch()
    (tmp_path / ".gitignore").touch()
    with pytest.raises(SettingsError, match=r"\(3 files\) and more .*the largest: many/.* >> .*/\.gitignore"):
        pack_source(script, tmp_path)


def test_names_that_are_no_utf8_are_refused(script, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(SettingsError, match="no UTF-8"):
        pack_source(script, tmp_path)


def test_empty_folders_and_modes_arrive(script, tmp_path):
    (tmp_path / "empty").mkdir()
    script.chmod(0o754)
    archive = pack_source(script, tmp_path)
    target = tmp_path / "unpacked"
    unpack_source(archive.data, target)
    assert (target / "empty").is_dir()
    assert stat.S_IMODE((target / "score.py").stat().st_mode) == 0o754


def test_a_link_that_leads_out_of_the_archive_is_not_made(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("a/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "../../elsewhere")
    with pytest.raises(SettingsError, match="leads out of the source"):
        unpack_source(buffer.getvalue(), tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").rglob("*"))


def test_changed_links_and_files_are_told(script, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    script.rename(source / "score.py")
    (source / "link").symlink_to("score.py")
    before = pack_source(source / "score.py", source).data
    (source / "empty").mkdir()
    assert changed_files(before, pack_source(source / "score.py", source).data) == []
    (source / "link").unlink()
    (source / "link").symlink_to("other")
    (source / "new").touch()
    now = pack_source(source / "score.py", source).data
    assert changed_files(before, now) == [("link", "changed"), ("new", "added")]


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

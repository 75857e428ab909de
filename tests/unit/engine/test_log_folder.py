"""A script's own log files are found as they come; what is no file is told, not followed."""

import json
import os
import socket

import pytest

from prs_dask.engine import log_folder, log_shipping
from prs_dask.engine.log_folder import LogFolder


@pytest.fixture
def own(tmp_path):
    (tmp_path / "logs" / "files" / "below" / "deeper").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def files(own):
    return own / "logs" / "files"


def test_files_come_with_their_names_below_the_folder_whatever_bytes_those_have(own, files):
    names = [b"a.txt", b"below/b c.txt", b"below/deeper/caf\xe9\n<b>.txt", b"\xff\xfe", b".hidden", b"n" * 255]
    for name in names:
        with open(os.path.join(os.fsencode(files), name), "wb") as file:
            file.write(name)
    folder = LogFolder(own, 0, 1)
    found = folder.with_news()
    assert sorted(file.name for file in found) == sorted(names)
    assert all(file.next_piece()["data"] == file.name for file in found)
    assert folder.news() is None
    assert folder.with_news() == []


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    folder = LogFolder(tmp_path, 0, 1)
    assert folder.with_news() == folder.files() == []
    folder.remove()


def test_links_pipes_and_sockets_are_told_once_and_left_alone(own, files):
    (files / "to-a-file").symlink_to("/etc/hostname")
    (files / "to-a-folder").symlink_to("/etc")
    os.mkfifo(files / "pipe\x1b[31m")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(files)
        listening.bind("socket")
        os.chdir(here)
        folder = LogFolder(own, 0, 1)
        assert folder.files() == folder.files() == []
    told = folder.news()
    assert (told["stream"], told["node"], told["process"]) == ("log", 0, 1)
    assert sorted(told["data"].decode().splitlines()) == [
        r"[prs_dask: log_dir: pipe\x1b[31m is not sent: it is a pipe]",
        "[prs_dask: log_dir: socket is not sent: it is a socket]",
        "[prs_dask: log_dir: to-a-file is not sent: it is a link]",
        "[prs_dask: log_dir: to-a-folder is not sent: it is a link]",
    ]
    assert folder.news() is None


def test_of_very_many_files_the_first_come_and_it_is_told_that_others_do_not(own, files, monkeypatch):
    monkeypatch.setattr(log_folder, "MOST_FILES", 3)
    for number in range(5):
        (files / str(number)).touch()
    folder = LogFolder(own, 0, 1)
    assert len(folder.files()) == len(folder.files()) == 3
    assert b"only the first 3 files are sent" in folder.news()["data"]
    assert folder.news() is None


def test_what_is_not_sent_is_told_as_json_where_the_log_is(own, files):
    (files / "to-a-file").symlink_to("/etc/hostname")
    folder = LogFolder(own, 0, 1, as_json=True)
    folder.files()
    assert json.loads(folder.news()["data"])["message"] == "log_dir: to-a-file is not sent: it is a link"


def test_where_nothing_can_be_noted_files_come_nevertheless(own, files):
    (files / "a").write_text("a")
    (own / "logs" / "sent").write_text("in its place")
    [file] = LogFolder(own, 0, 1).files()
    assert file.next_piece()["data"] == b"a"
    file.note_call(1)
    assert file.resume() == (0, 0)


def test_the_folder_and_what_was_noted_of_it_can_be_removed(own, files):
    (files / "a").write_text("a")
    folder = LogFolder(own, 0, 1)
    [file] = folder.files()
    assert file.next_piece()["data"] == b"a"
    file.note_call(1)
    assert len(list((own / "logs" / "sent").iterdir())) == 1
    folder.remove()
    assert list((own / "logs").iterdir()) == []


@pytest.mark.parametrize("depth", [101, 1200])
def test_what_lies_below_very_many_folders_is_told_once_and_the_others_come(own, files, depth):
    here = os.getcwd()
    os.chdir(files)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    (files / "a").write_text("a")
    (files / "d/d/b").write_text("b")
    folder = LogFolder(own, 0, 1)
    assert {file.name for file in folder.files()} == {file.name for file in folder.files()} == {b"a", b"d/d/b"}
    told = folder.news()["data"]
    assert told.count(b"\n") == 1
    assert b"is not sent: it is a folder below 100 others" in told
    assert folder.news() is None
    folder.remove()
    assert not files.exists()


def test_when_nobody_writes_any_more_all_files_are_looked_at_once_and_then_those_with_more(own, files, monkeypatch):
    monkeypatch.setattr(log_shipping, "PIECE_BYTES", 10)
    (files / "short").write_text("a")
    (files / "long").write_text("b" * 15)
    folder = LogFolder(own, 0, 1)
    found = folder.with_news(ended=True)
    assert {file.name for file in found} == {b"short", b"long"}
    for file in found:
        assert file.next_piece(ended=True)
    [long] = folder.with_news(ended=True)
    assert long.next_piece(ended=True)["data"] == b"b" * 5
    assert folder.with_news(ended=True) == []

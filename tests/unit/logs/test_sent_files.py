"""Files of processes in the logs tree: added to, or replaced as a whole."""

import pytest

from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.sent_files import SentFiles
from prs_dask.logs.tree import LogTree


@pytest.fixture
def sent(tmp_path):
    files = LogFiles(tmp_path)
    yield SentFiles(files)
    files.close()
    assert files.failures == 0


def test_pieces_are_added_to_the_end(sent, tmp_path):
    sent.add("user/a", b"one ")
    sent.add("user/a", b"two")
    assert (tmp_path / "user/a").read_bytes() == b"one two"


def test_a_file_that_comes_whole_takes_the_old_ones_place_with_its_last_piece_and_may_grow_again(sent, tmp_path):
    sent.add("a", b"old")
    sent.add("a", b"new ", whole=True, more=True)
    assert (tmp_path / "a").read_bytes() == b"old"
    sent.add("a", b"one", more=False)
    assert (tmp_path / "a").read_bytes() == b"new one"
    sent.add("a", b", longer")
    assert (tmp_path / "a").read_bytes() == b"new one, longer"
    sent.add("a", b"", whole=True)
    assert (tmp_path / "a").read_bytes() == b""
    sent.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_does_not_come_to_its_end_leaves_the_old_one(sent, tmp_path):
    sent.add("a", b"old")
    sent.add("a", b"half", whole=True, more=True)
    sent.add("a", b"half again", whole=True, more=True)
    sent.close()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_of_the_longest_kind_can_be_replaced(sent, tmp_path):
    sent.add("n" * 255, b"old")
    sent.add("n" * 255, b"new", whole=True)
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@pytest.mark.parametrize("name", [b"", b"/etc/passwd", b"../x", b"a/../../x", b"a//b", b"a/.", b"a\0b"])
def test_a_name_that_leads_elsewhere_is_a_fault_of_the_engine_and_nothing_is_written(tmp_path, name):
    tree = LogTree(tmp_path / "logs")
    tree.add_stream("log_dir", 0, 1, b"data", name)
    tree.files.close()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["logs/sys/error/logs.txt"]
    assert "allowed: names below a folder" in written[0].read_text()


def test_files_of_the_script_lie_beside_its_log_a_folder_for_each_process(tmp_path):
    tree = LogTree(tmp_path)
    tree.add_stream("log_dir", 2, 7, b"data", b"below/caf\xe9.txt")
    tree.files.close()
    (written,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written.relative_to(tmp_path).parts[:-1] == ("user", "entry_script_log", "2", "process007", "below")
    assert written.read_bytes() == b"data"

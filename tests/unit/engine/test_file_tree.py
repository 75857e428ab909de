"""Trees as lists and streams: what arrives is what was sent, wherever the stream was cut."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prs_dask.engine.file_tree import (
    Entry,
    TreeReader,
    TreeWriter,
    is_same_tree,
    list_tree,
    pack_entries,
    unpack_entries,
)


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def look(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """All below a folder: content or target, mode and time."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        name = os.fsencode(os.path.relpath(path, folder))
        if path.is_symlink():
            found[name] = (os.readlink(path),)
        else:
            content = path.read_bytes() if path.is_file() else None
            found[name] = (content, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    return found


def carry(source: Path, target: Path, length: int, *, pieces: int | None = None) -> TreeWriter:
    """So many pieces, or all of them."""
    entries = unpack_entries(pack_entries(list_tree(source)))
    reader, writer = TreeReader(str(source), entries), TreeWriter(target, entries)
    while writer.offset < writer.size and pieces != 0:
        writer.write(reader.read(writer.offset, length))
        pieces = None if pieces is None else pieces - 1
    if pieces is None or writer.offset == writer.size:
        writer.finish()
    writer.close()
    return writer


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = make(tmp_path / "tree", {"a": b"0123456789", "b/c/d": b"x" * 1000, "b/empty": b"", "z": b"last"})
    (folder / "b" / os.fsdecode(b"caf\xe9\n ")).write_bytes(b"odd")
    (folder / "nothing").mkdir()
    (folder / "a").chmod(0o750)
    (folder / "z").chmod(0o400)
    (folder / "link").symlink_to("b/c/d")
    (folder / "b" / "folder").symlink_to(folder / "b" / "c")
    (folder / "circle").symlink_to(".")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("length", [1, 7, 1 << 20])
def test_a_tree_arrives_as_it_was(tree: Path, tmp_path: Path, length: int) -> None:
    target = tmp_path / "target"
    carry(tree, target, length)
    (tree / "pipe").unlink()
    os.utime(tree, ns=(target.stat().st_mtime_ns,) * 2)
    expected = look(tree)
    expected[b"b/folder"] = ("c",)
    assert look(target) == expected


def test_a_file_arrives_as_it_was(tmp_path: Path) -> None:
    for content in (b"", b"abc"):
        (tmp_path / "file").write_bytes(content)
        carry(tmp_path / "file", tmp_path / "copy", 2)
        assert (tmp_path / "copy").read_bytes() == content


def test_what_a_link_leads_to_outside_is_sent_too(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", {"blob": b"weights", "folder/x": b"1"})
    tree = make(tmp_path / "tree", {"a": b"1"})
    (tree / "blob").symlink_to(outside / "blob")
    (tree / "folder").symlink_to(outside / "folder")
    (outside / "folder" / "back").symlink_to(tree)
    (outside / "folder" / "up").symlink_to(outside / "folder")
    carry(tree, tmp_path / "target", 3)
    target = tmp_path / "target"
    assert {name.decode(): one[0] for name, one in look(target).items() if name != b"."} == {
        "a": b"1",
        "blob": b"weights",
        "folder": None,
        "folder/x": b"1",
        "folder/back": "..",
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 12), max_size=6),
    length=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 4), max_size=4),
    torn=st.integers(0, 8),
)
def test_whoever_goes_on_finds_the_beginning(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], length: int, cuts: list[int], torn: int
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    source = make(folder / "source", {f"{place}": bytes([place]) * size for place, size in enumerate(sizes)})
    source.mkdir(exist_ok=True)
    target = folder / "target"
    for pieces in cuts:
        carry(source, target, length, pieces=pieces)
        written = sorted(target.glob("*"))
        if written and torn:  # who was killed may have written a part of a piece
            last = written[-1]
            size = last.stat().st_size
            os.truncate(last, max(0, size - torn))
    carry(source, target, length)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }


@pytest.mark.parametrize("how", ["grown", "shorter", "replaced", "written", "gone"])
def test_a_file_that_was_changed_meanwhile_is_told(tmp_path: Path, how: str) -> None:
    tree = make(tmp_path / "tree", {"a": b"0123456789"})
    entries = list_tree(tree)
    file = tree / "a"
    if how == "gone":
        file.unlink()
    elif how == "replaced":
        status = file.stat()
        (tree / "b").write_bytes(b"9876543210")
        os.utime(tree / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tree / "b").rename(file)
    else:
        file.write_bytes({"grown": b"0123456789a", "shorter": b"1", "written": b"9876543210"}[how])
        os.utime(file, ns=(1, 1))
    with pytest.raises(OSError, match="changed" if how != "gone" else "No such file"):
        TreeReader(str(tree), entries).read(0, 5)


def test_a_stream_that_is_too_long_or_too_short_is_told(tmp_path: Path) -> None:
    entries = list_tree(make(tmp_path / "tree", {"a": b"01"}))
    writer = TreeWriter(tmp_path / "target", entries)
    writer.write(b"0")
    with pytest.raises(OSError, match="1 bytes have not come"):
        writer.finish()
    writer = TreeWriter(tmp_path / "target", entries)
    assert writer.offset == 1
    with pytest.raises(OSError, match="more has come"):
        writer.write(b"12")


@pytest.mark.parametrize("name", [b"../x", b"/x", b"a/../../x"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: bytes) -> None:
    entries = [Entry("d", b"", 0o700, 0, 0, 0, 0), Entry("f", name, 0o600, 1, 0, 0, 0)]
    with pytest.raises(OSError, match="leads out"):
        TreeWriter(tmp_path / "target", entries)


class TestSameTree:
    def test_it_is_the_same_as_itself(self, tree: Path) -> None:
        assert is_same_tree(list_tree(tree), unpack_entries(pack_entries(list_tree(tree))))

    def test_a_copy_with_all_times_is_another(self, tmp_path: Path) -> None:
        one, other = (make(tmp_path / name, {"a": b"1"}) for name in ("one", "other"))
        for path in ("a", "."):
            status = (one / path).stat()
            os.utime(other / path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert not is_same_tree(list_tree(one), list_tree(other))

    def test_one_with_a_file_more_is_another(self, tree: Path) -> None:
        before = list_tree(tree)
        (tree / "more").touch()
        assert not is_same_tree(before, list_tree(tree))

    def test_one_with_a_file_written_anew_is_another(self, tree: Path) -> None:
        before = list_tree(tree)
        (tree / "b" / "c" / "d").write_bytes(b"y" * 1000)
        assert not is_same_tree(before, list_tree(tree))

"""Side inputs on a node: where the driver's files are not, they come once, and whoever goes on is not misled."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prs_dask.clusters import abandoned
from prs_dask.engine import node_preparation
from prs_dask.engine.node_preparation import NodePreparation, Over, on_node
from prs_dask.engine.parcels import PIECE_BYTES, SentTree, SideInput, sight
from prs_dask.engine.spool import NodeFolder


class Driver:
    """Answers calls for pieces of one side input, with number 1."""

    def __init__(self, data: Path) -> None:
        self.sent = SentTree(str(data))
        self.calls: list[tuple[bool, int]] = []
        self.over_after = 10**9

    async def __call__(self, call: str, parcel: int, offset: int, listing: bool) -> dict[str, Any]:
        assert (call, parcel) == ("piece", 1)
        await asyncio.sleep(0)
        if len(self.calls) >= self.over_after:
            return {}
        self.calls.append((listing, offset))
        data = self.sent.listing() if listing else self.sent.read(offset, PIECE_BYTES)
        return {"data": data[offset:] if listing else data}

    @property
    def content(self) -> list[int]:
        return [offset for listing, offset in self.calls if not listing]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeFolder]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    folder = NodeFolder("run", "node")
    yield folder
    folder.close()
    assert not list((tmp_path / "tmp").iterdir())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(os.urandom(2 * PIECE_BYTES + 5))
    return folder


def elsewhere(data: Path, *links: str) -> SideInput:
    """As a driver of another host would tell it."""
    return SideInput(str(data), links, ("another kernel", 1, 2))


def away(data: Path) -> Path:
    """The same files for the driver, under a path that is not there for workers."""
    moved = data.with_name("on the driver")
    data.rename(moved)
    return moved


def run(preparation: NodePreparation, side_input: SideInput) -> str:
    return asyncio.run(preparation.side_input(1, side_input))


def test_who_sees_the_drivers_file_uses_it_there(node: NodeFolder, data: Path) -> None:
    driver = Driver(data)
    preparation = NodePreparation(driver, node, lambda: False)
    assert run(preparation, SideInput(str(data), (), sight(data))) == str(data)
    assert driver.calls == []
    assert run(preparation, elsewhere(data)) == str(data), "through a file system that both see"
    assert driver.content == []
    assert preparation.told == []


@pytest.mark.parametrize("how", ["copy", "file more", "missing"])
def test_other_files_of_the_same_names_are_not_taken_for_it(node: NodeFolder, data: Path, how: str) -> None:
    driver = Driver(data if how == "file more" else away(data))
    driver.sent.listing()
    if how == "copy":
        shutil.copytree(driver.sent._path, data)
    elif how == "file more":
        (data / "more").touch()
    preparation = NodePreparation(driver, node, lambda: False)
    place = run(preparation, elsewhere(data))
    assert place == str(node.path / "parcel-1" / "model")
    assert (Path(place) / "weights").read_bytes() == (Path(driver.sent._path) / "weights").read_bytes()
    assert driver.content == [0, PIECE_BYTES, 2 * PIECE_BYTES]
    (told,) = preparation.told
    assert "1 file, 4.0 MB" in told


def test_all_workers_of_a_node_together_fetch_once(node: NodeFolder, data: Path) -> None:
    moved = away(data)
    driver = Driver(moved)

    async def all_at_once() -> list[str]:
        preparations = [NodePreparation(driver, node, lambda: False) for _ in range(5)]
        return list(await asyncio.gather(*(one.side_input(1, elsewhere(data)) for one in preparations)))

    assert set(asyncio.run(all_at_once())) == {str(node.path / "parcel-1" / "model")}
    assert driver.content == [0, PIECE_BYTES, 2 * PIECE_BYTES]
    assert len(driver.calls) == 4


def test_the_next_one_goes_on_where_one_was_killed(node: NodeFolder, data: Path) -> None:
    moved = away(data)
    driver = Driver(moved)
    driver.over_after = 3  # the list, and two of three pieces
    with pytest.raises(Over):
        run(NodePreparation(driver, node, lambda: False), elsewhere(data))
    driver.over_after = 10**9
    preparation = NodePreparation(driver, node, lambda: False)
    place = run(preparation, elsewhere(data))
    assert (Path(place) / "weights").read_bytes() == (moved / "weights").read_bytes()
    assert driver.content[:2] == [0, PIECE_BYTES]
    assert driver.content[2:] in ([2 * PIECE_BYTES], [PIECE_BYTES, 2 * PIECE_BYTES])
    assert "on)" in preparation.told[0]


def test_whoever_waits_for_another_one_stops_when_all_is_over(node: NodeFolder, data: Path) -> None:
    driver = Driver(away(data))
    over = False

    async def test() -> None:
        nonlocal over
        preparation = NodePreparation(driver, node, lambda: over)
        async with preparation._lock(1):
            waiting = asyncio.create_task(preparation.side_input(1, elsewhere(data)))
            await asyncio.sleep(0.1)
            over = True
            with pytest.raises(Over):
                await waiting

    asyncio.run(test())


def test_nobody_waits_for_one_that_hangs(node: NodeFolder, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_preparation, "STUCK_SECONDS", 0.2)
    moved = away(data)

    async def test() -> str:
        async with NodePreparation(Driver(moved), node, lambda: False)._lock(1):
            return await NodePreparation(Driver(moved), node, lambda: False).side_input(1, elsewhere(data))

    place = asyncio.run(test())
    assert place == str(node.own / "parcel-1" / "model")
    assert (Path(place) / "weights").read_bytes() == (moved / "weights").read_bytes()


def test_a_disk_that_is_too_small_is_told_before_it_is_full(
    node: NodeFolder, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_preparation.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    driver = Driver(away(data))
    with pytest.raises(OSError, match=r"side input .*model: found 5 bytes free in .*4\.0 MB have to come.*TMPDIR"):
        run(NodePreparation(driver, node, lambda: False), elsewhere(data))
    assert driver.content == []


def test_a_link_leads_there_and_goes_with_the_node(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    first, second = NodeFolder("run", "node"), NodeFolder("run", "node")
    link = tmp_path / "place" / "model"
    moved = away(data)
    for folder in (first, second):
        place = run(NodePreparation(Driver(moved), folder, lambda: False), elsewhere(data, str(link)))
    assert os.readlink(link) == place
    first.close()
    assert (link / "weights").exists()
    second.close()
    assert not os.path.lexists(link)
    assert not list((tmp_path / "tmp").iterdir())


def test_what_somebody_else_has_put_there_stays(node: NodeFolder, tmp_path: Path, data: Path) -> None:
    (tmp_path / "place").write_text("x")
    with pytest.raises(OSError, match="something else lies there"):
        run(NodePreparation(Driver(data), node, lambda: False), elsewhere(data, str(tmp_path / "place")))
    node.link(str(tmp_path / "link"), str(data))
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    node.close()
    assert os.readlink(tmp_path / "link") == "other"


def test_a_link_of_a_supervisor_that_was_killed_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    program = f"""
import os, signal
from prs_dask.engine.spool import NodeFolder
NodeFolder("run", "node").link({str(tmp_path / "link")!r}, {str(tmp_path)!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, check=False)
    assert (tmp_path / "link").is_symlink()
    abandoned.sweep(tmp_path / "tmp")
    assert not os.path.lexists(tmp_path / "link")


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("/data/model", "/node/1/model"),
        ("/data/model/a/b", "/node/1/model/a/b"),
        ("/data/model/deep", "/node/2/deep"),
        ("/data/model2", "/data/model2"),
        ("--model=/data/model", "--model=/data/model"),
    ],
)
def test_paths_of_the_driver_are_those_of_the_node(text: str, here: str) -> None:
    assert on_node(text, [("/data/model/deep", "/node/2/deep"), ("/data/model", "/node/1/model")]) == here

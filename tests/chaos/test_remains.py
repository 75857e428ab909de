"""What is left behind is found, so that the oracle is told of it."""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from pathlib import Path

import pytest
from distributed import Client

from tests.chaos.plans import draw
from tests.chaos.remains import left_in_cluster
from tests.chaos.scene import Scene


@pytest.mark.parametrize("cluster", ["bare", "nannies"])
def test_what_is_left_in_a_cluster_that_goes_on_is_found(cluster: str, tmp_path: Path) -> None:
    def leave() -> None:
        socket.create_server(("127.0.0.1", 0)).detach()
        os.pipe()
        os.open("/dev/zero", os.O_RDONLY)
        os.pidfd_open(os.getpid())
        tempfile.mkdtemp(prefix="prs-")

    for name in ("tmp", "shm"):
        (tmp_path / name).mkdir()
    scene = Scene(dataclasses.replace(draw(1), cluster=cluster), tmp_path)
    try:
        scene.start_cluster()
        with Client(scheduler_file=str(tmp_path / "scheduler.json"), set_as_default=False) as client:
            client.wait_for_workers(scene.plan.lanes, timeout=60)
            assert left_in_cluster(scene, 10.0) == []
            client.run(leave)
            client.run_on_scheduler(leave)
        found = left_in_cluster(scene, 0.0)
        places = [scene.scheduler.pid, *scene.dask_workers()] if scene.scheduler else []
        assert len(places) == 3
        for pid in places:
            mine = [one for one in found if f" {pid}: " in one]
            kinds = ("ports", "descriptor of", "/dev/zero", "pidfd", "pipe:")
            assert not [kind for kind in kinds if not any(kind in one for one in mine)]
        assert sum(one.startswith("temporary folder") for one in found) == len(places)
    finally:
        scene.close_cluster()
        scene.kill_all()

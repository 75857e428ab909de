"""A worker that ends while the step run is taken off it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.engine import worker_plugin
from prs_dask.engine.spool import NodeFolder
from prs_dask.engine.supervisor import Supervisor
from prs_dask.engine.worker_plugin import RunWorkerPlugin


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_teardown_that_is_cancelled_comes_to_its_end(tmp_path, monkeypatch, has_begun):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    goes_on = threading.Event()

    async def ends() -> None:
        worker: Any = type("FakeWorker", (), {})()
        worker.loop = SimpleNamespace(asyncio_loop=asyncio.get_running_loop())
        supervisor = Supervisor(worker, "test")
        supervisor._node_folder = NodeFolder("test", "node")
        lane: Any = SimpleNamespace(stop=lambda **_: goes_on.wait(20), close=lambda: None)
        supervisor._lanes.append(lane)
        supervisor.settings = SimpleNamespace(limits=SimpleNamespace(shutdown_seconds=1.0))  # type: ignore[assignment]
        plugin = RunWorkerPlugin("test")
        plugin._begun = asyncio.create_task(asyncio.sleep(0 if has_begun else 20))
        await asyncio.sleep(0.01)
        worker_plugin._supervisors.setdefault(worker, {})["test"] = supervisor
        teardown = asyncio.create_task(plugin.teardown(worker))
        await asyncio.sleep(0.1)
        assert any(tmp_path.iterdir())
        teardown.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([teardown], timeout=0.2)
        asyncio.get_running_loop().call_later(0.1, goes_on.set)

    asyncio.run(ends())
    assert not any(tmp_path.iterdir())

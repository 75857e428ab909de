from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest

from prs_dask.clusters import open_cluster, reachable
from prs_dask.errors import ClusterError, SettingsError


class TestRunningClusters:
    def test_a_client_is_used_as_it_is_and_left_open(self, running: distributed.LocalCluster) -> None:
        with distributed.Client(running) as client:
            with open_cluster(client) as opened:
                assert opened.client is client
                assert not opened.owned
            assert client.status == "running"

    def test_without_a_target_the_current_client_is_taken(self, running: distributed.LocalCluster) -> None:
        with distributed.Client(running) as client, open_cluster(None) as opened:
            assert opened.client is client

    def test_a_cluster_is_left_running(self, running: distributed.LocalCluster) -> None:
        with open_cluster(running) as opened:
            assert not opened.owned
            assert opened.client.submit(sum, [1]).result(timeout=5) == 1
        assert running.status is distributed.Status.running

    def test_an_address_is_connected_to(self, running: distributed.LocalCluster) -> None:
        for address in (running.scheduler_address, running.scheduler_address.removeprefix("tcp://")):
            with open_cluster(address) as opened:
                assert opened.client.submit(sum, [1]).result(timeout=5) == 1

    def test_a_scheduler_file_is_read(self, running: distributed.LocalCluster, tmp_path: Path) -> None:
        path = tmp_path / "scheduler.json"
        path.write_text(json.dumps({"address": running.scheduler_address}))
        with open_cluster(path) as opened:
            assert opened.client.submit(sum, [1]).result(timeout=5) == 1

    def test_a_worker_is_no_scheduler(self, running: distributed.LocalCluster) -> None:
        (worker,) = running.scheduler.workers
        with pytest.raises(ClusterError, match=f"{worker} is a Dask Worker, no scheduler"):
            open_cluster(worker)

    def test_a_closed_client_is_refused(self, running: distributed.LocalCluster) -> None:
        client = distributed.Client(running)
        client.close()
        with pytest.raises(SettingsError, match="which is closed; allowed: None"):
            open_cluster(client)

    def test_a_closed_cluster_is_refused(self, running: distributed.LocalCluster) -> None:
        running.close()
        with pytest.raises(SettingsError, match="which is closed"):
            open_cluster(running)

    async def _asynchronous(self) -> None:
        async with (
            distributed.LocalCluster(
                n_workers=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0", asynchronous=True
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
        ):
            for target in (cluster, client):
                opened = await asyncio.to_thread(open_cluster, target)
                assert opened.client is not client
                assert not opened.client.asynchronous
                await asyncio.to_thread(opened.close)
            assert client.status == "running"

    def test_an_asynchronous_cluster_and_an_asynchronous_client_get_a_plain_client(self) -> None:
        asyncio.run(self._asynchronous())


class TestBadTargets:
    def test_nobody_at_an_address_is_told_in_time_and_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reachable, "CONNECT_SECONDS", 1)
        started = time.monotonic()
        with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 \(waited 1 s"):
            open_cluster("tcp://127.0.0.1:9")
        assert time.monotonic() - started < 5

    def test_something_else_at_an_address_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 8)

            thread = threading.Thread(target=answer)
            thread.start()
            address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(ClusterError, match=f"{address}"):
                open_cluster(address)
            thread.join()

    def test_tls_without_certificates_is_told(self) -> None:
        with pytest.raises(ClusterError, match="tls://127.0.0.1:9 wants TLS"):
            open_cluster("tls://127.0.0.1:9")

    @pytest.mark.parametrize("target", [3, [], object(), SimpleNamespace, distributed.LocalCluster])
    def test_what_is_no_target_is_refused(self, target: object) -> None:
        with pytest.raises(SettingsError, match='compute_target: found .*; allowed: None, "local"'):
            open_cluster(target)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "cannot be read as a scheduler file"),
            ("nonsense", "holds no JSON"),
            ("{}", "names no scheduler's address"),
        ],
    )
    def test_a_bad_scheduler_file_is_told(self, content: str | None, words: str, tmp_path: Path) -> None:
        path = tmp_path / "scheduler.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(SettingsError, match=words):
            open_cluster(str(path))

    def test_cuda_needs_dask_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dask_cuda", None)
        with pytest.raises(ClusterError, match=re.escape('pip install "prs-dask[cuda]"')):
            open_cluster("cuda")

    def test_what_dask_cuda_refuses_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Refuses:
            def __init__(self, **settings: object) -> None:
                raise ValueError("Invalid device index or UUID: 7")

        monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=Refuses))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7")
        words = "GPU 0, 7 could not be started: ValueError: Invalid device index or UUID: 7"
        with pytest.raises(ClusterError, match=re.escape(words)):
            open_cluster("cuda")

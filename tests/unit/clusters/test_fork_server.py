from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from multiprocessing import forkserver
from pathlib import Path

import pytest

from prs_dask.clusters import cool_down, fork_server, open_cluster, warm_up


def test_it_is_warm_before_it_is_needed_and_gone_when_nobody_needs_it() -> None:
    assert warm_up() is (sys.platform == "linux")
    assert warm_up() is (sys.platform == "linux")
    cool_down()
    cool_down()
    assert fork_server._process_id() is None


def test_it_stays_while_a_cluster_is_open() -> None:
    with open_cluster("local", 1):
        cool_down()
        assert fork_server._process_id() is not None
    assert fork_server._process_id() is None


def test_one_that_nobody_can_reach_any_more_is_replaced() -> None:
    warm_up()
    os.unlink(forkserver._forkserver._forkserver_address)  # as a cleaner of temporary folders does
    with open_cluster("local", 1) as cluster:
        assert cluster.client.submit(sum, [1, 2]).result() == 3
    assert fork_server._process_id() is None


def test_warming_up_imports_no_dask() -> None:
    code = (
        "import sys; from prs_dask.clusters import warm_up, cool_down; "
        "warm_up(); cool_down(); print('dask' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_it_runs_also_where_the_folder_of_temporary_files_is_too_deep_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    code = textwrap.dedent(
        """
        import os
        from prs_dask.clusters import cool_down, fork_server, warm_up
        print(warm_up())
        folder = fork_server._folder.path
        cool_down()
        print(len(folder) < 40, os.path.exists(folder))
        """
    )
    environment = {**os.environ, "TMPDIR": str(deep)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=environment)
    assert (ended.stdout, ended.stderr) == ("True\nTrue False\n", "")
    assert not list(deep.iterdir())


def test_without_any_place_for_its_socket_workers_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "_LONGEST_ADDRESS", 30)
    with fork_server.forking() as available:
        assert not available
    with open_cluster("local", 1) as cluster:
        assert cluster.client.submit(sum, [1, 2]).result() == 3

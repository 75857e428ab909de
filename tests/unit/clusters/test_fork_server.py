from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import forkserver

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
